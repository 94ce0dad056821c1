"""Rolling updates: region by region, one agent at a time, only while all is well."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gossipswarm_operator.builders import HOLD
from operator_world import World, ready_world, replaced

NEW = {"image": {"tag": "2.0.0"}}
NEW_IMAGE = "registry.example/gossipswarm-agent:2.0.0"


def images(world: World) -> dict[str, str]:
    return {name: agent.pod.image.rpartition(":")[2] for name, agent in world.agents.items()}


def order_of_update(world: World) -> list[str]:
    """Agents in the order in which they came to run the new image."""
    seen: list[str] = []

    def note() -> None:
        seen.extend(
            name for name, tag in images(world).items() if tag == "2.0.0" and name not in seen
        )

    world.settle(check=note)
    return seen


def partition(world: World, region: str) -> int:
    found = world.objects["StatefulSet", f"demo-{region}"]
    return found["spec"]["updateStrategy"]["rollingUpdate"]["partition"]


def condition(world: World, kind: str) -> tuple[str, str, str]:
    found = next(c for c in world.source["status"]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_regions_follow_one_another_in_the_order_of_the_spec():
    world = ready_world()
    world.change(**NEW)
    order = order_of_update(world)
    assert order == [f"demo-{r}-{n}" for r in ("us-east", "eu-west") for n in (2, 1, 0)]
    assert partition(world, "us-east") == partition(world, "eu-west") == HOLD


def test_all_regions_may_go_at_once():
    world = ready_world(update={"strategy": "AllRegions"})
    world.change(**NEW)
    order = order_of_update(world)
    assert {order[0], order[1]} == {"demo-us-east-2", "demo-eu-west-2"}


def test_with_on_delete_nothing_is_replaced_and_the_status_says_so():
    world = ready_world(update={"strategy": "OnDelete"})
    world.change(**NEW)
    for _ in range(4):
        world.reconcile()
    assert set(images(world).values()) == {"1.0.0"}
    assert condition(world, "Progressing")[:2] == ("False", "UpdatePending")


def test_a_new_template_alone_replaces_nobody():
    world = ready_world()
    world.change(**NEW)
    world.reconcile()
    assert set(images(world).values()) == {"1.0.0"}
    assert partition(world, "us-east") == HOLD


def test_an_update_stops_while_agents_do_not_hold_the_same():
    world = ready_world()
    world.change(**NEW)
    world.reconcile()
    world.unequal = True
    for _ in range(5):
        world.reconcile()
    assert set(images(world).values()) == {"1.0.0"}
    assert "hold the same" in condition(world, "Progressing")[2]
    world.unequal = False
    world.settle()
    assert set(images(world).values()) == {"2.0.0"}


def test_an_update_stops_during_a_partition():
    world = ready_world()
    world.change(**NEW)
    world.reconcile()
    world.reconcile()
    world.groups = [["us-east"], ["eu-west"]]
    for _ in range(5):
        world.reconcile()
    assert list(images(world).values()).count("2.0.0") == 1
    world.groups = None
    world.settle()


def test_an_image_that_does_not_start_takes_down_one_agent_and_says_which():
    world = ready_world(update={"timeout": "1m"})
    world.broken_images = {NEW_IMAGE}
    world.change(**NEW)
    for _ in range(30):
        world.reconcile()
    assert list(images(world).values()).count("2.0.0") == 1
    status, reason, message = condition(world, "Progressing")
    assert (status, reason) == ("False", "UpdateTimedOut")
    assert "demo-us-east-2" in message
    assert world.source["status"]["version"] == "1.0.0 -> 2.0.0"


def test_going_back_from_a_broken_image_needs_nobody():
    world = ready_world()
    world.broken_images = {NEW_IMAGE}
    world.change(**NEW)
    for _ in range(5):
        world.reconcile()
    world.change(image={})
    world.settle()
    assert set(images(world).values()) == {"1.0.0"}
    assert condition(world, "Ready")[0] == "True"


def test_agents_that_are_all_broken_are_replaced_at_once():
    world = ready_world()
    for agent in world.agents.values():
        agent.broken = True
        agent.pod = replaced(agent.pod, ready=False)
    world.change(**NEW)
    world.settle()
    assert set(images(world).values()) == {"2.0.0"}


def test_a_healthy_agent_stays_up_while_another_is_down():
    world = ready_world()
    agent = world.agents["demo-us-east-0"]
    agent.broken = True
    agent.pod = replaced(agent.pod, ready=False)
    world.change(**NEW)
    for _ in range(5):
        world.reconcile()
    assert set(images(world).values()) == {"1.0.0"}
    assert "2 of 3 agents ready" in condition(world, "Progressing")[2]


def test_min_ready_says_how_many_may_be_missing():
    world = ready_world(update={"minReady": 1})
    agent = world.agents["demo-us-east-0"]
    agent.broken = True
    agent.pod = replaced(agent.pod, ready=False)
    world.change(**NEW)
    world.settle()
    assert set(images(world).values()) == {"2.0.0"}


@pytest.mark.parametrize("size", [1, 2])
def test_a_region_of_few_agents_is_updated_too(size):
    world = ready_world(replicasPerRegion=size)
    world.change(**NEW)
    world.settle()
    assert set(images(world).values()) == {"2.0.0"}


def test_more_than_one_at_a_time_where_the_budget_allows_it():
    world = ready_world(replicasPerRegion=4, pdb={"maxUnavailable": 2})
    world.change(**NEW)
    world.reconcile()
    world.reconcile()
    assert partition(world, "us-east") == 2
    world.settle()


def test_scaling_up_during_an_update_goes_on():
    world = ready_world()
    world.change(**NEW)
    for _ in range(3):
        world.reconcile()
    world.change(replicasPerRegion=4)
    world.settle()
    assert set(images(world).values()) == {"2.0.0"}
    assert len(world.agents) == 8


def test_the_update_times_out_by_the_spec():
    world = ready_world(update={"timeout": "2m"})
    assert world.swarm.spec.update.timeout == "2m"
    world.broken_images = {NEW_IMAGE}
    world.change(**NEW)
    for _ in range(4):
        world.reconcile()
    assert condition(world, "Progressing")[1] == "Updating"
    world.now += timedelta(minutes=2)
    world.reconcile()
    assert condition(world, "Progressing")[1] == "UpdateTimedOut"

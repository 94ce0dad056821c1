"""What the reconcile of a swarm does while its regions are cut off from each other on purpose, and afterwards."""

from __future__ import annotations

from gossipswarm_operator.actions import LiftCut
from gossipswarm_operator.partition.severing import Cut, pair
from operator_world import World, ready_world

SEVERED = frozenset({pair("us-east", "eu-west")})
CUT = Cut(SEVERED, None, ("drill",), SEVERED)


def heard_by(world: World, region: str) -> list[str] | None:
    """Regions that a region's policy lets gossip in from; None = all of the swarm."""
    policy = world.objects["NetworkPolicy", f"demo-{region}"]
    selector = policy["spec"]["ingress"][1]["from"][0]["podSelector"]
    return selector["matchExpressions"][0]["values"] if "matchExpressions" in selector else None


def test_policies_of_regions_are_narrowed_while_a_cut_lives_and_widened_after():
    world = ready_world()
    world.cut = CUT
    world.reconcile()
    assert heard_by(world, "us-east") == ["us-east"]
    assert ("ConfigMap", "demo-cut") in world.objects
    world.cut = Cut()
    world.reconcile()
    assert heard_by(world, "us-east") is None
    assert ("ConfigMap", "demo-cut") not in world.objects


def test_a_cut_that_agents_make_leaves_the_policies_alone():
    world = ready_world()
    world.cut = Cut(SEVERED, None, ("drill",))
    world.reconcile()
    assert heard_by(world, "us-east") is None
    assert ("ConfigMap", "demo-cut") in world.objects


def test_nothing_of_a_cut_is_written_again_and_again():
    world = ready_world()
    world.cut = CUT
    world.reconcile()
    world.actions.clear()
    world.reconcile()
    assert world.actions == []


def test_an_agent_that_still_keeps_to_a_side_is_let_out_once_there_is_none():
    world = ready_world()
    world.cut = CUT
    for agent, who in zip(
        world.agents.values(), ("gossipswarm-operator", "configuration"), strict=False
    ):
        agent.cut_by = who
    world.reconcile()
    assert not any(isinstance(action, LiftCut) for action in world.actions)
    world.cut = Cut()
    world.reconcile()
    assert sum(isinstance(action, LiftCut) for action in world.actions) == 2
    assert not any(agent.cut_by for agent in world.agents.values())


def test_what_somebody_else_had_an_agent_drop_is_theirs():
    world = ready_world()
    next(iter(world.agents.values())).cut_by = "drill of Tuesday"
    assert world.plan().settled


def test_agents_are_not_replaced_while_a_cut_lives_though_they_hear_each_other_by_a_third():
    world = ready_world()
    world.cut = CUT
    world.change(image={"tag": "2.0.0"})
    for _ in range(10):
        made = world.reconcile()
    assert {agent.pod.image for agent in world.agents.values()} == {
        "registry.example/gossipswarm-agent:1.0.0"
    }
    assert any("partition is over" in wait.message for wait in made.waits)
    world.cut = Cut()
    world.settle()
    assert {agent.pod.image for agent in world.agents.values()} == {
        "registry.example/gossipswarm-agent:2.0.0"
    }


def test_a_key_rotation_waits_until_the_cut_is_over():
    world = ready_world()
    before = next(iter(world.agents.values())).keys
    world.cut = CUT
    world.change(encryption={"rotation": {"generation": 1}})
    for _ in range(5):
        made = world.reconcile()
    assert all(agent.keys[0] == before[0] for agent in world.agents.values())
    assert any(wait.reason == "KeyRotation" for wait in made.waits)

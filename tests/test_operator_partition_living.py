"""The life of cuts in a cluster in miniature: made, shown to hold, undone, whatever happens to the operator meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from partition_server import NAMESPACE
from partition_world import THREE, OperatorStopped, World, is_clean


async def test_a_cut_is_made_shown_noticed_and_undone_by_deletion():
    world = World(*THREE)
    world.partition("drill", ["us-east"], ["us-west", "eu-central"])
    await world.settle()
    assert world.condition("Applied") == "True/PoliciesApplied"
    assert world.condition("Enforced") == "True/Probed"
    assert world.condition("Detected") == "True/Noticed"
    assert world.condition("Healed") == "False/InForce"
    assert world.status()["groups"] == "us-east | us-west,eu-central"
    assert world.status()["mechanism"] == "NetworkPolicy"
    assert world.status()["remaining"] == "-"
    assert not world.heard("us-east", "us-west")
    assert not world.heard("us-east", "eu-central")
    assert world.heard("us-west", "eu-central")
    assert len(world.policies(of_cuts=True)) == 2

    world.delete("SwarmPartition", "drill")
    assert ("SwarmPartition", "drill") in world.objects, "it waits for the operator"
    await world.reconcile()
    assert ("SwarmPartition", "drill") not in world.objects
    assert is_clean(world)


async def test_flows_that_are_older_than_the_cut_are_given_up():
    world = World("us-east", "us-west")
    assert ("demo-us-east-0", "demo-us-west-1") in world.flows
    world.partition()
    await world.settle()
    assert not any(a[:9] != b[:9] for a, b in world.flows)


async def test_regions_that_are_in_no_group_are_one_more():
    world = World(*THREE, "ap-south")
    world.partition("drill", ["us-east"])
    await world.settle()
    assert world.status()["groups"] == "us-east | ap-south,eu-central,us-west"
    assert world.heard("us-west", "ap-south")
    assert not world.heard("us-east", "ap-south")


async def test_with_transit_they_hear_everybody():
    world = World(*THREE)
    world.partition("drill", ["us-east"], ["us-west"], transit="Enabled")
    await world.settle()
    assert world.condition("Enforced") == "True/Probed"
    assert not world.heard("us-east", "us-west")
    assert world.heard("us-east", "eu-central")
    assert world.heard("us-west", "eu-central")
    assert world.condition("Detected") == "True/Noticed"


async def test_three_groups_hear_nobody_but_themselves():
    world = World(*THREE)
    world.partition("drill", *[[region] for region in THREE])
    await world.settle()
    assert not any(world.heard(a, b) for a in THREE for b in THREE if a != b)
    assert len(world.policies(of_cuts=True)) == 3


async def test_cuts_that_overlap_add_up_and_each_ends_for_itself():
    world = World(*THREE)
    world.partition("one", ["us-east"], ["us-west"], transit="Enabled")
    world.partition("two", ["eu-central"])
    await world.settle()
    assert not any(world.heard(a, b) for a in THREE for b in THREE if a != b)
    assert {world.condition("Enforced", name) for name in ("one", "two")} == {"True/Probed"}

    world.delete("SwarmPartition", "two")
    await world.settle()
    assert not world.heard("us-east", "us-west")
    assert world.heard("us-east", "eu-central")
    assert world.heard("us-west", "eu-central")
    world.delete("SwarmPartition", "one")
    await world.settle()
    assert is_clean(world)


async def test_a_cut_with_a_duration_ends_by_itself():
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="30s")
    await world.settle(10)
    assert world.status()["remaining"] in ("20s", "25s")
    await world.settle(60)
    assert world.condition("Healed") == "True/Whole"
    assert world.condition("Applied") == "False/Expired"
    assert is_clean(world)
    held = world.objects["SwarmPartition", "drill"]
    assert not held["metadata"].get("finalizers")
    assert await world.reconcile() is None, "nothing is left to look at"


async def test_a_cut_that_ended_while_no_operator_ran_is_undone_at_the_first_look():
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="30s")
    await world.settle(10)
    world.restart_operator()
    world.now += timedelta(hours=1)
    await world.reconcile()
    assert world.status()["healedAt"]
    assert is_clean(world)


@pytest.mark.parametrize(("longer", "lives"), [("10m", True), ("2s", False)])
async def test_the_duration_may_change_while_it_lives(longer, lives):
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="1m")
    await world.settle(10)
    world.change(duration=longer)
    await world.settle(120)
    assert world.heard("us-east", "us-west") is not lives


async def test_new_agents_are_born_into_the_cut_and_it_is_lifted_with_it():
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="10m")
    await world.settle()
    world.enforces = False  # the network does not cover a new address at once
    born = world.start("us-east", 2)
    assert born.cut_by == "configuration"
    assert not any(
        world.talks(born, other) for other in world.agents.values() if other.region != "us-east"
    )
    world.enforces = True
    await world.settle()
    assert born.drops == {"us-west", "eu-central"}
    world.delete("SwarmPartition", "drill")
    await world.settle()
    assert is_clean(world)


async def test_repair_of_the_swarm_does_not_undo_a_cut():
    world = World(*THREE)
    world.partition("drill", ["us-east"])
    await world.settle()
    world.api.writes.clear()
    world.swarm_reconcile()
    await world.settle()
    assert not [write for write in world.api.writes if "NetworkPolicy" in write]
    assert not world.heard("us-east", "us-west")


async def test_somebody_who_deletes_or_widens_a_policy_is_overruled():
    world = World(*THREE)
    world.partition("drill", ["us-east"])
    await world.settle()
    policy = world.policies(of_cuts=True)[0]["metadata"]["name"]
    world.delete("NetworkPolicy", policy)
    widened = world.objects["NetworkPolicy", "demo-us-west"]
    widened["spec"]["ingress"] = [{}]
    world.version(widened)
    await world.reconcile()
    assert len(world.policies(of_cuts=True)) == 2
    assert not world.heard("us-east", "us-west")


async def test_nothing_is_written_while_a_cut_is_as_it_is_to_be():
    world = World(*THREE)
    world.partition("drill", ["us-east"])
    await world.settle(20)
    world.api.writes.clear()
    await world.settle(60)
    assert world.api.writes == []


# --- networks that do not ------------------------------------------------------------------------


async def test_where_the_network_enforces_nothing_agents_make_the_cut():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], duration="5m")
    await world.settle(8)
    assert world.condition("Enforced") == "False/Probing"
    assert world.heard("us-east", "us-west")
    await world.settle(15)
    assert world.condition("Enforced") == "True/AgentsDrop"
    assert ("Warning", "NotEnforced") in world.events
    assert world.condition("Detected") == "True/Noticed"
    assert world.status()["mechanism"] == "Agent"
    assert not world.heard("us-east", "us-west")
    assert world.heard("us-west", "eu-central")

    world.agents["demo-us-east-0"].restart()
    await world.settle(6)
    assert world.agents["demo-us-east-0"].drops == {"us-west", "eu-central"}
    world.delete("SwarmPartition", "drill")
    await world.reconcile()
    assert is_clean(world)


async def test_agents_make_the_cut_from_the_start_where_they_are_to():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], mechanism="Agent")
    await world.settle(5)
    assert world.condition("Enforced") == "True/AgentsDrop"
    assert world.policies(of_cuts=True) == []


async def test_drop_lists_end_by_themselves_where_no_operator_runs():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], mechanism="Agent", duration="1m")
    await world.settle(5)
    world.now += timedelta(minutes=1)
    assert world.heard("us-east", "us-west")


async def test_fail_undoes_it_and_gives_up():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], onUnenforced="Fail")
    await world.settle(60)
    assert world.condition("Applied") == "False/NotEnforced"
    assert world.condition("Enforced") == "False/NotEnforced"
    assert "reaches" in world.message("Enforced")
    assert world.condition("Healed") == "True/Whole"
    assert is_clean(world)


async def test_warn_says_so_and_goes_on():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], onUnenforced="Warn")
    await world.settle(40)
    assert world.condition("Applied") == "True/PoliciesApplied"
    assert world.condition("Enforced") == "False/NotEnforced"
    assert world.condition("Detected") == "False/NotNoticed"
    assert ("Warning", "NotEnforced") in world.events
    world.talk()
    world.enforces = True
    await world.settle(30)
    assert world.condition("Enforced") == "True/Probed", "flows of before were given up"


OPEN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "allow-all", "namespace": NAMESPACE, "labels": {}},
    "spec": {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [{}],
    },
}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_policy_that_opens_the_ports_again_is_named(when):
    world = World(*THREE)
    if when == "before":
        world.put(OPEN)
    world.partition("drill", ["us-east"])
    await world.settle(20)
    if when == "after":
        assert world.condition("Enforced") == "True/Probed"
        world.put(OPEN)
        await world.settle(10)
    assert world.condition("Enforced") == "False/OverriddenByPolicy"
    assert "allow-all" in world.message("Enforced")
    assert ("Warning", "OverriddenByPolicy") in world.events
    world.delete("NetworkPolicy", "allow-all")
    await world.settle(30)
    assert world.condition("Enforced") == "True/Probed"


# --- an operator that stops anywhere --------------------------------------------------------------


async def lived_through(enforces: bool, stop_after: int | None) -> World:
    """Two cuts that overlap are made and undone, and the operator stops once, after so many actions."""
    world = World(*THREE, enforces=enforces, per_region=1)
    world.stop_after = stop_after

    async def settle(seconds: float) -> None:
        try:
            await world.settle(seconds)
        except OperatorStopped:
            world.restart_operator()
            world.swarm_reconcile()
            await world.settle(seconds)

    world.partition("one", ["us-east"], duration="150s")
    world.partition("two", ["us-west"], onUnenforced="Fail")
    await settle(40)
    assert world.condition("Enforced", "one").startswith("True/")
    # Once agents drop for one of them they drop for both, so the other may hold as well.
    given_up = world.condition("Applied", "two") == "False/NotEnforced"
    assert not (given_up and enforces)
    assert given_up or world.condition("Enforced", "two").startswith("True/")
    assert not world.heard("us-east", "us-west")
    assert world.heard("us-west", "eu-central") is given_up
    world.delete("SwarmPartition", "two")
    await settle(20)
    assert ("SwarmPartition", "two") not in world.objects
    assert not world.heard("us-east", "us-west")
    assert world.heard("us-west", "eu-central")
    await settle(150)
    assert world.condition("Healed", "one") == "True/Whole"
    assert is_clean(world)
    return world


@pytest.mark.parametrize("enforces", [True, False])
async def test_an_operator_that_is_killed_after_any_action_leaves_nothing_undone(enforces):
    whole = await lived_through(enforces, None)
    assert len(whole.actions) > 25
    for count in range(1, len(whole.actions) + 1):
        await lived_through(enforces, count)

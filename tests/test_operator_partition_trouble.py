"""Cuts that cannot be made, or not undone as they ought to be: the reason is told, and nothing is stuck."""

from __future__ import annotations

from typing import Any

import pytest

from gossipswarm_operator import model
from gossipswarm_operator.builders.cuts import cut_config_map
from gossipswarm_operator.client import PARTITIONS, Resource
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.partition.severing import Cut
from operator_world import swarm_source
from partition_world import THREE, World, is_clean

# --- what cannot be cut --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "reason", "said"),
    [
        ([["us-eats"]], "UnknownRegion", "did you mean us-east?"),
        ([["us-east", "us-west", "eu-central"]], "NothingToCut", "one side"),
    ],
)
async def test_groups_that_make_no_sense_are_refused(groups, reason, said):
    world = World(*THREE)
    world.partition("drill", *groups)
    await world.settle()
    assert world.condition("Applied") == f"False/{reason}"
    assert said in world.message("Applied")
    assert not world.objects["SwarmPartition", "drill"]["metadata"].get("finalizers")
    assert is_clean(world)


async def test_pods_on_the_network_of_their_node_are_refused_unless_agents_make_the_cut():
    world = World(*THREE)
    world.objects["Pod", "demo-us-east-1"]["spec"]["hostNetwork"] = True
    world.partition("drill", ["us-east"])
    await world.settle()
    assert world.condition("Applied") == "False/HostNetwork"
    assert "demo-us-east-1" in world.message("Applied")
    world.delete("SwarmPartition", "drill")
    world.partition("other", ["us-east"], mechanism="Agent")
    await world.settle()
    assert world.condition("Enforced", "other") == "True/AgentsDrop"


async def test_a_cut_waits_for_its_swarm_and_ends_with_it():
    world = World(*THREE)
    swarm = world.objects.pop(("GossipSwarm", "demo"))
    world.partition("drill", ["us-east"])
    await world.settle()
    assert world.condition("Applied") == "False/SwarmNotFound"
    world.put(swarm)
    await world.settle(30)
    assert world.condition("Enforced") == "True/Probed"
    del world.objects["GossipSwarm", "demo"]
    await world.settle()
    assert world.policies(of_cuts=True) == []
    assert world.condition("Applied") == "False/SwarmNotFound"
    world.delete("SwarmPartition", "drill")
    assert ("SwarmPartition", "drill") not in world.objects


def stale_cut() -> dict[str, Any]:
    """What an operator left that was killed at the wrong moment."""
    swarm = model.parse(swarm_source(regions=[{"name": region} for region in THREE]))
    severed = frozenset({("us-east", "us-west")})
    return cut_config_map(swarm, Cut(severed, None, ("gone",), severed))


async def test_a_spec_of_no_use_is_told_and_never_stuck():
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="soon")
    world.objects["SwarmPartition", "drill"]["metadata"]["finalizers"] = [
        "gossipswarm.io/partition"
    ]
    await world.settle(5)
    assert world.condition("Applied") == "False/InvalidSpec"
    assert "spec.duration" in world.message("Applied")
    world.put(stale_cut())
    await world.settle(5)
    assert ("ConfigMap", "demo-cut") not in world.objects
    world.delete("SwarmPartition", "drill")
    await world.settle(5)
    assert ("SwarmPartition", "drill") not in world.objects


async def test_what_somebody_else_holds_at_the_same_moment_stays_held(monkeypatch):
    world = World(*THREE)
    world.partition("drill", ["us-east"], duration="soon")
    held = world.objects["SwarmPartition", "drill"]
    held["metadata"]["finalizers"] = ["gossipswarm.io/partition"]
    world.delete("SwarmPartition", "drill")
    listing = world.api.list_all

    async def then_somebody_holds_it(resource: Resource, *where: str, **more: Any) -> list[Any]:
        found = await listing(resource, *where, **more)
        if resource is PARTITIONS and "example.com/audit" not in held["metadata"]["finalizers"]:
            held["metadata"]["finalizers"].append("example.com/audit")
            world.version(held)
        return found

    monkeypatch.setattr(world.api, "list_all", then_somebody_holds_it)
    with pytest.raises(ApiError) as refused:
        await world.reconcile()
    assert refused.value.status == 409
    await world.reconcile()
    assert held["metadata"]["finalizers"] == ["example.com/audit"]


# --- never stuck ---------------------------------------------------------------------------------


async def test_agents_that_do_not_answer_do_not_hold_a_deletion_up():
    world = World(*THREE, enforces=False)
    world.partition("drill", ["us-east"], mechanism="Agent", duration="1h")
    await world.settle()
    for agent in world.agents.values():
        agent.silent = True
    world.delete("SwarmPartition", "drill")
    await world.reconcile()
    assert ("SwarmPartition", "drill") not in world.objects


async def test_a_refused_deletion_of_policies_holds_it_up_for_a_minute_at_most():
    world = World(*THREE)
    world.partition("drill", ["us-east"])
    await world.settle()
    world.api.refused["delete", "NetworkPolicy"] = ApiError(403, "Forbidden", "not allowed")
    world.delete("SwarmPartition", "drill")
    await world.settle(30)
    assert world.condition("Healed") == "False/Healing"
    assert "not allowed" in world.message("Healed")
    await world.settle(60)
    assert ("SwarmPartition", "drill") not in world.objects
    assert world.policies(of_cuts=True) == [], "the garbage collector takes what it owned"


async def test_policies_that_may_not_be_made_are_told_of():
    world = World(*THREE)
    world.api.refused["apply", "NetworkPolicy"] = ApiError(403, "Forbidden", "not allowed")
    world.partition("drill", ["us-east"])
    await world.settle()
    assert world.condition("Applied") == "False/Forbidden"
    world.api.refused.clear()
    await world.settle(30)
    assert world.condition("Enforced") == "True/Probed"


async def test_a_policy_that_may_not_be_made_is_the_matter_of_its_own_cut():
    world = World(*THREE)
    world.partition("one", ["us-east"])
    await world.settle()
    world.api.refused["apply", "demo.two.eu-central"] = ApiError(403, "Forbidden", "not allowed")
    world.partition("two", ["eu-central"])
    await world.settle()
    assert world.condition("Applied", "two") == "False/Forbidden"
    assert world.condition("Applied", "one") == "True/PoliciesApplied"
    assert world.condition("Enforced", "one") == "True/Probed"
    world.delete("SwarmPartition", "one")
    await world.reconcile()
    assert ("SwarmPartition", "one") not in world.objects

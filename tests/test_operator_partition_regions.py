"""Regions that come, go and change their size while a cut lives, and swarms that can be cut no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gossipswarm_operator.partition.actions import Probe
from partition_world import NAMESPACE, World

LABEL = "gossipswarm.io/partition"


def named(*regions: str) -> list[dict[str, str]]:
    return [{"name": region} for region in regions]


def narrowed(world: World) -> set[str]:
    """Regions whose policy is narrowed."""
    return {
        policy["metadata"]["labels"]["gossipswarm.io/region"]
        for policy in world.policies()
        if "gossipswarm.io/region" in policy["metadata"]["labels"]
        and LABEL in policy["metadata"]["labels"]
    }


async def test_a_region_that_is_added_is_cut_off_like_others_that_are_not_named():
    world = World("us-east", "us-west")
    world.partition("drill", ["us-east"])
    await world.settle()
    world.change_swarm(regions=named("us-east", "us-west", "eu-central"))
    world.swarm_reconcile()
    agent = world.start("eu-central", 0)
    assert agent.drops == {"us-east"}, "before any look of the operator"
    assert narrowed(world) == {"us-east", "us-west", "eu-central"}
    await world.settle()
    assert world.status()["groups"] == "us-east | eu-central,us-west"
    assert world.condition("Enforced") == "True/Probed"
    assert world.heard("eu-central", "us-west")
    assert not world.heard("eu-central", "us-east")
    assert {policy["metadata"]["name"] for policy in world.policies(of_cuts=True)} == {
        "demo.drill.us-east",
        "demo.drill.eu-central",
    }


async def test_a_region_that_is_gone_is_in_no_group_and_leaves_no_policy():
    world = World("us-east", "us-west", "eu-central")
    world.partition("drill", ["us-east"], ["us-west"], ["eu-central"])
    await world.settle()
    world.change_swarm(regions=named("us-east", "us-west"))
    world.swarm_reconcile()
    await world.settle()
    assert world.status()["groups"] == "us-east | us-west | eu-central", "it has agents"
    for agent in [each for each in world.agents.values() if each.region == "eu-central"]:
        world.stop(agent)
    world.delete("NetworkPolicy", "demo-eu-central")  # as the swarm's reconcile does then
    await world.settle()
    assert world.status()["groups"] == "us-east | us-west"
    assert {policy["metadata"]["name"] for policy in world.policies()} == {
        *("demo-us-east", "demo-us-west"),
        *("demo.drill.us-east", "demo.drill.us-west"),
    }
    assert world.condition("Enforced") == "True/Probed"


async def test_a_region_on_its_way_out_hears_everybody_again_once_the_cut_is_over():
    world = World("us-east", "us-west")
    world.partition("drill", ["us-east"])
    await world.settle()
    world.change_swarm(regions=named("us-west"))
    world.swarm_reconcile()
    await world.settle()
    assert narrowed(world) == {"us-east", "us-west"}
    world.delete("SwarmPartition", "drill")
    await world.reconcile()
    world.swarm_reconcile()
    assert narrowed(world) == set()
    assert world.heard("us-west", "us-east"), "or it could never hand over what it holds"


async def test_a_region_that_shrinks_to_nothing_and_grows_again_is_still_cut_off():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    for ordinal in (1, 0):
        world.stop(world.agents[f"demo-us-east-{ordinal}"])
    await world.settle(30)
    assert world.status()["groups"] == "us-east | us-west"
    assert world.condition("Applied") == "True/PoliciesApplied"
    assert world.start("us-east", 0).drops == {"us-west"}
    await world.settle(30)
    assert not world.heard("us-east", "us-west")
    assert world.condition("Enforced") == "True/Probed"
    world.delete("SwarmPartition", "drill")
    await world.settle()
    assert world.heard("us-east", "us-west")


async def test_a_cut_of_which_one_side_is_gone_says_that_nothing_is_cut():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    for agent in [each for each in world.agents.values() if each.region == "us-east"]:
        world.stop(agent)
    world.change_swarm(regions=named("us-west"))
    world.delete("NetworkPolicy", "demo-us-east")
    world.swarm_reconcile()
    await world.settle()
    assert world.condition("Applied") == "False/NothingToCut"
    assert world.condition("Enforced") == "False/NotApplied"
    await world.settle(60)
    assert await world.reconcile() == 5.0
    assert world.policies(of_cuts=True) == []
    assert narrowed(world) == set()

    world.change_swarm(regions=named("us-west", "us-east"))
    world.swarm_reconcile()
    world.start("us-east", 0)
    await world.reconcile()
    assert world.condition("Enforced") == "False/Probing", "nobody has tried this yet"
    await world.settle()
    assert world.condition("Enforced") == "True/Probed", "it lives on"


async def test_a_cut_that_nobody_is_there_to_try_says_so_and_is_looked_at_in_leisure():
    world = World("us-east", "us-west", per_region=0)
    world.partition()
    await world.settle(12)
    assert world.condition("Enforced") == "Unknown/NotProbed"
    assert "no agents on both sides" in world.message("Enforced")
    await world.settle(40)
    assert await world.reconcile() == 5.0


async def test_a_cut_that_another_policy_opens_is_not_tried_and_looked_at_in_leisure():
    world = World("us-east", "us-west")
    world.put(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "open", "namespace": NAMESPACE, "labels": {}},
            "spec": {
                "podSelector": {},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{}],
                "egress": [{}],
            },
        }
    )
    world.partition("drill", ["us-east"])
    await world.settle(40)
    assert world.condition("Enforced") == "False/OverriddenByPolicy"
    world.actions.clear()
    assert await world.reconcile() == 5.0
    assert not any(isinstance(action, Probe) for action in world.actions)


async def test_a_cut_that_another_policy_opens_does_not_keep_old_flows_of_the_others_alive():
    world = World("us-east", "us-west", "eu-central", enforces=False)
    western = {
        "key": "gossipswarm.io/region",
        "operator": "In",
        "values": ["us-west", "eu-central"],
    }
    peers = [{"podSelector": {"matchExpressions": [western]}}]
    world.put(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "west", "namespace": NAMESPACE, "labels": {}},
            "spec": {
                "podSelector": peers[0]["podSelector"],
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers}],
                "egress": [{"to": peers}],
            },
        }
    )
    world.partition("west", ["us-west"], ["eu-central"], transit="Enabled", onUnenforced="Warn")
    world.partition("east", ["us-east"])
    await world.settle(2)
    world.enforces = True  # it took the network so long, and flows were opened meanwhile
    await world.settle(20)
    assert world.condition("Enforced", "west") == "False/OverriddenByPolicy"
    assert world.condition("Enforced", "east") == "True/Probed"
    assert not world.heard("us-east", "us-west")


async def test_a_cut_that_nobody_is_there_to_try_does_not_either():
    world = World("us-east", "us-west", "eu-central", enforces=False)
    for agent in [each for each in world.agents.values() if each.region == "eu-central"]:
        world.stop(agent)
    world.partition("central", ["eu-central"], ["us-west"], transit="Enabled")
    world.partition("east", ["us-east"])
    await world.settle(2)
    world.enforces = True
    await world.settle(20)
    assert world.condition("Enforced", "central") == "Unknown/NotProbed"
    assert world.condition("Enforced", "east") == "True/Probed"


async def test_a_mistake_elsewhere_in_the_spec_of_its_swarm_neither_ends_a_cut_nor_keeps_it():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    world.change_swarm(update={"timeout": "soon"})
    await world.settle()
    assert world.condition("Healed") == "False/InForce"
    assert world.condition("Enforced") == "True/Probed"
    assert not world.heard("us-east", "us-west")
    world.delete("SwarmPartition", "drill")
    await world.settle()
    assert ("SwarmPartition", "drill") not in world.objects
    assert world.heard("us-east", "us-west")
    assert narrowed(world) == set()


async def test_policies_of_a_cut_whose_spec_cannot_be_read_any_more_are_taken_away():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    world.change(duration="soon")
    await world.settle()
    assert world.condition("Applied") == "False/InvalidSpec"
    assert world.policies(of_cuts=True) == []
    assert world.heard("us-east", "us-west")


async def test_a_policy_of_somebody_else_where_one_of_a_new_side_belongs_is_left_alone():
    world = World("us-east", "us-west")
    world.partition("drill", ["us-east"], ["us-west"])
    await world.settle()
    stranger: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "demo.drill.eu-central", "namespace": NAMESPACE, "labels": {}},
        "spec": {"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Ingress"]},
    }
    world.put(stranger)
    world.change_swarm(regions=named("us-east", "us-west", "eu-central"))
    world.swarm_reconcile()
    world.start("eu-central", 0)
    await world.settle()
    held = world.objects["NetworkPolicy", "demo.drill.eu-central"]
    assert held["spec"] == stranger["spec"]
    assert world.condition("Applied") == "False/NameTaken"
    assert not world.heard("us-east", "us-west")
    world.delete("NetworkPolicy", "demo.drill.eu-central")
    await world.settle()
    assert world.condition("Enforced") == "True/Probed"


async def test_it_is_not_whole_before_an_agent_says_so():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    for agent in world.agents.values():
        agent.silent = True
    world.change(duration="1s")
    await world.settle(5)
    assert world.condition("Healed") == "False/Merging"
    for agent in world.agents.values():
        agent.silent = False
    await world.settle(5)
    assert world.condition("Healed") == "True/Whole"


async def test_what_passes_after_the_end_of_a_cut_is_no_sign_that_it_did_not_hold():
    world = World("us-east", "us-west", enforces=False)
    world.partition("drill", ["us-east"], mechanism="Agent", duration="1m")
    await world.settle(5)
    assert world.condition("Enforced") == "True/AgentsDrop"
    world.probe_seconds = 70.0
    seen = set()
    while world.condition("Applied") != "False/Expired":
        await world.reconcile()
        seen.add(world.condition("Enforced"))
    assert seen == {"True/AgentsDrop", "False/Expired"}


@pytest.mark.parametrize("policy", ["Fallback", "Fail"])
async def test_an_operator_that_was_held_up_tries_again_before_it_judges(policy):
    world = World("us-east", "us-west", enforces=False)
    world.partition("drill", ["us-east"], onUnenforced=policy)
    await world.settle(2)
    assert world.condition("Enforced") == "False/Probing"
    # The network takes a moment to apply policies, and the operator another to look again.
    world.enforces = True
    world.now += timedelta(seconds=20)
    await world.settle(10)
    assert world.condition("Enforced") == "True/Probed"
    assert world.status()["mechanism"] == "NetworkPolicy"


async def test_another_operator_takes_a_cut_for_enforced_until_it_has_seen_otherwise():
    world = World("us-east", "us-west")
    world.partition("drill", ["us-east"], onUnenforced="Warn")
    await world.settle()
    world.restart_operator()
    await world.reconcile()
    assert world.condition("Enforced") == "True/Probed"
    world.enforces = False
    world.talk()
    world.restart_operator()
    await world.reconcile()
    assert world.condition("Enforced") == "False/Probing"

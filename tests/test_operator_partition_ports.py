"""Cuts on a network that takes a range of ports for its first one, as some that are older than ``endPort`` do."""

from __future__ import annotations

from gossipswarm_operator.builders.ports import listed
from partition_world import World

LISTED = listed(["53/UDP", "53/TCP", "443/TCP"])


async def test_a_cut_holds_and_what_is_listed_stays_open():
    world = World("us-east", "us-west", ports=LISTED, ranges=False)
    east, west = (world.agents[f"demo-{region}-0"] for region in ("us-east", "us-west"))
    assert world.heard("us-east", "us-west")
    world.partition()
    await world.settle()
    assert world.condition("Enforced") == "True/Probed"
    for protocol, port in (("TCP", 7601), ("UDP", 53), ("TCP", 53), ("TCP", 443)):
        assert world.reaches(east, west, protocol, port)
    world.delete("SwarmPartition", "drill")
    await world.settle()
    assert world.heard("us-east", "us-west")


async def test_ranges_would_close_name_servers_there_which_is_why_there_is_a_choice():
    world = World("us-east", "us-west", ranges=False)
    world.partition()
    await world.settle()
    east, west = (world.agents[f"demo-{region}-0"] for region in ("us-east", "us-west"))
    assert not world.reaches(east, west, "UDP", 53)


async def test_an_operator_that_is_told_otherwise_rewrites_the_policies_of_a_cut_that_lives():
    world = World("us-east", "us-west")
    world.partition()
    await world.settle()
    world.ports, world.ranges = LISTED, False
    world.restart_operator()
    while await world.reconcile() and world.condition("Enforced") != "True/Probed":
        assert not world.heard("us-east", "us-west")
    assert not any("endPort" in str(policy["spec"]) for policy in world.policies())
    assert not world.heard("us-east", "us-west")

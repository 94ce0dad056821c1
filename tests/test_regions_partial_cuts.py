"""Cuts between regions that do not come all at once: some agents are heard for longer than others, or die of it first."""

from __future__ import annotations

import pytest

from gossipswarm_agent.core.settings import DEFAULTS, merge
from membership_world import World

REGIONS = ("us-east", "us-west", "eu-central")
CUTS = {("eu-central", "us-east"), ("eu-central", "us-west"), ("us-east", "us-west")}


def swarm(seed: int, size: int = 2) -> World:
    world = World(seed)
    world.populate(dict.fromkeys(REGIONS, size))
    world.run(1.0 + world.rng.random())
    return world


def cuts_seen(world: World) -> bool:
    """Every agent knows the cuts of its own region."""
    return all(
        {cut for cut in CUTS if agent.ctx.region in cut} <= agent.regions.cuts()
        for agent in world.running()
    )


def whole(world: World) -> bool:
    others = len(world.running()) - 1
    return all(
        len(agent.membership.live()) == others and not agent.regions.cuts()
        for agent in world.running()
    )


@pytest.mark.parametrize("heard", range(3))
@pytest.mark.parametrize("size", [2, 3])
def test_a_region_that_hears_nobody_is_cut_off_whichever_of_its_agents_is_still_heard(size, heard):
    world = swarm(1, size)
    world.blocked = {(region, "us-west") for region in REGIONS if region != "us-west"}
    world.blocked |= {
        (f"us-west-{number}", region)
        for number in range(size)
        for region in REGIONS
        if number != heard % size and region != "us-west"
    }

    world.run_until(
        lambda: all(not agent.regions.linked("us-west", "us-east") for agent in world.running()),
        0.6,
    )
    world.run(5.0)
    assert world.deaths() == []
    world.cut(*([region] for region in REGIONS))
    world.run_until(lambda: cuts_seen(world), 0.6)
    world.heal()
    world.run_until(lambda: whole(world), 0.5)


def test_a_region_that_is_held_for_dead_is_found_to_be_cut_off():
    world = swarm(2)
    for agent in world.running():
        agent.ctx.settings = merge(DEFAULTS, {"partition_detection": False})
    world.cut(*([region] for region in REGIONS))
    world.run_until(
        lambda: all(len(a.membership.regions()) == 1 for a in world.running()), limit=5.0
    )
    for agent in world.running():
        agent.ctx.settings = DEFAULTS

    world.run_until(lambda: cuts_seen(world), 2.0)
    world.run(20.0)
    assert cuts_seen(world)
    world.heal()
    world.run_until(lambda: whole(world), 5.0)

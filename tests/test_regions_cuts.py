"""Cuts between regions: found in time on each side, never where there is none, healed at once. 150 agents."""

from __future__ import annotations

import pytest

from gossipswarm_agent.core.messages import Digest
from gossipswarm_agent.core.settings import DEFAULTS, merge
from membership_world import Agent, World

SIZES = {"us-east": 50, "us-west": 50, "eu-central": 50}
EAST, OTHERS = ["us-east"], ["us-west", "eu-central"]
GROUPS = (("eu-central", "us-west"), ("us-east",))
DETECTED_WITHIN = 0.5
HEALED_WITHIN = 0.2


def swarm(seed: int, sizes=SIZES, settings=None) -> World:
    world = World(seed, settings)
    world.populate(sizes)
    world.run(1.0 + world.rng.random())
    return world


def grouped(world: World, groups=GROUPS):
    return lambda: all(agent.regions.groups() == groups for agent in world.running())


def whole(world: World):
    return lambda: all(not agent.regions.cuts() for agent in world.running())


def relays(world: World, region: str) -> list[Agent]:
    return [world.agents[m.name] for m in world.running()[0].regions.relays(region)]


def of_region(world: World, region: str) -> list[Agent]:
    return [agent for agent in world.running() if agent.ctx.region == region]


# --- found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_is_known_to_all_on_each_side_within_500_ms_and_healed_within_200(seed):
    world = swarm(seed)
    for _ in range(2):
        world.cut(EAST, OTHERS)
        world.run_until(grouped(world), DETECTED_WITHIN)
        world.run(2.0 + world.rng.random())
        world.heal()
        world.run_until(whole(world), HEALED_WITHIN)
        world.run(1.0 + world.rng.random())
    assert world.deaths() == []
    assert world.counted("suspicions") == 0


def test_what_a_cut_is_told_as():
    world = swarm(5)
    world.cut(EAST, OTHERS)
    world.run(3.0)
    world.heal()
    world.run(1.0)

    for agent in world.running():
        cuts = [(d["a"], d["b"]) for _, d in agent.events("region-cut")]
        assert sorted(cuts) == [("eu-central", "us-east"), ("us-east", "us-west")]
        (detected,) = agent.events("partition-detected")
        assert detected[1]["groups"] == [list(group) for group in GROUPS]
        assert 280 <= detected[1]["detection_ms"] <= 500
        (healed,) = agent.events("partition-healed")
        assert 2500 <= healed[1]["duration_ms"] <= 3000
        assert len(agent.events("region-healed")) == 2
        reconnected = agent.regions.take_reconnected()
        assert sorted(reconnected) == (
            sorted(OTHERS) if agent.ctx.region == "us-east" else ["us-east"]
        )
        assert agent.regions.take_reconnected() == []


def test_members_beyond_a_cut_are_unreachable_for_as_long_as_it_lasts_and_never_dead():
    world = swarm(6)
    world.cut(EAST, OTHERS)
    world.run(30.0)

    assert world.deaths() == []
    east = of_region(world, "us-east")[0]
    assert east.membership.counts()["us-west", "unreachable"] == 50
    assert not east.regions.reachable("us-west")
    world.heal()
    world.run_until(whole(world), HEALED_WITHIN)
    assert east.membership.counts()["us-west", "alive"] == 50


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_cut_is_found_in_time_although_a_relay_died_with_it(dead):
    world = swarm(7)
    world.crash(relays(world, "us-east")[dead].name)
    world.cut(EAST, OTHERS)

    world.run_until(grouped(world), DETECTED_WITHIN)


def test_a_cut_into_three_is_found_in_time():
    world = swarm(8)
    world.cut(["us-east"], ["us-west"], ["eu-central"])

    # What the others cannot reach among themselves nobody can know.
    world.run_until(
        lambda: all((agent.ctx.region,) in agent.regions.groups() for agent in world.running()),
        DETECTED_WITHIN,
    )


def test_a_cut_is_found_at_30_percent_loss():
    world = swarm(9)
    world.loss = 0.3
    world.run(1.0)
    world.cut(EAST, OTHERS)

    # Those that the flood missed hear its repetition.
    world.run_until(
        lambda: all(not a.regions.reachable("us-west") for a in relays(world, "us-east")), 0.6
    )
    world.run_until(grouped(world), 8.0)
    world.heal()
    world.run_until(whole(world), 6.0)


def test_where_only_a_pair_is_cut_the_third_region_connects_them():
    world = swarm(10)
    world.cut(["us-east"], ["us-west"])
    world.run_until(
        lambda: all(a.regions.cuts() == {("us-east", "us-west")} for a in world.running()),
        DETECTED_WITHIN,
    )
    world.run(1.0)

    for agent in world.running():
        assert agent.regions.groups() == (("eu-central", "us-east", "us-west"),)
        assert agent.regions.reachable("us-west")
        assert agent.events("partition-detected") == []
    east, between = of_region(world, "us-east")[0], of_region(world, "eu-central")[0]
    assert east.regions.next_regions("us-east") == ("eu-central",)
    assert between.regions.next_regions("us-east") == ("us-west",)


def test_a_one_way_cut_takes_the_link_down_on_both_sides():
    world = swarm(11)
    world.blocked.add(("us-east", "us-west"))

    world.run_until(
        lambda: all(a.regions.cuts() == {("us-east", "us-west")} for a in world.running()),
        DETECTED_WITHIN,
    )
    world.run(10.0)
    # It stays so, without a word from the side that hears.
    assert all(a.regions.cuts() == {("us-east", "us-west")} for a in world.running())
    assert len(world.running()[0].events("region-cut")) == 1
    world.heal()
    world.run_until(whole(world), HEALED_WITHIN)


# --- healed ---------------------------------------------------------------------------------------


def test_regions_whose_relays_were_all_replaced_behind_a_cut_meet_within_1_s():
    world = swarm(12)
    world.cut(EAST, OTHERS)
    world.run(1.0)
    for region in SIZES:
        world.crash(*(relay.name for relay in relays(world, region)))
    world.run(6.0)
    world.heal()

    world.run_until(whole(world), 1.0)


def test_who_missed_the_last_word_of_a_cut_does_not_believe_in_it_for_ever():
    world = swarm(13)
    deaf = of_region(world, "us-east")[10]
    assert not deaf.regions.is_relay
    world.cut(EAST, OTHERS)
    world.run_until(grouped(world), DETECTED_WITHIN)
    world.heal()
    world.blocked.update((agent.name, deaf.name) for agent in world.running())
    world.run(0.3)
    world.heal()
    assert deaf.regions.cuts()

    world.run_until(whole(world), 6.0)


# --- none -----------------------------------------------------------------------------------------


def no_cut(world: World) -> bool:
    return world.counted("link_states") == 0 and all(
        agent.events("region-cut") == [] for agent in world.agents.values()
    )


@pytest.mark.parametrize("seed", range(2))
def test_30_percent_loss_is_no_cut(seed):
    world = swarm(seed)
    world.loss = 0.3
    world.run(20.0)
    assert no_cut(world)


def test_30_percent_loss_and_a_dead_relay_are_no_cut():
    world = swarm(14)
    world.loss = 0.3
    world.crash(relays(world, "us-east")[0].name)
    world.run(10.0)
    assert no_cut(world)


def test_relays_that_die_or_stall_one_after_the_other_are_no_cut():
    world = swarm(15)
    for number in range(12):
        relay = world.rng.choice(relays(world, world.rng.choice(list(SIZES))))
        if number % 3:
            world.pause(relay.name, 1.0)
            world.run(1.2)
        else:
            world.crash(relay.name)
            world.run(3.0)
    assert no_cut(world)


def test_a_region_that_is_heard_from_any_of_its_agents_is_not_cut():
    world = swarm(16)
    # No relay of us-east gets through, but its other agents do: their digests come every now and then.
    talker = next(agent for agent in of_region(world, "us-east") if not agent.regions.is_relay)
    for relay in relays(world, "us-east"):
        world.blocked.update((relay.name, region) for region in OTHERS)

    def talk():
        for region in OTHERS:
            for relay in relays(world, region):
                digest = Digest(talker.name, 0, talker.membership.hash)
                talker.ctx.send([relay.address], digest)
        world._carry_out(talker)
        world._after(0.15, talk)

    talk()
    world.run(5.0)
    assert no_cut(world)


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_a_region_that_was_suspended_as_a_whole_does_not_cut_off_the_others(seconds):
    world = swarm(17)
    for agent in of_region(world, "us-east"):
        world.pause(agent.name, seconds)
    world.run(seconds + 2.0)

    # The others could not know better; it itself knows that it did not run.
    assert all(
        agent.ctx.counters.get("link_states", 0) == 0 for agent in of_region(world, "us-east")
    )
    assert whole(world)()


def test_a_region_whose_agents_all_leave_is_not_cut_off():
    world = swarm(18, {"us-east": 20, "us-west": 5, "eu-central": 20})
    for agent in of_region(world, "us-west"):
        agent.ctx.now = agent.now()
        agent.membership.leave()
        world._carry_out(agent)
    world.run(0.1)
    world.crash(*(agent.name for agent in of_region(world, "us-west")))
    world.run(3.0)

    assert no_cut(world)
    assert all(a.regions.groups() == (("eu-central", "us-east"),) for a in world.running())


def test_a_new_region_is_no_cut_and_is_watched_from_then_on():
    world = swarm(19, {"us-east": 20, "us-west": 20})
    seeds = [world.running()[0].address]
    for number in range(10):
        world.add(f"eu-central-{number}", "eu-central", seeds=seeds)
    world.run(3.0)
    assert no_cut(world)

    world.cut(["eu-central"], ["us-east", "us-west"])
    world.run_until(grouped(world, (("eu-central",), ("us-east", "us-west"))), DETECTED_WITHIN)


def test_a_relay_that_lost_its_own_network_does_not_speak_for_its_region():
    world = swarm(20)
    lost = relays(world, "us-east")[1]
    for agent in world.running():
        if agent is not lost:
            world.blocked.update({(agent.name, lost.name), (lost.name, agent.name)})
    world.run(1.0)
    world.heal()
    world.run(5.0)

    assert all(a.events("region-cut") == [] for a in world.running() if a is not lost)
    assert whole(world)()


def test_without_partition_detection_no_cut_is_declared():
    world = swarm(21, settings=merge(DEFAULTS, {"partition_detection": False}))
    world.cut(EAST, OTHERS)
    world.run(3.0)
    assert no_cut(world)


def test_switching_detection_off_ends_every_cut_and_on_finds_it_again():
    world = swarm(22)
    world.cut(EAST, OTHERS)
    world.run_until(grouped(world), DETECTED_WITHIN)
    for agent in world.running():
        agent.ctx.settings = merge(DEFAULTS, {"partition_detection": False})
    world.run_until(whole(world), 6.0)
    for agent in world.running():
        agent.ctx.settings = DEFAULTS
    world.run_until(grouped(world), 2.0)


def test_a_longer_timeout_waits_longer():
    world = swarm(23, settings=merge(DEFAULTS, {"partition_timeout": 2000}))
    world.cut(EAST, OTHERS)
    world.run(1.9)
    assert no_cut(world)
    world.run_until(grouped(world), 0.4)

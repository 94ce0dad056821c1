"""Who is dead, and how soon everybody knows; who is not, whatever it looks like. Default settings, 211 agents."""

from __future__ import annotations

import pytest

from gossipswarm_agent.core.settings import Settings
from membership_world import World

SIZES = {"us-east": 71, "us-west": 70, "eu-central": 70}
KNOWN_WITHIN = 2.0


def swarm(seed: int, **options) -> World:
    world = World(seed)
    world.populate(SIZES, **options)
    world.run(1.0 + world.rng.random())
    return world


def known_by_all(world: World, *names: str) -> bool:
    return all(world.holds_for_gone(a, name) for a in world.running() for name in names)


@pytest.mark.parametrize("seed", range(3))
def test_a_dead_agent_is_known_to_all_within_2_s(seed):
    world = swarm(seed)
    for victim in world.rng.sample(sorted(world.agents), 5):
        world.crash(victim)
        world.run_until(lambda name=victim: known_by_all(world, name), KNOWN_WITHIN)
        world.run(world.rng.random())
    assert {name for _, _, name in world.deaths()} == {
        name for name, agent in world.agents.items() if agent.crashed
    }


def test_a_dead_agent_is_known_although_no_two_clocks_agree():
    world = World(4)
    for region, size in {"us-east": 30, "us-west": 30}.items():
        for number in range(size):
            world.add(
                f"{region}-{number}",
                region,
                seeds=[("10.0.28.1", 7001)],
                clock_error=world.rng.randint(-3_600_000, 3_600_000),
            )
    world.run_until(lambda: all(a.membership.size == 60 for a in world.running()), 5.0)
    world.run(1.0)

    # The shared round robin is then as good as SWIM's random choice: soon on average, and in the end for sure.
    took = []
    for victim in world.rng.sample(sorted(world.agents), 5):
        world.crash(victim)
        took.append(world.run_until(lambda name=victim: known_by_all(world, name), 6.0))
    assert sorted(took)[2] < 2.5


def test_a_tenth_of_the_swarm_dying_at_once_is_known_within_4_s():
    world = swarm(5)
    victims = world.rng.sample(sorted(world.agents), 21)
    world.crash(*victims)

    # Some of those that would probe or help to probe are dead themselves.
    world.run_until(lambda: known_by_all(world, *victims), 4.0)
    assert {name for _, _, name in world.deaths()} == set(victims)


def test_a_process_paused_for_1_s_is_nobodys_death():
    world = swarm(6)
    for _ in range(30):
        for agent in world.rng.sample(world.running(), 4):
            if agent.paused_until <= world.now:
                world.pause(agent.name, 1.0)
        world.run(0.25 + world.rng.random() / 2)
    world.run(2.0)

    assert world.counted("suspicions") > 0
    assert world.deaths() == []


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_a_machine_that_was_suspended_wakes_up_with_everybody_alive(seconds):
    world = swarm(7)
    for agent in world.running():
        world.pause(agent.name, seconds + world.rng.uniform(0.0, 0.1))
    world.run(seconds + 3.0)

    assert world.deaths() == []


def test_agents_that_run_for_a_quarter_of_the_time_are_not_held_for_dead():
    world = swarm(8)

    def stutter(agent):
        pause = world.rng.uniform(0.0, 0.6)
        world.pause(agent.name, pause)
        world._after(pause + world.rng.uniform(0.0, 0.2), lambda: stutter(agent))

    for agent in world.running():
        stutter(agent)
    world.run(10.0)

    assert world.counted("late_ticks") > 1000
    assert world.deaths() == []
    assert world.counted("link_states") == 0


def test_at_30_percent_loss_nobody_is_buried_and_a_dead_agent_still_is():
    world = swarm(9)
    world.loss = 0.3
    world.run(15.0)
    assert world.deaths() == []

    world.crash("us-west-7")
    world.run_until(lambda: known_by_all(world, "us-west-7"), 6.0)
    assert {name for _, _, name in world.deaths()} == {"us-west-7"}


def test_an_agent_that_nobody_hears_for_long_comes_back_in_a_higher_incarnation():
    world = swarm(10)
    world.pause("us-east-3", 5.0)
    world.run_until(lambda: known_by_all(world, "us-east-3"), 3.0)
    world.run_until(lambda: world.now >= world.agents["us-east-3"].paused_until, 5.0)

    def back() -> bool:
        members = [a.membership.members.get("us-east-3") for a in world.running()]
        return all(m is None or (m.status == 0 and m.incarnation == 2) for m in members)

    # It finds its own accusation in its mail.
    assert world.run_until(back, 1.0) < 0.5


def test_one_death_costs_a_handful_of_floods():
    world = swarm(11)
    before = world.sent["Members"]
    world.crash("eu-central-9")
    world.run(4.0)

    assert world.counted("deaths_declared") <= 3
    assert world.sent["Members"] - before <= 8 * len(world.running())


def test_two_idle_agents_need_one_probe_an_interval_and_hardly_wake():
    world = swarm(12)
    world.run(1.0)
    sent = world.sent.copy()
    wakes = {agent.name: agent.wakes for agent in world.running()}
    world.run(10.0)
    rates = {kind: (count - sent[kind]) / 10.0 for kind, count in world.sent.items()}

    probes = 211 / 2 / (Settings().probe_interval / 1000)
    assert rates["Ping"] == pytest.approx(probes, rel=0.02)
    assert rates["Ack"] == pytest.approx(probes, rel=0.02)
    assert rates["Heartbeat"] <= 720
    assert rates["FloorReport"] + rates["Floors"] <= 211 / 10
    assert "Members" not in rates
    for agent in world.running():
        if not agent.regions.is_relay:
            # The digest, the node's part, among them.
            assert (agent.wakes - wakes[agent.name]) / 10.0 <= 3.5

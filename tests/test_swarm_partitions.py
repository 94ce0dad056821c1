"""Cuts between regions: noticed in time, survived, healed, and every value accounted for."""

from __future__ import annotations

from typing import Any

import pytest

from gossipswarm_agent.core.settings import Settings, merge
from gossipswarm_simulator.network import Link, Network
from gossipswarm_simulator.scaling import settled_world
from gossipswarm_simulator.world import World
from worlds import REGIONS, Ledger, small_world

EAST, WEST, CENTRAL = REGIONS


def settings(**changes: Any) -> Settings:
    return merge(Settings(), changes)


def groups_everywhere(world: World, count: int) -> bool:
    return all(len(node.regions.groups()) == count for node in world.nodes())


def value_everywhere(world: World, key: str) -> set[Any]:
    return {
        None if (reading := node.read(key)) is None else reading.value for node in world.nodes()
    }


def healed(world: World) -> bool:
    return groups_everywhere(world, 1) and world.converged()


@pytest.fixture(scope="module")
def split_swarm() -> tuple[World, float, float]:
    """150 agents cut for 30 s with a conflict, then healed; seconds to detect and to heal."""
    world = settled_world(150, 11, settings())
    world.write(f"{EAST}-1", "app.config", {"cache_ttl": 3600, "ui": True})
    world.run(1.0)
    world.network.cut((EAST,), (WEST, CENTRAL))
    detection = world.run_until(lambda: groups_everywhere(world, 2), 5.0)
    world.write(f"{EAST}-1", "app.config.cache_ttl", 7200)
    world.run(1.0)
    world.write(f"{WEST}-1", "app.config.cache_ttl", 1800)
    world.run(28.0)
    world.network.heal()
    heal = world.run_until(lambda: healed(world), 10.0)
    return world, detection, heal


def test_a_cut_is_known_on_both_sides_within_half_a_second(
    split_swarm: tuple[World, float, float],
) -> None:
    assert split_swarm[1] <= 0.5


def test_all_agree_within_half_a_second_after_the_heal(
    split_swarm: tuple[World, float, float],
) -> None:
    assert split_swarm[2] <= 0.5


def test_the_losing_value_is_in_the_history_of_every_agent_with_time_and_origin(
    split_swarm: tuple[World, float, float],
) -> None:
    world = split_swarm[0]
    assert value_everywhere(world, "app.config.cache_ttl") == {1800}
    for node in world.nodes():
        (loss,) = [x for x in node.state.conflicts()[1] if x.key == "app.config.cache_ttl"]
        assert bytes(loss.value) == b"\xcd\x1c\x20"  # 7200
        assert loss.origin.startswith(f"{EAST}-1/")
        assert loss.winning_origin.startswith(f"{WEST}-1/")
        assert 0 < loss.clock < loss.winning_clock


def test_nobody_is_declared_dead_for_being_cut_off(
    split_swarm: tuple[World, float, float],
) -> None:
    assert [h for h in split_swarm[0].happenings if h.event == "member-down"] == []


def test_all_agree_within_half_a_second_after_a_heal_under_steady_writes() -> None:
    world = settled_world(60, 21, settings())
    ledger = Ledger(world)
    world.network.cut((EAST,), (WEST, CENTRAL))

    def write_for(seconds: float, start: int) -> None:
        for index in range(int(seconds / 0.02)):
            region = REGIONS[index % 3]
            ledger.write(f"{region}-{1 + index % 7}", f"steady.{start + index}", index)
            world.run(0.02)

    write_for(6.0, 0)
    world.network.heal()
    world.run_until(lambda: groups_everywhere(world, 1), 1.0)
    before = [key for key, _ in ledger.acknowledged()]
    write_for(0.3, 1000)
    assert all(node.read(key) is not None for key in before for node in world.nodes())
    world.run_until(world.converged, 5.0)


def test_a_cut_of_one_pair_is_no_split_and_the_third_region_carries_the_traffic() -> None:
    world = small_world(12, per_region=6)
    world.network.cut((EAST,), (WEST,))
    world.run(2.0)
    assert groups_everywhere(world, 1)
    assert all(not node.regions.linked(EAST, WEST) for node in world.nodes())
    world.write(f"{EAST}-1", "app.x", 1)
    assert world.run_until(lambda: value_everywhere(world, "app.x") == {1}, 2.0) < 0.5
    for index in range(200):
        world.write(f"{EAST}-{1 + index % 6}", f"load.{index}", index)
        world.run(0.002)
    assert world.run_until(world.converged, 5.0) < 3.0


def test_a_one_way_cut_is_noticed_and_heals() -> None:
    world = small_world(13, per_region=4)
    world.network.cut((EAST,), (WEST, CENTRAL), one_way=True)
    assert world.run_until(lambda: groups_everywhere(world, 2), 3.0) < 1.0
    world.write(f"{WEST}-1", "app.x", 1)
    world.run(2.0)
    world.network.heal()
    assert world.run_until(lambda: healed(world), 5.0) < 1.0


def test_a_cut_longer_than_every_membership_timeout_heals_by_itself() -> None:
    world = small_world(
        14, per_region=5, probe_interval=25, suspicion_timeout=45, partition_timeout=300
    )
    ledger = Ledger(world)
    world.network.cut((EAST,), (WEST, CENTRAL))
    for index in range(20):
        ledger.write(f"{REGIONS[index % 3]}-1", f"app.k{index % 4}", index)
        world.run(1.5)
    world.network.heal()
    assert world.run_until(lambda: world.joined() and healed(world), 20.0) < 2.0
    world.run(11.0)
    assert ledger.lost() == []


def test_without_partition_detection_no_cut_is_declared_and_the_halves_meet_again() -> None:
    world = small_world(15, per_region=3, partition_detection=False)
    world.network.cut((EAST,), (WEST, CENTRAL))
    world.run(20.0)
    assert [h for h in world.happenings if h.event in ("partition-detected", "region-cut")] == []
    world.write(f"{EAST}-1", "app.x", 1)
    world.network.heal()
    world.run_until(lambda: world.joined() and world.converged(), 30.0)
    assert value_everywhere(world, "app.x") == {1}


def test_partition_timeout_is_how_long_a_region_may_be_silent() -> None:
    def detection(timeout: int) -> float:
        world = small_world(16, per_region=3, partition_timeout=timeout)
        world.network.cut((EAST,), (WEST, CENTRAL))
        return world.run_until(lambda: groups_everywhere(world, 2), 10.0)

    assert detection(150) < 0.35
    assert 0.55 < detection(700) < 0.95


def test_healing_by_hand_keeps_reconnected_regions_apart_until_they_are_released() -> None:
    world = small_world(17, per_region=3, healing_strategy="manual")
    world.network.cut((EAST,), (WEST, CENTRAL))
    world.run(1.0)
    world.write(f"{EAST}-1", "app.x", 1)
    world.run(1.0)
    world.network.heal()
    world.run(15.0)
    assert groups_everywhere(world, 1)
    assert value_everywhere(world, "app.x") == {1, None}
    for node in world.nodes():
        node.meetings.release()
    world.run_until(world.converged, 5.0)
    assert value_everywhere(world, "app.x") == {1}


@pytest.mark.parametrize("seed", range(4))
def test_no_cut_is_declared_for_loss_a_stalled_process_or_a_dead_relay(seed: int) -> None:
    world = small_world(seed, per_region=5, link=Link(loss=0.3))
    relays = [world.nodes()[0].regions.relays(region)[0].name for region in REGIONS]
    for _ in range(5):
        world.run(2.0)
        world.pause(relays[1], 1.0)
    world.crash(relays[2])
    world.run(5.0)
    assert [h for h in world.happenings if h.event == "region-cut"] == []


def test_a_dead_agent_is_known_to_all_within_two_seconds_at_211() -> None:
    world = settled_world(211, 18, settings())
    victim = f"{WEST}-9"
    world.crash(victim)
    alive = world.nodes()
    took = world.run_until(
        lambda: all(node.membership.members[victim].status == 2 for node in alive), 5.0
    )
    assert took <= 2.0


def test_a_process_paused_for_a_second_is_nobodys_death() -> None:
    world = small_world(19, per_region=6)
    for name in (f"{EAST}-2", f"{WEST}-3", f"{CENTRAL}-4"):
        world.pause(name, 1.0)
        world.run(3.0)
    assert [h for h in world.happenings if h.event == "member-down"] == []


def test_an_agent_born_inside_a_cut_learns_its_side_at_once_and_the_rest_after_the_heal() -> None:
    world = World(20, network=None)
    world.network = Network(world.rng)
    world.grow(dict.fromkeys(REGIONS, 3))
    world.run_until(world.joined, 10.0)
    world.write(f"{EAST}-1", "app.x", 1)
    world.run(1.0)
    world.network.cut((EAST,), (WEST, CENTRAL))
    world.run(1.0)
    world.add("late", EAST)
    world.start("late")
    node = world.agents["late"].node
    assert node is not None
    world.run_until(lambda: node.read("app.x") is not None, 15.0)
    world.network.heal()
    world.run_until(lambda: world.joined() and healed(world), 20.0)

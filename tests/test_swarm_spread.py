"""How writes spread, and what each parameter does to it, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gossipswarm_agent.core.messages import Delta, LinkState, decode, encode
from gossipswarm_agent.core.receipts import ASK_AFTER
from gossipswarm_agent.core.settings import Settings, merge
from gossipswarm_simulator.network import Link, Network
from gossipswarm_simulator.scaling import measure, settled_world
from gossipswarm_simulator.world import EPOCH_MS, World
from worlds import REGIONS, small_world


def settings(**changes: Any) -> Settings:
    return merge(Settings(), changes)


def all_hold(world: World, key: str) -> bool:
    return all(node.read(key) is not None for node in world.nodes())


def seconds_to_all(world: World, key: str = "app.x", at: str = "us-east-1") -> float:
    world.write(at, key, 1)
    return world.run_until(lambda: all_hold(world, key), 60.0)


def messages_of(world: World, seconds: float) -> int:
    sent = world.network.sent
    world.run(seconds)
    return world.network.sent - sent


def test_a_write_is_on_150_agents_within_ten_milliseconds_and_two_messages_an_agent() -> None:
    spread = measure(150, 1, settings(), writes=3)
    assert spread.full_ms < 10
    # Two trees and a receipt from everybody.
    assert spread.messages < 3.3 * 150


def test_the_textbook_mode_needs_about_seven_rounds_at_150() -> None:
    spread = measure(150, 1, settings(eager=False, mode="push-pull"), writes=3)
    assert 5 <= spread.rounds <= 9
    assert spread.full_ms >= 400


def test_rounds_grow_with_the_logarithm_of_the_size() -> None:
    rounds = [measure(n, 2, settings(), writes=3).rounds for n in (10, 60, 200)]
    assert rounds[0] < rounds[1] <= rounds[2] <= rounds[0] + 4


def test_interval_sets_the_pace_of_rounds() -> None:
    fast = measure(30, 1, settings(eager=False, interval=50), writes=3)
    slow = measure(30, 1, settings(eager=False, interval=400), writes=3)
    assert slow.full_ms > 4 * fast.full_ms


def test_fanout_widens_the_trees() -> None:
    narrow = measure(60, 1, settings(fanout=1), writes=3)
    wide = measure(60, 1, settings(fanout=8), writes=3)
    assert narrow.rounds > 2 * wide.rounds


def test_redundancy_costs_a_tree_more_messages_and_rides_out_loss() -> None:
    one = measure(60, 1, settings(redundancy=1), writes=5)
    three = measure(60, 1, settings(redundancy=3), writes=5)
    assert three.messages > one.messages + 1.5 * 60
    lossy = {"writes": 9, "loss": 0.1}
    assert (
        measure(60, 1, settings(redundancy=3), **lossy).full_ms
        < measure(60, 1, settings(redundancy=1), **lossy).full_ms
    )


def test_eager_is_far_faster_than_rounds() -> None:
    eager = measure(60, 1, settings(), writes=3)
    rounds = measure(60, 1, settings(eager=False), writes=3)
    assert rounds.full_ms > 20 * eager.full_ms


def test_cross_region_fanout_is_the_number_of_doors_into_a_region() -> None:
    def crossings(doors: int) -> int:
        world = settled_world(60, 1, settings(cross_region_fanout=doors, redundancy=1))
        crossed = 0
        arrivals = world.network.arrivals

        def counting(source: str, target: str, size: int) -> list[float]:
            nonlocal crossed
            crossed += source != target
            return arrivals(source, target, size)

        world.network.arrivals = counting  # type: ignore[method-assign]
        world.write("us-east-1", "app.x", 1)
        world.run(0.02)
        return crossed

    assert crossings(4) >= crossings(1) + 4


@pytest.mark.parametrize(("affinity", "low", "high"), [(1.0, 0.0, 0.05), (0.0, 0.95, 1.0)])
def test_region_affinity_is_the_share_of_random_exchanges_kept_at_home(
    affinity: float, low: float, high: float
) -> None:
    world = small_world(1, per_region=5, region_affinity=affinity)
    away = total = 0
    for node in world.nodes():
        for _ in range(50):
            for peer in node.repair._peers.choose(1):
                total += 1
                away += peer.region != node.identity.region
    assert low <= away / total <= high


def one_lacks(mode: str, *, writer_talks: bool) -> bool:
    """Whether a write known to one agent reaches another that only the repair connects to it."""
    world = small_world(1, per_region=1, mode=mode, anti_entropy=False, partition_detection=False)
    talkers = {"us-east-1"} if writer_talks else {"us-west-1", "eu-central-1"}
    for node in world.nodes():
        if node.identity.name not in talkers:
            node.repair._send_digests = lambda: None  # type: ignore[method-assign]
            node._ctx.hashes = lambda: (None, 0)
            node.regions._beat = lambda regions: None  # type: ignore[method-assign]
    world.network.away = Link(loss=1.0)
    world.write("us-east-1", "app.x", 1)
    world.run(0.05)
    world.network.away = Link()
    world.run(3.0)
    return all_hold(world, "app.x")


def test_mode_says_which_way_the_random_exchange_moves_news() -> None:
    assert one_lacks("push", writer_talks=True)
    assert not one_lacks("push", writer_talks=False)
    assert one_lacks("pull", writer_talks=False)
    assert not one_lacks("pull", writer_talks=True)
    assert one_lacks("push-pull", writer_talks=True)
    assert one_lacks("push-pull", writer_talks=False)


def test_convergence_threshold_decides_when_a_write_counts_as_converged() -> None:
    world = small_world(1, per_region=4, convergence_threshold=0.6)
    world.network.cut(("us-east",), ("eu-central",))
    world.network.cut(("us-west",), ("eu-central",))
    world.run(1.0)
    world.write("us-east-1", "app.x", 1, traced=True)
    world.run(1.0)
    assert [h.detail["key"] for h in world.happenings if h.event == "convergence-reached"] == [
        "app.x"
    ]
    world.write("us-east-1", "$swarm.config.convergence_threshold", 0.9, system=True)
    world.run(0.5)
    world.write("us-east-1", "app.y", 1, traced=True)
    world.run(1.0)
    assert len([h for h in world.happenings if h.event == "convergence-reached"]) == 1


def test_anti_entropy_and_its_interval_decide_when_silent_damage_is_found() -> None:
    def repaired_after(**changes: Any) -> bool:
        world = small_world(1, **changes)
        world.write("us-east-1", "app.x", 1)
        world.run(1.0)
        node = world.agents["us-west-1"].node
        assert node is not None
        store = node.state._store
        store.remove("app.x", [row.dot for row in store.rows("app.x")])
        world.run(6.0)
        return node.read("app.x") is not None

    assert repaired_after(anti_entropy=True, anti_entropy_interval=1000)
    assert not repaired_after(anti_entropy=False, anti_entropy_interval=1000)
    assert not repaired_after(anti_entropy=True, anti_entropy_interval=60_000)


def test_every_agent_applies_a_changed_parameter_within_a_second() -> None:
    world = small_world(1, per_region=4)
    world.write("us-west-2", "$swarm.config.fanout", 5, system=True)
    world.run(1.0)
    assert {node.settings.fanout for node in world.nodes()} == {5}


def test_loss_of_a_third_of_all_datagrams_delays_a_write_but_stops_nothing() -> None:
    world = small_world(4, per_region=6, link=Link(loss=0.3))
    assert seconds_to_all(world) < 3.0


def test_a_busy_swarm_merges_writes_of_many_origins_and_loses_none() -> None:
    world = small_world(2, per_region=10)
    names = list(world.agents)
    for index in range(1500):
        world.write(names[index % len(names)], f"load.{index}", index)
        world.run(0.001)
    world.run_until(world.converged, 5.0)
    node = world.nodes()[0]
    reading = node.read("load")
    assert reading is not None
    assert len(reading.value) == 1500
    assert sum(n.counters.get("relay_batches", 0) for n in world.nodes()) > 0


def test_a_write_that_repair_brings_before_the_tree_is_receipted_when_the_tree_comes() -> None:
    world = small_world(1, link=Link(latency=0.02))
    world.write("us-east-1", "app.x", 1, traced=True)
    world.run(0.001)
    rows = encode(replace(decode(world.written[-1]), traced=[]))
    world.hand_over(world.agents["us-west-1"], Delta("us-west-2", [rows]))
    assert world.agents["us-west-1"].node.read("app.x") is not None
    origin = world.agents["us-east-1"].node
    [dot] = origin.receipts.latest(1)
    took = world.run_until(lambda: origin.receipts.report(dot, 1.0).converged, 1.0)
    assert took < min(ASK_AFTER), "nobody had to be asked"


def test_an_agent_that_alone_believes_in_a_cut_reaches_every_region_at_once() -> None:
    world = small_world(5, per_region=5)
    clock = (EPOCH_MS + 10_000) << 16
    stale = LinkState("us-east-2", "us-east", clock, ["us-west"])
    world.hand_over(world.agents["us-east-1"], stale)
    assert seconds_to_all(world) < 0.02


def test_losing_the_active_relay_under_load_loses_nothing() -> None:
    world = small_world(2, per_region=6)
    names = list(world.agents)
    relay = world.nodes()[0].regions.relays("us-east")[0].name
    for index in range(900):
        if index == 400:
            world.crash(relay)
        name = names[index % len(names)]
        if name != relay:
            world.write(name, f"load.{index}", index)
        world.run(0.001)
    world.run_until(world.converged, 10.0)
    reading = world.nodes()[-1].read("load")
    assert reading is not None
    written = [i for i in range(900) if names[i % len(names)] != relay or i < 400]
    expected = [i for i in written if names[i % len(names)] != relay]
    assert all(f"{i}" in reading.value for i in expected)


def test_agents_born_one_after_the_other_all_meet() -> None:
    world = World(9, network=None)
    world.network = Network(world.rng)
    world.grow(dict.fromkeys(REGIONS, 10))
    world.run_until(world.joined, 10.0)
    assert seconds_to_all(world) < 0.2


def test_what_relays_merge_is_never_refused_whatever_was_handed_to_them_twice() -> None:
    world = small_world(3, per_region=5, link=Link(loss=0.25, duplication=0.2))
    names = list(world.agents)
    for index in range(600):
        world.write(names[index % len(names)], f"load.{index}", index, traced=index % 10 == 0)
        world.run(0.002)
    world.run_until(world.converged, 20.0)
    assert sum(node.counters.get("relay_echo_missed", 0) for node in world.nodes()) > 0
    assert sum(node.counters.get("dropped_invalid", 0) for node in world.nodes()) == 0

"""An agent that goes for good leaves nothing behind that only it had."""

from __future__ import annotations

import random

import pytest

from gossipswarm_agent.core.events import HandOver
from gossipswarm_simulator.network import Link
from gossipswarm_simulator.world import World
from worlds import Ledger, small_world

TOKEN = 1 << 40
GOING = "us-east-1"


def hand_over(world: World, *, copies: int = 2, leaving: tuple[str, ...] = ()) -> None:
    world.feed(world.agents[GOING], HandOver(TOKEN, copies, leaving))


def holders(world: World) -> list[str] | None:
    reply = world.replies.get(TOKEN)
    return None if reply is None else reply.result


def lose(world: World, name: str) -> None:
    """The agent goes, and its disk with it."""
    world.leave(name)
    world.agents[name].disk.records.clear()


@pytest.mark.parametrize("seed", range(12))
def test_accounted_what_was_handed_over_survives_the_agent_and_a_crash_of_those_that_confirmed(
    seed: int,
) -> None:
    rng = random.Random(seed)
    world = small_world(seed, link=Link(loss=0.6, reordering=0.1))
    ledger = Ledger(world)
    for number in range(30):
        ledger.write(GOING, f"app.key{number % 9}", number, op=rng.choice(["put", "put", "delete"]))
        world.run(rng.uniform(0.0, 0.01))
    world.run(0.02)  # the last of them are acknowledged
    hand_over(world)
    world.run_until(lambda: holders(world) is not None, 30.0)
    confirmed = holders(world)
    assert confirmed is not None and len(confirmed) >= 2
    lose(world, GOING)
    for name in confirmed:
        world.crash(name, machine=True)
    for name in world.agents:
        if name != GOING and name not in confirmed:
            world.crash(name)
            world.agents[name].disk.records.clear()  # nobody else remembers anything
            world.start(name, damaged=True)
    for name in confirmed:
        world.start(name)
    world.network.home = world.network.away = Link()
    world.run_until(lambda: world.joined() and world.converged(), 60.0)
    world.run(12.0)
    assert ledger.acknowledged()
    assert ledger.lost() == []


def test_it_takes_two_round_trips_where_nothing_is_missing() -> None:
    world = small_world(1)
    world.write(GOING, "app.x", 1)
    world.run_until(world.converged, 5.0)
    hand_over(world)
    assert world.run_until(lambda: holders(world) is not None, 5.0) < 0.02


def test_those_that_go_as_well_do_not_count() -> None:
    world = small_world(2)
    others = tuple(name for name in world.agents if name not in (GOING, "eu-central-2"))
    hand_over(world, leaving=others)
    world.run_until(lambda: holders(world) is not None, 10.0)
    assert holders(world) == ["eu-central-2"]


def test_those_that_are_about_to_go_send_one_on_to_others() -> None:
    world = small_world(8)
    for name in world.agents:
        node = world.agents[name].node
        assert node is not None
        node.repair.handover.leaving = name != "us-west-2"
    hand_over(world)
    assert world.run_until(lambda: holders(world) is not None, 5.0) < 1.0
    assert holders(world) == ["us-west-2"]


def test_where_all_go_nobody_is_waited_for() -> None:
    world = small_world(9)
    for node in world.nodes():
        node.repair.handover.leaving = True
    hand_over(world)
    assert world.run_until(lambda: holders(world) is not None, 5.0) < 0.1
    assert holders(world) == []


def test_nobody_confirms_what_cannot_reach_them() -> None:
    world = small_world(3, partition_detection=False)
    world.network.cut(("us-east",), ("us-west", "eu-central"))
    world.write(GOING, "app.x", 1)
    hand_over(world, copies=1, leaving=("us-east-2", "us-east-3"))
    world.run(0.8)
    assert holders(world) is None
    world.network.heal()
    world.run_until(lambda: holders(world) is not None, 15.0)
    confirmed = set(holders(world) or ()) - {"us-east-2", "us-east-3"}
    nodes = [world.agents[name].node for name in confirmed]
    assert [node.read("app.x").value for node in nodes if node] == [1] * len(confirmed) != []


def test_regions_beyond_a_cut_are_not_waited_for() -> None:
    world = small_world(4)
    world.network.cut(("us-east",), ("us-west", "eu-central"))
    node = world.agents[GOING].node
    assert node is not None
    world.run_until(lambda: len(node.regions.groups()) > 1, 10.0)
    hand_over(world, copies=5)
    world.run_until(lambda: holders(world) is not None, 5.0)
    assert holders(world) == ["us-east-2", "us-east-3"]


def test_one_that_is_alone_is_answered_at_once() -> None:
    world = World(5)
    world.add(GOING, "us-east")
    world.start(GOING)
    hand_over(world)
    assert holders(world) == []


def test_one_that_dies_before_it_confirms_is_replaced() -> None:
    world = small_world(6)
    world.write(GOING, "app.x", 1)
    world.run_until(world.converged, 5.0)
    for name in [name for name in world.agents if name not in (GOING, "us-west-3")]:
        world.crash(name)
    hand_over(world, copies=1)
    world.run_until(lambda: holders(world) is not None, 20.0)
    assert holders(world) == ["us-west-3"]


def test_as_many_confirm_as_are_asked_for_even_if_they_are_slow() -> None:
    world = small_world(7)
    slow = [name for name in world.agents if name != GOING]
    for name in slow:
        world.pause(name, 2.0)
    hand_over(world, copies=8)
    world.run(1.5)
    assert holders(world) is None
    world.run_until(lambda: holders(world) is not None, 15.0)
    assert len(holders(world) or ()) == 8

"""The invariants of the design over random schedules of everything that goes wrong."""

from __future__ import annotations

import random

import pytest

from gossipswarm_simulator.network import Link
from worlds import REGIONS, Ledger, small_world

SEEDS = range(24)


def misbehave(world, ledger: Ledger, rng: random.Random, steps: int) -> None:
    names = list(world.agents)
    down: set[str] = set()
    for _ in range(steps):
        world.run(rng.uniform(0.0, 0.6))
        fate = rng.random()
        name = rng.choice(names)
        if fate < 0.55:
            for _ in range(rng.randint(1, 4)):
                key = f"app.key{rng.randint(0, 7)}"
                op = rng.choice(["put", "put", "put", "delete"])
                ledger.write(rng.choice(names), key, rng.randint(0, 999), op=op)
        elif fate < 0.65:
            group = rng.sample(REGIONS, rng.randint(1, 2))
            rest = tuple(region for region in REGIONS if region not in group)
            world.network.cut(tuple(group), rest, one_way=rng.random() < 0.3)
        elif fate < 0.75:
            world.network.heal()
        elif fate < 0.85 and len(down) < 3 and name not in down:
            world.crash(name, machine=rng.random() < 0.5)
            down.add(name)
        elif fate < 0.95 and down:
            back = down.pop()
            world.start(back)
        else:
            world.pause(name, rng.uniform(0.1, 1.5))
    world.network.heal()
    for name in down:
        world.start(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_accounted_every_acknowledged_write_is_current_superseded_or_in_the_history(
    seed: int,
) -> None:
    link = Link(loss=0.05, duplication=0.05, reordering=0.05)
    world = small_world(seed, link=link)
    ledger = Ledger(world)
    misbehave(world, ledger, random.Random(seed), steps=40)
    world.run_until(lambda: world.joined() and world.converged(), 60.0)
    world.run(12.0)
    assert ledger.acknowledged()
    assert ledger.lost() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_convergent_agents_that_saw_the_same_have_the_same_state(seed: int) -> None:
    world = small_world(seed, link=Link(loss=0.2, reordering=0.2))
    rng = random.Random(seed)
    names = list(world.agents)
    for index in range(60):
        world.write(rng.choice(names), f"k.{index % 9}", index)
        world.run(rng.uniform(0, 0.05))
    world.run_until(world.converged, 30.0)
    values = [node.read("k") for node in world.nodes()]
    assert all(value == values[0] for value in values)


def test_monotonic_reads_survive_a_restart() -> None:
    world = small_world(3)
    world.write("us-east-1", "app.version", 1)
    world.run_until(world.converged, 5.0)
    world.write("us-east-1", "app.version", 2)
    world.run_until(world.converged, 5.0)
    world.crash("us-west-1")
    world.network.cut(("us-west",), ("us-east", "eu-central"))
    world.start("us-west-1")
    node = world.agents["us-west-1"].node
    assert node is not None
    reading = node.read("app.version")
    assert reading is not None
    assert reading.value == 2


def test_a_restored_old_disk_loses_neither_its_old_writes_nor_its_new_ones() -> None:
    world = small_world(5)
    ledger = Ledger(world)
    ledger.write("us-east-1", "a", 1)
    world.run(1.0)
    backup = list(world.agents["us-east-1"].disk.records)
    for index in range(5):
        ledger.write("us-east-1", f"later.{index}", index)
    world.run(2.0)
    world.crash("us-east-1")
    world.agents["us-east-1"].disk.records = backup
    world.start("us-east-1")
    for index in range(3):
        ledger.write("us-east-1", f"new.{index}", index)
    world.run_until(lambda: world.joined() and world.converged(), 30.0)
    world.run(12.0)
    assert ledger.lost() == []


def test_a_deleted_leaf_stays_deleted_when_an_old_disk_returns_after_the_tombstone_is_gone() -> (
    None
):
    world = small_world(6)
    world.write("us-east-1", "doomed", 1)
    world.run(2.0)
    backup = list(world.agents["eu-central-2"].disk.records)
    world.write("us-east-1", "doomed", op="delete")
    world.run_until(lambda: all(node.state.tombstone_count == 0 for node in world.nodes()), 60.0)
    world.crash("eu-central-2")
    world.agents["eu-central-2"].disk.records = backup
    world.start("eu-central-2")
    world.run_until(lambda: world.joined() and world.converged(), 30.0)
    world.run(25.0)
    assert [node.read("doomed") for node in world.nodes()] == [None] * 9


def test_a_write_from_a_clock_far_ahead_is_held_and_arrives_once_it_is_due() -> None:
    world = small_world(7)
    world.agents["us-east-1"].clock_offset_ms = 3_000
    world.write("us-east-1", "from.the.future", 1)
    world.run(0.5)
    others = [n for n in world.nodes() if n.identity.name != "us-east-1"]
    assert [node.read("from.the.future") for node in others] == [None] * 8
    assert any(h.event == "clock-skew" for h in world.happenings if h.agent == "us-east-1")
    world.run_until(world.converged, 20.0)
    assert all(node.read("from.the.future") is not None for node in world.nodes())

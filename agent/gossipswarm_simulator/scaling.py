"""How one write spreads over n agents: the scaling table of the documentation, from the real core."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from gossipswarm_agent.core.messages import MemberRecord, Members
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.core.settings import Settings
from gossipswarm_simulator.network import HOME, Link, Network
from gossipswarm_simulator.world import World

REGIONS = ("us-east", "us-west", "eu-central")


@dataclass(frozen=True)
class Spreading:
    """Medians over the writes of one run. Times are milliseconds of virtual time."""

    agents: int
    rounds: int
    threshold_ms: float
    full_ms: float
    messages: float
    bytes: float
    detection_ms: float | None
    heal_ms: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain data, for JSON."""
        return asdict(self)


def settled_world(
    agents: int, seed: int, settings: Settings, *, away: Link = HOME, loss: float = 0.0
) -> World:
    """A world of ``agents`` in three regions that all know each other already."""
    rng = random.Random(seed)
    home = Link(loss=loss)
    away = Link(latency=away.latency, jitter=away.jitter, loss=loss)
    world = World(seed, settings=settings, network=Network(rng, home, away))
    names = []
    for index in range(agents):
        region = REGIONS[index % len(REGIONS)]
        name = f"{region}-{index // len(REGIONS) + 1}"
        world.add(name, region, host=f"host-{index % 5}")
        names.append(name)
    for name in names:
        world.start(name)
    introduce(world)
    world.run(1.5)
    return world


def introduce(world: World) -> None:
    """Let everybody know everybody, as if they had joined long ago."""
    records: list[MemberRecord] = [node.membership.me for node in world.nodes()]
    for agent in world.agents.values():
        world.hand_over(agent, Members("introduction", records, flood=False))


FURTHER_TREES: Final = 0.05
"""Seconds after a write is everywhere within which its further trees have brought their copies."""


def measure(
    agents: int, seed: int, settings: Settings, *, writes: int = 5, away: Link = HOME,
    loss: float = 0.0, partition: bool = False,
) -> Spreading:  # fmt: skip
    """Spread a few writes over a settled swarm and take medians."""
    world = settled_world(agents, seed, settings, away=away, loss=loss)
    names = list(world.agents)
    rounds, threshold, full, messages, size = [], [], [], [], []
    quiet_messages, quiet_bytes = _background(world)
    for index in range(writes):
        name = world.rng.choice(names)
        node = world.agents[name].node
        assert node is not None
        sent, sent_bytes, begun = world.network.sent, world.network.bytes, world.now
        world.write(name, f"scaling.{index}", index, traced=True)
        world.run_until(lambda node=node: _complete(node), 60.0)  # type: ignore[misc]
        world.run(FURTHER_TREES)
        lasted = world.now - begun
        report = node.receipts.report(node.receipts.latest(1)[0])
        assert report is not None
        rounds.append(max(r.round for r in report.rounds if r.agents > 0))
        threshold.append(report.duration_ms or 0.0)
        full.append(report.full_ms or 0.0)
        messages.append(world.network.sent - sent - quiet_messages * lasted)
        size.append(world.network.bytes - sent_bytes - quiet_bytes * lasted)
        world.run(1.2)
    detection, heal = _partition(world) if partition else (None, None)
    return Spreading(
        agents,
        int(_median(rounds)),
        round(_median(threshold), 2),
        round(_median(full), 2),
        round(_median(messages), 1),
        round(_median(size), 0),
        detection,
        heal,
    )


def _complete(node: Node) -> bool:
    latest = node.receipts.latest(1)
    report = node.receipts.report(latest[0]) if latest else None
    return report is not None and report.full_ms is not None


def _background(world: World) -> tuple[float, float]:
    """Messages and bytes a second when nothing is written."""
    sent, size = world.network.sent, world.network.bytes
    world.run(1.0)
    return float(world.network.sent - sent), float(world.network.bytes - size)


def _partition(world: World) -> tuple[float, float]:
    """Cut one region off; milliseconds until every agent knows, and until all agree after the heal."""
    at = world.now
    world.network.cut((REGIONS[0],), REGIONS[1:])
    world.run_until(lambda: all(len(n.regions.groups()) == 2 for n in world.nodes()), 30.0)
    detection = (world.now - at) * 1000
    for region in REGIONS[:2]:
        world.write(f"{region}-1", "scaling.conflict", region)
    world.run(5.0)
    at = world.now
    world.network.heal()
    world.run_until(
        lambda: all(len(n.regions.groups()) == 1 for n in world.nodes()) and world.converged(), 60.0
    )
    return round(detection, 1), round((world.now - at) * 1000, 1)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]

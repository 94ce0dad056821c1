"""Worlds that several simulator tests start from, and the ledger that holds them to account."""

from __future__ import annotations

from typing import Any

from gossipswarm_agent.core.batch import Dot, Row, rows_of
from gossipswarm_agent.core.messages import Batch, decode
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.core.settings import Settings, merge
from gossipswarm_simulator.network import Link, Network
from gossipswarm_simulator.scaling import introduce
from gossipswarm_simulator.world import World

REGIONS = ("us-east", "us-west", "eu-central")


def small_world(
    seed: int, *, per_region: int = 3, link: Link | None = None, **settings: Any
) -> World:
    """Three regions whose agents know each other already."""
    world = World(seed, settings=merge(Settings(), settings))
    if link is not None:
        world.network = Network(world.rng, link, link)
    world.grow(dict.fromkeys(REGIONS, per_region))
    introduce(world)
    world.run(1.0)
    return world


class Ledger:
    """Every write that was acknowledged, to be found again on every agent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._tokens: list[int] = []

    def write(self, agent: str, key: str, value: Any, **options: Any) -> None:
        """Write and remember, if the agent is up."""
        if self.world.agents[agent].node is not None:
            self._tokens.append(self.world.write(agent, key, value, **options))

    def acknowledged(self) -> list[tuple[str, Dot]]:
        """Key and dot of what was acknowledged and changed something."""
        replies = (self.world.replies.get(token) for token in self._tokens)
        results = [r.result[0] for r in replies if r is not None and r.error is None]
        found = []
        for result in results:
            origin, _, sequence = result.dot.rpartition(":")
            if origin:
                found.append((result.key, (origin, int(sequence))))
        return found

    def lost(self) -> list[str]:
        """Acknowledged writes that some agent can neither show, nor name a successor of, nor a winner."""
        written: dict[str, dict[Dot, Row]] = {}
        for body in self.world.written:
            batch = decode(body)
            assert isinstance(batch, Batch)
            for row in rows_of(batch):
                written.setdefault(row.key, {})[row.dot] = row
        return [
            f"{dot} of {key} at {node.identity.name}"
            for key, dot in self.acknowledged()
            for node in self.world.nodes()
            if not _accounted(node, key, dot, written.get(key, {}))
        ]


def _accounted(node: Node, key: str, dot: Dot, written: dict[Dot, Row]) -> bool:
    held = {row.dot for row in node.state._store.rows(key)}
    lost = {(x.origin, x.sequence) for x in node.state.conflicts()[1] if x.key == key}
    frontier, looked = [dot], set()
    while frontier:
        each = frontier.pop()
        looked.add(each)
        if each in held or each in lost:
            return True
        row = written.get(each)
        if row is not None and row.deleted and not held and node.state.vector.covers(*each):
            return True  # a tombstone that everybody had
        frontier += [
            later.dot
            for later in written.values()
            if later.context.get(each[0], 0) >= each[1] and later.dot not in looked
        ]
    return False

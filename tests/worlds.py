"""Worlds that several simulator tests start from, and the ledger that holds them to account."""

from __future__ import annotations

from typing import Any

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
        self._sent: dict[int, tuple[str, Any]] = {}

    def write(self, agent: str, key: str, value: Any, **options: Any) -> None:
        """Write and remember, if the agent is up."""
        if self.world.agents[agent].node is not None:
            self._sent[self.world.write(agent, key, value, **options)] = (key, value)

    def acknowledged(self) -> dict[str, tuple[str, Any]]:
        """Dot to (key, value) of what was acknowledged."""
        found = {}
        for token, what in self._sent.items():
            reply = self.world.replies.get(token)
            if reply is not None and reply.error is None:
                found[reply.result[0].dot] = what
        return found

    def lost(self) -> list[str]:
        """Acknowledged writes that some agent can neither show, nor name a successor of, nor a winner."""
        problems = []
        for dot, (key, value) in self.acknowledged().items():
            origin, _, sequence = dot.rpartition(":")
            for node in self.world.nodes():
                reading = node.read(key)
                current = reading is not None and reading.value == value
                history = [
                    loss
                    for loss in node.state.conflicts()[1]
                    if loss.key == key and (loss.origin, loss.sequence) == (origin, int(sequence))
                ]
                superseded = node.state.covers(key, origin, int(sequence))
                if not (current or history or superseded):
                    problems.append(f"{dot} {key}={value!r} at {node.identity.name}")
        return problems

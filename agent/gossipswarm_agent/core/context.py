"""What every part of the core shares while one event is handled: time, chance, settings, output."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import msgspec

from gossipswarm_agent.core.effects import Effect, Send
from gossipswarm_agent.core.frames import Address, Frame
from gossipswarm_agent.core.messages import Message, encode
from gossipswarm_agent.core.settings import Settings


class Instant(msgspec.Struct, frozen=True, gc=False):
    """A reading of both clocks."""

    mono: float
    """Seconds on a clock that never goes back; only differences mean anything."""
    wall: int
    """Milliseconds since the Unix epoch, as this machine believes."""


class Context:
    """Owned by the node; ``now`` is set before each event, ``effects`` collects what must happen."""

    def __init__(self, name: str, region: str, settings: Settings, rng: random.Random) -> None:
        self.name = name
        self.region = region
        self.settings = settings
        self.rng = rng
        self.now: Instant = Instant(0.0, 0)
        self.lag = 0.0
        """Seconds by which the last tick came late: the agent's evidence against itself."""
        self.effects: list[Effect] = []
        self.counters: dict[str, int] = {}
        self.hashes: Callable[[], tuple[int | None, int]] = lambda: (None, 0)
        """Of the version vector and of the member table; set by the node."""
        self.flood: Callable[[Message], None] = _into_nothing
        """Send to every reachable agent over this agent's spread trees; set by the node."""

    def count(self, name: str, by: int = 1) -> None:
        """Add to a monotonic counter that the metrics expose."""
        self.counters[name] = self.counters.get(name, 0) + by

    def send(
        self, targets: Iterable[Address], message: Message, hop: int = 1, tree: int = 0
    ) -> None:
        """Encode once and send to each target."""
        where = tuple(targets)
        if where:
            self.effects.append(Send(where, Frame(encode(message)), hop, tree))


def _into_nothing(message: Message) -> None:
    """Where floods go before there is a node."""
    del message

"""A network in virtual time: latency, loss, duplication, reordering and cuts, all from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """How datagrams fare between two agents. Times in seconds, shares from 0 to 1."""

    latency: float = 0.0003
    jitter: float = 0.0002
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """Share of datagrams that take ten times as long."""


HOME = Link()
WAN = Link(latency=0.020, jitter=0.004)


class Network:
    """Decides, for each datagram, when it arrives, and how often."""

    def __init__(self, rng: random.Random, home: Link = HOME, away: Link = HOME) -> None:
        self._rng = rng
        self.home = home
        self.away = away
        self._blocked: set[tuple[str, str]] = set()
        self.sent = 0
        self.bytes = 0

    def cut(self, group: tuple[str, ...], other: tuple[str, ...], *, one_way: bool = False) -> None:
        """Drop what goes from one group of regions to the other, and back unless ``one_way``."""
        for a in group:
            for b in other:
                self._blocked.add((a, b))
                if not one_way:
                    self._blocked.add((b, a))

    def heal(self) -> None:
        """Remove every cut."""
        self._blocked.clear()

    def arrivals(self, source_region: str, target_region: str, size: int) -> list[float]:
        """Delays, in seconds, after which copies of this datagram arrive; none if it is lost."""
        self.sent += 1
        self.bytes += size
        if (source_region, target_region) in self._blocked:
            return []
        link = self.home if source_region == target_region else self.away
        rng = self._rng
        if link.loss and rng.random() < link.loss:
            return []
        copies = 2 if link.duplication and rng.random() < link.duplication else 1
        delays = []
        for _ in range(copies):
            delay = link.latency + link.jitter * rng.random()
            if link.reordering and rng.random() < link.reordering:
                delay *= 10
            delays.append(delay)
        return delays

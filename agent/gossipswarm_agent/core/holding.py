"""Rows from clocks that run ahead: kept aside until their time has come.

Merging them at once would let one wrong clock win every conflict; dropping them would lose writes. They are
not counted as seen, so whatever is dropped here for lack of room is sent again by repair.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from gossipswarm_agent.core import clock
from gossipswarm_agent.core.batch import Dot, expand, rows_within, take
from gossipswarm_agent.core.messages import Batch, Ranges
from gossipswarm_agent.core.versions import VersionVector

HELD_LIMIT: Final = 10_000
"""Rows."""


class _Aside(NamedTuple):
    batch: Batch
    due: int
    """The earliest of its clocks."""
    dots: frozenset[Dot]


class Held:
    """Batches kept aside, oldest first."""

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self._limit = limit
        self._batches: deque[_Aside] = deque()
        self._dots: set[Dot] = set()
        self.rows = 0
        self.dropped = 0
        """Rows that made room for later ones."""

    def add(self, batch: Batch) -> None:
        """Keep these rows; the oldest go where there are too many. What is there already is skipped."""
        origins, sequences = expand(batch.runs)
        dots = list(zip(origins, sequences, strict=True))
        new = [index for index, dot in enumerate(dots) if dot not in self._dots]
        if not new:
            return
        aside = _Aside(take(batch, new), min(batch.clocks), frozenset(dots[index] for index in new))
        self._batches.append(aside)
        self._dots |= aside.dots
        self.rows += len(new)
        while self.rows > self._limit and len(self._batches) > 1:
            self.dropped += self._forget(self._batches.popleft())

    def sift(
        self, batch: Batch, limit: int, wall: int, vector: VersionVector
    ) -> tuple[Batch, dict[str, int]]:
        """Keep aside what has a clock of ``limit`` or above and was not seen.

        Returns:
            The writes below the limit, and by how many ms each other origin is ahead of ``wall`` at most.
        """
        within, beyond = part_ahead(batch, limit)
        ahead = take(batch, beyond)
        unseen: Ranges = {}
        for origin, first, dots, _ in ahead.runs:
            unseen.setdefault(origin, []).extend(vector.unseen(origin, first, first + dots - 1))
        ahead = take(ahead, rows_within(ahead.runs, unseen))
        skewed: dict[str, int] = {}
        if ahead.keys:
            self.add(ahead)
            for origin, stamp in zip(expand(ahead.runs)[0], ahead.clocks, strict=True):
                skewed[origin] = max(skewed.get(origin, 0), clock.milliseconds(stamp) - wall)
        return take(batch, within), skewed

    def take_due(self, limit: int) -> list[Batch]:
        """Batches with rows whose clocks are below ``limit``; they are not held any more."""
        due = [aside for aside in self._batches if aside.due < limit]
        if due:
            self._batches = deque(aside for aside in self._batches if aside.due >= limit)
            for aside in due:
                self._forget(aside)
        return [aside.batch for aside in due]

    def _forget(self, aside: _Aside) -> int:
        self._dots -= aside.dots
        self.rows -= len(aside.batch.keys)
        return len(aside.batch.keys)


def part_ahead(batch: Batch, limit: int) -> tuple[list[int], list[int]]:
    """Rows of writes below the limit, and of writes with a clock at or above it."""
    origins, sequences = expand(batch.runs)
    dots = list(zip(origins, sequences, strict=True))
    ahead = {dot for dot, stamp in zip(dots, batch.clocks, strict=True) if stamp >= limit}
    within: list[int] = []
    beyond: list[int] = []
    for index, dot in enumerate(dots):
        (beyond if dot in ahead else within).append(index)
    return within, beyond

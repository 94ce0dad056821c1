"""Collecting deletions once everybody has them, and remembering that it was done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gossipswarm_agent.core.batch import Dot
from gossipswarm_agent.core.messages import Ranges
from gossipswarm_agent.core.store import Store


class Tombstones:
    """Causal stability: a deletion may go when every declared member has it, never for its age."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.collected: dict[str, int] = {}
        """Highest sequence of a row that was collected, by origin."""

    def collect(self, floor: Mapping[str, int], limit: int) -> int:
        """Collect what the floor allows, ``limit`` at most; how many. A concurrent write beside a tombstone
        keeps it.
        """
        store = self._store
        ripe: dict[str, Dot] = {}
        for key in store.tombstones:
            if key not in store.siblings:
                dot = store.dot(key)
                if dot[1] <= floor.get(dot[0], 0):
                    ripe[key] = dot
                    if len(ripe) == limit:
                        break
        for key in ripe:
            store.bury(key)
        self.note(ripe.values())
        count = len(ripe)
        if count:
            self._store.forget_overlaps()
        return count

    def note(self, dots: Iterable[Dot]) -> None:
        """Rows of these writes went although nothing took their place."""
        for origin, sequence in dots:
            self.collected[origin] = max(self.collected.get(origin, 0), sequence)

    def beyond(self, seen: Mapping[str, int]) -> bool:
        """Whether somebody who has seen this much may hold what a tombstone deleted that was collected."""
        return any(seen.get(origin, 0) < last for origin, last in self.collected.items())

    def among(self, claims: Ranges) -> bool:
        """Whether a collected row may be one of these."""
        return any(
            low <= self.collected.get(origin, 0)
            for origin, spans in claims.items()
            for low, _ in spans
        )

    def forget_above(self, origin: str, last: int) -> None:
        """The dots of this origin above ``last`` stand for other writes from now on."""
        if self.collected.get(origin, 0) > last:
            self.collected[origin] = last

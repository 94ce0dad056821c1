"""Rows for those who follow an agent's state from outside the swarm: by dot while they follow, all of them to begin with.

What is not durable yet is left out, and what only such writes have replaced is still in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from gossipswarm_agent.core.batch import Dot, Row
from gossipswarm_agent.core.extraction import DotIndex, dot_of, is_within
from gossipswarm_agent.core.messages import Ranges
from gossipswarm_agent.core.store import Store
from gossipswarm_agent.core.undurable import Undurable


class Supply:
    """Takes rows out of one state."""

    def __init__(self, store: Store, dots: DotIndex, undurable: Undurable) -> None:
        self._store = store
        self._dots = dots
        self._undurable = undurable
        self.mended = 0
        """Times that rows came or went in a way that no version vector tells: who follows has to begin again."""

    def rows(self, ranges: Ranges) -> list[Row]:
        """Current rows of these dots, in the order of their dots; dots that are not durable must not be asked for."""
        rows = self._dots.rows(ranges)
        replaced = [row for row in self._undurable.replaced() if is_within(row, ranges)]
        if replaced:
            rows = sorted(
                {(row.key, *row.dot): row for row in [*rows, *replaced]}.values(), key=dot_of
            )
        return rows

    def everything(self, prefixes: Sequence[str] | None) -> Iterator[Row]:
        """Every current row at and below these keys (None: all there are), as of now, whatever happens while they are taken.

        Rows of one write need not follow each other.
        """
        waiting = frozenset(self._undurable.dots)
        replaced = list(self._undurable.replaced())
        found: Iterable[Row]
        if prefixes is None:
            found = self._all()
        else:
            store = self._store
            keys = {key for prefix in prefixes for key in (prefix, *store.below(prefix))}
            found = [row for key in sorted(keys) for row in store.rows(key)]
            replaced = [row for row in replaced if row.key in keys]
        if not waiting:
            return iter(found)
        return (row for row in chain(found, replaced) if row.dot not in waiting)

    def dots(self) -> dict[str, frozenset[Dot]]:
        """The writes that the current rows of each leaf belong to; leaves that are merely deleted left out."""
        store = self._store
        gone = store.tombstones - store.siblings.keys()
        return {
            key: frozenset(row.dot for row in store.rows(key))
            for key in store.leaves
            if key not in gone
        }

    def _all(self) -> Iterator[Row]:
        store = self._store
        # Decided at once and taken later: a chunk never changes, only whether it is still needed.
        parts = [
            (chunk, store.indexes_of_current(number)) for number, chunk in store.chunks.items()
        ]
        return (chunk.row(index) for chunk, indexes in parts for index in indexes)


def within(rows: Iterable[Row], prefixes: Sequence[str] | None) -> Iterable[Row]:
    """Those of the rows that are at or below one of these keys; None: all of them."""
    if prefixes is None:
        return rows
    exact, above = frozenset(prefixes), tuple(f"{prefix}." for prefix in prefixes)
    return [row for row in rows if row.key.startswith(above) or row.key in exact]

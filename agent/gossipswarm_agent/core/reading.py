"""What a reader sees: values assembled from leaves, with version, etag and conflicts.

A leaf that has a value and leaves below it (written concurrently) is an overlap: the side with the latest
write is visible, the other is hidden. An empty object is no value in this sense; it merely marks that the
object exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from gossipswarm_agent.core import clock, paths
from gossipswarm_agent.core.batch import Row
from gossipswarm_agent.core.hashtree import MASK, HashTree
from gossipswarm_agent.core.resolution import EMPTY_OBJECT, Policies
from gossipswarm_agent.core.results import Change, Reading
from gossipswarm_agent.core.versions import agent_of


class Leaves(Protocol):
    """Where rows are read from: the store, or the store as it will be after a write."""

    @property
    def overlaps(self) -> Collection[str]:
        """Leaves that have a value and may have leaves below them."""

    def rows(self, key: str) -> tuple[Row, ...]:
        """Current rows of a leaf."""

    def below(self, key: str, after: str = "") -> Sequence[str]:
        """Leaves strictly below a key, in order."""


_Contests: TypeAlias = dict[str, bool | None]
"""Overlaps that were decided while something is read: whether the value won."""


class Summary(NamedTuple):
    """State of a key without its value. ``etag`` is empty where nothing is visible."""

    version: int
    etag: str


class _Subtree(NamedTuple):
    visible: list[tuple[str, tuple[Row, ...]]]
    """Visible leaves and their current rows."""
    version: int
    contested: bool


class Reader:
    """Reads leaves under certain policies."""

    __slots__ = ("_hashes", "_leaves", "policies")

    def __init__(self, leaves: Leaves, policies: Policies, hashes: HashTree) -> None:
        self._leaves = leaves
        self.policies = policies
        self._hashes = hashes

    def read(self, key: str) -> Reading | None:
        """The visible value of a key, or None."""
        found = self._subtree(key)
        if not found.visible:
            return None
        policies = self.policies
        newest = max((policies.winner(rows) for _, rows in found.visible), key=lambda row: row.age)
        return Reading(
            key,
            self._assemble(key, found.visible),
            found.version,
            self._etag(found.visible),
            clock.milliseconds(newest.clock),
            agent_of(newest.origin),
            found.contested or any(policies.is_open(rows) for _, rows in found.visible),
            f"{newest.origin}:{newest.sequence}",
        )

    def summary(self, key: str) -> Summary:
        """Version and etag of a key; version 0 where nothing is known of it."""
        found = self._subtree(key)
        return Summary(found.version, self._etag(found.visible) if found.visible else "")

    def leaf(self, key: str) -> Reading | None:
        """The visible value of one leaf, whatever lies below it."""
        rows = self._leaves.rows(key)
        contests: _Contests = {}
        if not self._is_live(rows) or self._is_hidden(key, contests):
            return None
        winner = self.policies.winner(rows)
        return Reading(
            key,
            self.policies.value(rows),
            max(row.version for row in rows),
            self._etag([(key, rows)]),
            clock.milliseconds(winner.clock),
            agent_of(winner.origin),
            self.policies.is_open(rows) or self.contest(key, contests) is not None,
            f"{winner.origin}:{winner.sequence}",
        )

    def leaves(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys of the visible leaves at and below ``prefix`` that come after ``after``, in order."""
        contests: _Contests = {}
        candidates = self._leaves.below(prefix, after)
        for key in itertools.chain((prefix,) if prefix > after else (), candidates):
            if self._is_live(self._leaves.rows(key)) and not self._is_hidden(key, contests):
                yield key

    def value(self, key: str) -> msgspec.Raw:
        """The encoded value of a leaf that has one."""
        return self.policies.winner(self._leaves.rows(key)).value

    def change(self, key: str) -> Change:
        """What a watcher is told of a leaf."""
        rows = self._leaves.rows(key)
        if not rows:
            return Change("", key, None, True, 0, 0, "")
        winner = self.policies.winner(rows)
        deleted = winner.deleted or self._is_hidden(key, {})
        return Change(
            f"{winner.origin}:{winner.sequence}",
            key,
            None if deleted else self.policies.value(rows),
            deleted,
            max(row.version for row in rows),
            clock.milliseconds(winner.clock),
            agent_of(winner.origin),
        )

    def sides(self, key: str) -> tuple[Row | None, list[Row]]:
        """The two sides of an overlap: the value at ``key``, and the live rows below it."""
        rows = self._leaves.rows(key)
        at = self.policies.winner(rows) if self._is_live(rows) else None
        if at is not None and at.value == EMPTY_OBJECT:
            at = None
        rows_below = (self._leaves.rows(leaf) for leaf in self._leaves.below(key))
        return at, [self.policies.winner(rows) for rows in rows_below if self._is_live(rows)]

    def contest(self, key: str, known: _Contests) -> bool | None:
        """Whether the value of a leaf won over what lies below it; None where there is nothing to decide."""
        if key not in self._leaves.overlaps:
            return None
        if key not in known:
            at, below = self.sides(key)
            known[key] = None if at is None or not below else all(at.age > row.age for row in below)
        return known[key]

    # --- parts ------------------------------------------------------------------------------------

    def _subtree(self, key: str) -> _Subtree:
        candidates = [(leaf, self._leaves.rows(leaf)) for leaf in self._leaves.below(key)]
        rows = self._leaves.rows(key)
        if rows:
            candidates.insert(0, (key, rows))
        visible = [(leaf, rows) for leaf, rows in candidates if self._is_live(rows)]
        contested = False
        if self._leaves.overlaps:
            contests: _Contests = {}
            shown = [(leaf, rows) for leaf, rows in visible if not self._is_hidden(leaf, contests)]
            contested = len(shown) < len(visible) or any(
                self.contest(above, contests) is not None for above in paths.ancestors(key)
            )
            visible = shown
        version = sum(max(row.version for row in rows) - 1 for _, rows in candidates)
        return _Subtree(visible, 1 + version if candidates else 0, contested)

    def _assemble(self, key: str, visible: list[tuple[str, tuple[Row, ...]]]) -> Any:
        value = self.policies.value
        if len(visible) == 1 and visible[0][0] == key:
            return value(visible[0][1])
        start = len(key) + 1 if key else 0
        return paths.assemble(
            {tuple(paths.split(leaf[start:])): value(rows) for leaf, rows in visible}
        )

    def _etag(self, visible: list[tuple[str, tuple[Row, ...]]]) -> str:
        row_hash = self._hashes.row_hash
        total = sum(
            row_hash(key, row.origin, row.sequence)
            for key, rows in visible
            for row in self.policies.visible(rows)
        )
        return f"{total & MASK:016x}"

    def _is_live(self, rows: tuple[Row, ...]) -> bool:
        return bool(rows) and not self.policies.winner(rows).deleted

    def _is_hidden(self, key: str, contests: _Contests) -> bool:
        """Whether an overlap is decided against this leaf."""
        if not self._leaves.overlaps:
            return False
        return self.contest(key, contests) is False or any(
            self.contest(above, contests) for above in paths.ancestors(key)
        )

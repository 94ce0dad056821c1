"""Which keys lie below which: kept cheap where rows come in, put in order only when somebody reads."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Final

_INSERT_ONE_BY_ONE: Final = 64
"""Up to this many new keys are inserted singly; sorting anew pays above."""


class KeyIndex:
    """The keys of all leaves: in order, and as the set of their proper prefixes.

    ``interior`` has every key that some leaf lies below, and may have some that none does any more.
    """

    __slots__ = ("_gone", "_new", "_ordered", "interior")

    def __init__(self) -> None:
        self.interior: set[str] = set()
        self._ordered: list[str] = []
        self._new: list[str] = []
        self._gone: set[str] = set()
        """Keys in one of the lists that are no leaves any more: skipped, and swept up when they are many."""

    def add(self, keys: Sequence[str]) -> list[str]:
        """Note leaves that were not there before; the prefixes that became interior by them."""
        if self._gone:
            self._new += [key for key in keys if key not in self._gone]
            self._gone.difference_update(keys)
        else:
            self._new += keys
        interior = self.interior
        # An escaped dot makes a prefix that is no key ("a\" of "a\.b"). It is never looked up.
        parents = {key.rpartition(".")[0] for key in keys}
        parents -= interior
        risen = []
        for prefix in parents:
            while prefix and prefix not in interior:
                interior.add(prefix)
                risen.append(prefix)
                prefix = prefix.rpartition(".")[0]
        return risen

    def remove(self, key: str) -> None:
        """Note that a leaf went."""
        self._gone.add(key)
        if 2 * len(self._gone) > len(self._ordered) + len(self._new):
            remaining = [key for key in self._in_order() if key not in self._gone]
            self.interior = set()
            self._ordered, self._new, self._gone = [], [], set()
            self.add(remaining)

    def forget_empty(self, key: str) -> bool:
        """Take ``key`` for interior no more if no leaf lies below it; whether that is so."""
        if self.below(key):
            return False
        self.interior.discard(key)
        return True

    def below(self, key: str, after: str = "") -> Sequence[str]:
        """Leaves strictly below ``key`` (``""``: all but the swarm's own), in order, from ``after`` on."""
        if not key:
            return self._existing(self._span("", "$", after)) + self._existing(
                self._span("%", "", after)
            )
        if key not in self.interior:
            return ()
        # "/" is the character after ".", so this span is exactly what starts with "key.".
        return self._existing(self._span(key + ".", key + "/", after))

    def _span(self, start: str, end: str, after: str) -> list[str]:
        ordered = self._in_order()
        first = bisect_left(ordered, start)
        if after:
            first = max(first, bisect_right(ordered, after))
        return ordered[first : bisect_left(ordered, end) if end else None]

    def _existing(self, keys: list[str]) -> list[str]:
        gone = self._gone
        return [key for key in keys if key not in gone] if gone else keys

    def _in_order(self) -> list[str]:
        new = self._new
        if new:
            self._new = []
            if len(new) <= _INSERT_ONE_BY_ONE:
                for key in new:
                    insort(self._ordered, key)
            else:
                self._ordered += new
                self._ordered.sort()
        return self._ordered

"""Dots and version vectors: which writes an agent has seen.

A dot is (origin, sequence). The vector holds, per origin, the contiguous part and the ranges above a gap,
so rows may be applied in any order and a gap is visible at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from gossipswarm_agent.core.messages import Ranges, Run

_MASK = (1 << 64) - 1


def salt_of(origin: str) -> int:
    """64 bits that stand for an origin in hashes, the same on every agent."""
    return int.from_bytes(blake2b(origin.encode(), digest_size=8).digest(), "big")


def agent_of(origin: str) -> str:
    """The agent's name in an origin (``name/epoch``)."""
    return origin.rpartition("/")[0]


class VersionVector:
    """What was seen, and an order-independent 64-bit hash of its contiguous part."""

    __slots__ = ("_hash", "_hashes", "_salts", "_stale", "ahead", "seen")

    def __init__(self, seen: dict[str, int] | None = None) -> None:
        self.seen: dict[str, int] = {}
        """Origin to the last sequence of the contiguous part."""
        self.ahead: Ranges = {}
        """What was seen above a gap."""
        self._hash = 0
        self._hashes: dict[str, int] = {}
        """Origin to what it contributes to the hash."""
        self._stale: set[str] = set()
        """Origins whose contribution is out of date: asking for the hash is rarer than adding."""
        self._salts: dict[str, int] = {}
        for origin, last in (seen or {}).items():
            self.add(origin, 1, last)

    @property
    def hash(self) -> int:
        """Hash of the contiguous part."""
        if self._stale:
            hashes, salts = self._hashes, self._salts
            for origin in self._stale:
                if origin not in salts:
                    salts[origin] = salt_of(origin)
                last = self.seen.get(origin, 0)
                # Tuples of integers hash alike in every process, and in C.
                contribution = hash((salts[origin], last)) if last else 0
                self._hash += contribution - hashes.get(origin, 0)
                hashes[origin] = contribution
            self._stale.clear()
            self._hash &= _MASK
        return self._hash

    def covers(self, origin: str, sequence: int) -> bool:
        """Whether this dot was seen."""
        if sequence <= self.seen.get(origin, 0):
            return True
        ranges = self.ahead.get(origin)
        return ranges is not None and any(low <= sequence <= high for low, high in ranges)

    def includes(self, seen: dict[str, int], ahead: Ranges) -> bool:
        """Whether everything that this other vector has seen was seen here."""
        return not any(self.unseen(origin, 1, last) for origin, last in seen.items()) and not any(
            self.unseen(origin, *span) for origin, spans in ahead.items() for span in spans
        )

    def add_all(self, runs: Sequence[Run]) -> Ranges | None:
        """Mark the dots of these runs as seen.

        Returns:
            None if all of them were new, as is the rule; otherwise those that were.
        """
        seen, ahead, stale = self.seen, self.ahead, self._stale
        for index, (origin, first, dots, _) in enumerate(runs):
            if seen.get(origin, 0) != first - 1 or origin in ahead:
                return self._add_each(runs, index)
            seen[origin] = first + dots - 1
            stale.add(origin)
        return None

    def _add_each(self, runs: Sequence[Run], start: int) -> Ranges | None:
        """Like ``add_all``, where the runs before ``start`` were new and are added already."""
        fresh: Ranges = {}
        for origin, first, dots, _ in runs[:start]:
            fresh.setdefault(origin, []).append((first, first + dots - 1))
        whole = True
        for origin, first, dots, _ in runs[start:]:
            span = (first, first + dots - 1)
            added = self.add(origin, *span)
            fresh.setdefault(origin, []).extend(added)
            whole = whole and added == [span]
        return None if whole else fresh

    def add(self, origin: str, first: int, last: int) -> list[tuple[int, int]]:
        """Mark ``first..last`` as seen; the ranges of it that were not seen before."""
        top = self.seen.get(origin, 0)
        if first == top + 1 and origin not in self.ahead:
            self._raise(origin, last)
            return [(first, last)]
        if last <= top:
            return []
        known = self.ahead.get(origin, [])
        fresh = _subtract((max(first, top + 1), last), known)
        if not fresh:
            return []
        ranges = _join(sorted([*known, *fresh]))
        if ranges[0][0] == top + 1:
            self._raise(origin, ranges.pop(0)[1])
        if ranges:
            self.ahead[origin] = ranges
        else:
            self.ahead.pop(origin, None)
        return fresh

    def _raise(self, origin: str, last: int) -> None:
        self.seen[origin] = last
        self._stale.add(origin)

    def unseen(self, origin: str, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges of ``first..last`` that were not seen yet."""
        top = self.seen.get(origin, 0)
        if last <= top:
            return []
        return _subtract((max(first, top + 1), last), self.ahead.get(origin, []))

    def known(self, ranges: Ranges) -> Ranges:
        """The part of these ranges that was seen."""
        known: Ranges = {}
        for origin, spans in ranges.items():
            seen = [(1, self.seen.get(origin, 0)), *self.ahead.get(origin, ())]
            parts = [
                (max(low, first), min(high, last))
                for low, high in spans
                for first, last in seen
                if max(low, first) <= min(high, last)
            ]
            if parts:
                known[origin] = parts
        return known

    def ranges(self) -> Ranges:
        """Everything that was seen."""
        ranges: Ranges = {origin: [(1, last)] for origin, last in self.seen.items()}
        for origin, spans in self.ahead.items():
            ranges.setdefault(origin, []).extend(spans)
        return ranges

    def highest(self, origin: str) -> int:
        """Largest sequence seen of this origin; 0 if none."""
        ranges = self.ahead.get(origin)
        return ranges[-1][1] if ranges else self.seen.get(origin, 0)

    def truncate(self, origin: str, last: int) -> None:
        """Forget everything of this origin above ``last``."""
        self.ahead.pop(origin, None)
        self._stale.add(origin)
        if last:
            self.seen[origin] = min(last, self.seen.get(origin, 0))
        else:
            self.seen.pop(origin, None)

    def missing_from(self, seen: dict[str, int], ahead: Ranges) -> Ranges:
        """Ranges seen here that the other vector lacks."""
        lacking: Ranges = {}
        for origin, last in self.seen.items():
            other = seen.get(origin, 0)
            if last > other:
                gaps = _subtract((other + 1, last), ahead.get(origin, []))
                if gaps:
                    lacking[origin] = gaps
        for origin, ranges in self.ahead.items():
            theirs = [(1, seen.get(origin, 0)), *ahead.get(origin, [])]
            gaps = [gap for span in ranges for gap in _subtract(span, theirs)]
            if gaps:
                lacking.setdefault(origin, []).extend(gaps)
        return lacking

    def gaps(self) -> Ranges:
        """Ranges that are missing below something seen."""
        return {
            origin: _subtract((self.seen.get(origin, 0) + 1, ranges[-1][1]), ranges)
            for origin, ranges in self.ahead.items()
        }


def common(one: Ranges, other: Ranges) -> Ranges:
    """Dots that are in both."""
    shared: Ranges = {}
    for origin, spans in one.items():
        both = [
            (max(low, first), min(high, last))
            for low, high in spans
            for first, last in other.get(origin, ())
            if max(low, first) <= min(high, last)
        ]
        if both:
            shared[origin] = both
    return shared


def _subtract(span: tuple[int, int], known: list[tuple[int, int]]) -> list[tuple[int, int]]:
    low, high = span
    rest = []
    for first, last in known:
        if last < low:
            continue
        if first > high:
            break
        if first > low:
            rest.append((low, first - 1))
        low = last + 1
    if low <= high:
        rest.append((low, high))
    return rest


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined = [ranges[0]]
    for low, high in ranges[1:]:
        if low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined

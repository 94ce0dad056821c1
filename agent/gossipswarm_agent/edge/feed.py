"""What an agent has for its edges, as frames: what one of them lacks, everything, and what is new for all; no input or output.

*Sent* is what every level edge was sent. An edge is told of each write, by a row or by a claim that it needs none, so that its version
vector means the same at any agent. Claims without any row can wait: edges of some prefixes are told of writes elsewhere a few times a
second, whatever their number, and are *owed* them until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from gossipswarm_agent.core.batch import Row, pack
from gossipswarm_agent.core.extraction import dot_of, without_rows
from gossipswarm_agent.core.messages import Ranges
from gossipswarm_agent.core.messages import encode as encode_message
from gossipswarm_agent.core.state import State
from gossipswarm_agent.core.supply import within
from gossipswarm_agent.core.versions import VersionVector
from gossipswarm_agent.edge.frames import PIECE_BYTES, Begin, End, Rows, encode

PORTION_DOTS: Final = 2048
"""Writes of which the rows are looked for in one go."""

GATHERED_ROWS: Final = 512
"""Rows of the whole that are put in order together: a batch must not have one write in two places."""

Prefixes: TypeAlias = tuple[str, ...] | None
"""Subtrees that an edge holds; None = everything."""


class Feed:
    """Frames about one state."""

    def __init__(self, state: State) -> None:
        self.number = 0
        """Of the last round."""
        self.sent = copied(state.vector)
        self._state = state
        self._mended = state.supply.mended
        self._told: dict[Prefixes, VersionVector] = {}
        """What level edges of these prefixes were told, where they are owed claims."""
        self._paid: list[Prefixes] = []
        """Who was told everything in this round."""

    # --- one edge ---------------------------------------------------------------------------------

    def must_begin_again(self, seen: dict[str, int]) -> bool:
        """Whether a version vector does not tell what an edge with it lacks: it has nothing yet, or it may have what a
        tombstone deleted that is collected here."""
        return not seen or self._state.collected_beyond(seen)

    def lacking(self, vector: VersionVector) -> Ranges:
        """Some of what an edge with this vector lacks of what was sent; empty = it is level."""
        return _portion(self.sent.missing_from(vector.seen, vector.ahead))

    def rows(self, ranges: Ranges, prefixes: Prefixes) -> list[bytes] | None:
        """What an edge lacks, in pieces; None if it has to begin again."""
        rows = list(within(self._state.supply.rows(self._state.vector.known(ranges)), prefixes))
        claims = without_rows(ranges, rows)
        return None if self._state.lost_among(claims) else list(_pieces(rows, claims, 0))

    def everything(self, prefixes: Prefixes) -> tuple[VersionVector, Iterator[bytes]]:
        """The whole in pieces, as of now whatever happens while they are taken, and what an edge has seen with it."""
        vector = copied(self.sent)
        end = encode(End(self.sent.seen, self.sent.ahead))
        return vector, self._whole(self._state.supply.everything(prefixes), end)

    def _whole(self, rows: Iterable[Row], end: bytes) -> Iterator[bytes]:
        yield encode(Begin())
        taken = iter(rows)
        while some := sorted(islice(taken, GATHERED_ROWS), key=dot_of):
            for batch in pack(some, "", PIECE_BYTES):
                yield encode(Rows(0, [encode_message(batch)]))
        yield end

    # --- all of them ------------------------------------------------------------------------------

    def begin_again(self) -> bool:
        """Whether the state was mended, so that every edge has to begin again; said once."""
        mended = self._state.supply.mended
        if mended == self._mended:
            return False
        self._mended = mended
        self.sent = copied(self._state.vector)
        self._told.clear()
        return True

    def upcoming(self) -> Ranges:
        """Some of what is new; to be passed to ``round`` and then to ``was_sent``."""
        vector, sent = self._state.vector, self.sent
        return _portion(vector.missing_from(sent.seen, sent.ahead))

    def round(
        self, ranges: Ranges, groups: Collection[Prefixes]
    ) -> Iterator[tuple[Prefixes, list[bytes]]]:
        """What is new, in pieces for the level edges of each of these prefixes; none where it is elsewhere."""
        self.number += 1
        rows = self._state.supply.rows(ranges)
        before: VersionVector | None = None
        for prefixes in groups:
            held = list(within(rows, prefixes))
            if prefixes is not None and not held:
                if prefixes not in self._told:
                    # One for all of them: with a thousand origins it takes a millisecond.
                    before = before or copied(self.sent)
                    self._told[prefixes] = before
                continue
            claims = _joined(self._owed(prefixes), without_rows(ranges, held))
            self._paid.append(prefixes)
            yield prefixes, list(_pieces(held, claims, self.number))

    def was_sent(self, ranges: Ranges) -> None:
        """Every level edge was sent this, or is owed it."""
        add(self.sent, ranges)
        for prefixes in self._paid:
            self._told.pop(prefixes, None)
        self._paid.clear()

    def told(self, prefixes: Prefixes) -> VersionVector:
        """What level edges of these prefixes have, as a vector of its own."""
        return copied(self._told.get(prefixes, self.sent))

    def debts(self) -> Iterator[tuple[Prefixes, bytes]]:
        """What level edges are owed, by their prefixes. Each is paid once the next is asked for."""
        encoded: dict[int, bytes] = {}
        for prefixes, told in list(self._told.items()):
            if id(told) not in encoded:
                encoded[id(told)] = encode(Rows(self.number, [], self._owed(prefixes)))
            yield prefixes, encoded[id(told)]
            del self._told[prefixes]

    def _owed(self, prefixes: Prefixes) -> Ranges:
        told = self._told.get(prefixes)
        return {} if told is None else self.sent.missing_from(told.seen, told.ahead)


def _pieces(rows: Iterable[Row], claims: Ranges, number: int) -> Iterator[bytes]:
    """Frames with these rows; the last one has the claims and the number."""
    previous: list[bytes] = []
    for batch in pack(rows, "", PIECE_BYTES):
        if previous:
            yield encode(Rows(0, previous))
        previous = [encode_message(batch)]
    yield encode(Rows(number, previous, claims))


def _joined(one: Ranges, other: Ranges) -> Ranges:
    return {
        origin: [*one.get(origin, ()), *other.get(origin, ())]
        for origin in one.keys() | other.keys()
    }


def _portion(ranges: Ranges) -> Ranges:
    """Some of these dots."""
    left = PORTION_DOTS
    portion: Ranges = {}
    for origin, spans in ranges.items():
        for first, last in spans:
            taken = min(left, last - first + 1)
            if not taken:
                return portion
            portion.setdefault(origin, []).append((first, first + taken - 1))
            left -= taken
    return portion


def add(vector: VersionVector, ranges: Ranges) -> None:
    """Count these dots as seen."""
    for origin, spans in ranges.items():
        for first, last in spans:
            vector.add(origin, first, last)


def copied(vector: VersionVector) -> VersionVector:
    """A vector of its own."""
    copy = VersionVector()
    add(copy, vector.ranges())
    return copy

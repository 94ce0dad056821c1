"""Membership news on its way to everybody: gathered for a moment, then flooded together (SWIM, section 4.1)."""

from __future__ import annotations

from math import inf
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.members import MemberTable, rank
from gossipswarm_agent.core.messages import MemberRecord, Members, encode

NEWS_BYTES: Final = 1200
"""Encoded records in one flooded message; with the envelope they fit a datagram of 1,400 bytes."""
JOIN_DELAY: Final = 0.02
"""Seconds during which joins are gathered into one flood. Suspicion, death and refutation do not wait."""
HEARSAY_DELAY: Final = (0.1, 0.5)
"""Seconds, drawn at random, before what a table told is flooded, unless somebody floods it first: the flood
that made it news to the table's sender is mostly still on its way."""


class News:
    """Names whose present claim is to be flooded, and when."""

    def __init__(self, ctx: Context, table: MemberTable) -> None:
        self._ctx = ctx
        self._table = table
        self._names: dict[str, None] = {}
        self._dispensable: set[str] = set()
        self.deadline = inf
        """Monotonic seconds at which to flush."""

    def publish(self, name: str) -> None:
        """Flood what is held of this name as soon as the event is over."""
        self._dispensable.discard(name)
        self._add(name, 0.0)

    def publish_join(self, name: str) -> None:
        """Flood that somebody joined, together with those that join at the same moment."""
        self._add_dispensable(name, JOIN_DELAY)

    def repeat(self, name: str) -> None:
        """Flood what a table told, should nobody else: others may have missed it as well."""
        self._add_dispensable(name, self._ctx.rng.uniform(*HEARSAY_DELAY))

    def heard(self, flooded: MemberRecord) -> None:
        """Somebody else floods this claim: no need to do it again."""
        name = flooded.name
        held = self._table.members.get(name)
        if name in self._dispensable and held is not None and rank(held) == rank(flooded):
            self._dispensable.discard(name)
            self._names.pop(name, None)

    def flush(self) -> None:
        """Flood all of it, in as few messages as fit datagrams."""
        self.deadline = inf
        chunk: list[MemberRecord] = []
        size = 0
        for name in self._names:
            member = self._table.find(name)
            if member is None:
                continue
            record = member.record()
            length = len(encode(record))
            if chunk and size + length > NEWS_BYTES:
                self._ctx.flood(Members(self._ctx.name, chunk))
                chunk, size = [], 0
            chunk.append(record)
            size += length
        if chunk:
            self._ctx.flood(Members(self._ctx.name, chunk))
        self._names.clear()
        self._dispensable.clear()

    def _add_dispensable(self, name: str, delay: float) -> None:
        if name not in self._names:
            self._dispensable.add(name)
        self._add(name, delay)

    def _add(self, name: str, delay: float) -> None:
        self._names[name] = None
        self.deadline = min(self.deadline, self._ctx.now.mono + delay)

"""Membership news on its way to everybody: gathered for a moment, then flooded together (SWIM, section 4.1).

A spread tree depends on who is alive, so news that changes that travels best along the trees of before it.
Whoever starts it floods first and believes then; whoever hears it believes it ``TAKE_IN`` later, for a frame
comes along ``redundancy`` trees, and all its copies must be passed on alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.members import MemberTable, rank
from gossipswarm_agent.core.messages import MemberRecord, Members, encode

NEWS_BYTES: Final = 1200
"""Encoded records in one flooded message; with the envelope they fit a datagram of 1,400 bytes."""
HEARSAY_DELAY: Final = (0.1, 0.5)
"""Seconds, drawn at random, before what a table told is flooded, unless somebody floods it first: the flood
that made it news to the table's sender is mostly still on its way."""
TAKE_IN: Final = 0.06
"""Seconds between hearing that somebody joined or died and believing it: longer than copies of a frame lie apart."""


class Incoming:
    """News that was heard and is not believed yet."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: dict[str, tuple[float, MemberRecord, str]] = {}
        self.deadline = inf
        """Monotonic seconds at which the next one is due."""

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def add(self, record: MemberRecord, sender: str) -> None:
        """Believe this claim by ``sender`` a moment later; of two about one name, the one that ranks higher."""
        waiting = self._waiting.get(record.name)
        if waiting is None or rank(record) > rank(waiting[1]):
            due = self._ctx.now.mono + TAKE_IN
            self._waiting[record.name] = (due, record, sender)
            self.deadline = min(self.deadline, due)

    def take(self, name: str) -> list[tuple[MemberRecord, str]]:
        """The claim about this name, if there is one, to believe at once."""
        waiting = self._waiting.pop(name, None)
        return [] if waiting is None else [waiting[1:]]

    def due(self) -> list[tuple[MemberRecord, str]]:
        """Claims to believe now, and who makes them."""
        now = self._ctx.now.mono
        if now < self.deadline:
            return []
        found = [(record, sender) for due, record, sender in self._waiting.values() if now >= due]
        for record, _ in found:
            del self._waiting[record.name]
        self.deadline = min((due for due, _, _ in self._waiting.values()), default=inf)
        return found


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

    def repeat(self, name: str) -> None:
        """Flood what a table told, should nobody else: others may have missed it as well."""
        if name not in self._names:
            self._dispensable.add(name)
        self._add(name, self._ctx.rng.uniform(*HEARSAY_DELAY))

    def heard(self, flooded: MemberRecord) -> None:
        """Somebody else floods this claim: no need to do it again."""
        name = flooded.name
        held = self._table.members.get(name)
        if name in self._dispensable and held is not None and rank(held) == rank(flooded):
            self._dispensable.discard(name)
            self._names.pop(name, None)

    def flush(self) -> None:
        """Flood all of it."""
        self.deadline = inf
        members = [self._table.find(name) for name in self._names]
        self._names.clear()
        self._dispensable.clear()
        self.flood([member.record() for member in members if member is not None])

    def flood(self, records: Iterable[MemberRecord]) -> None:
        """Flood these claims now, in as few messages as fit datagrams."""
        chunk: list[MemberRecord] = []
        size = 0
        for record in records:
            length = len(encode(record))
            if chunk and size + length > NEWS_BYTES:
                self._ctx.flood(Members(self._ctx.name, chunk))
                chunk, size = [], 0
            chunk.append(record)
            size += length
        if chunk:
            self._ctx.flood(Members(self._ctx.name, chunk))

    def _add(self, name: str, delay: float) -> None:
        self._names[name] = None
        self.deadline = min(self.deadline, self._ctx.now.mono + delay)

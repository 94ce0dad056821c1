"""Letting agents in: the joiner gets the whole table, everybody else gets the news of it.

Those that join at the same moment are gathered, flooded in one message, and only then taken in (``news.py``
says why in this order).
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from msgspec.structs import replace

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.members import DEAD, Forgotten, MemberTable, rank
from gossipswarm_agent.core.messages import Join, MemberRecord, Members
from gossipswarm_agent.core.news import Incoming, News

GATHER: Final = 0.02
"""Seconds during which those that join are gathered."""


class _Learn(Protocol):
    def __call__(self, record: MemberRecord, sender: str, *, flooded: bool) -> bool: ...


class Admission:
    """Answers ``Join``. ``learn`` takes a claim into the table and says whether it is news."""

    def __init__(
        self,
        ctx: Context,
        table: MemberTable,
        forgotten: Forgotten,
        news: News,
        incoming: Incoming,
        learn: _Learn,
    ) -> None:
        self._ctx = ctx
        self._table = table
        self._forgotten = forgotten
        self._news = news
        self._incoming = incoming
        self._learn = learn
        self._waiting: dict[str, MemberRecord] = {}
        self.deadline = inf
        """Monotonic seconds at which to let in whoever waits."""

    def handle(self, message: Join) -> None:
        """Somebody wants in, or looks for those it lost."""
        record = message.record
        self._ctx.count("joins")
        # It may have left a moment ago and be back: believed later, its farewell would count for its new life.
        for claim, sender in self._incoming.take(record.name):
            self._learn(claim, sender, flooded=True)
        held = self._table.members.get(record.name)
        if held is not None and held.status < DEAD:
            if self._learn(record, record.name, flooded=False):
                self._news.publish(record.name)
        elif self._may_enter(record):
            self._waiting[record.name] = record
            self.deadline = min(self.deadline, self._ctx.now.mono + GATHER)
        known = [self._table.own, *self._table.members.values()]
        records = [member.record() for member in known if member.name not in self._waiting]
        records += self._waiting.values()
        lost = self._forgotten.incarnation(record.name)
        if record.incarnation <= lost:
            # It lost its journal: let it rise above the incarnation it died in.
            records.append(replace(record, incarnation=lost, status=DEAD))
        self._send((record.host, record.port), records, whole=True)

    def tick(self) -> None:
        """Let in whoever waits."""
        if self._ctx.now.mono < self.deadline:
            return
        self.deadline = inf
        records = list(self._waiting.values())
        self._waiting.clear()
        self._news.flood(records)
        for record in records:
            self._learn(record, record.name, flooded=False)
        if len(records) > 1:
            # Their tables lack those that came after them.
            for record in records:
                self._send((record.host, record.port), records, whole=False)

    def _may_enter(self, record: MemberRecord) -> bool:
        held = self._table.members.get(record.name)
        if held is not None:
            return rank(record) > rank(held)
        room = len(self._table.live()) + len(self._waiting) + 1 < self._ctx.settings.max_agents
        return room and record.incarnation > self._forgotten.incarnation(record.name)

    def _send(self, address: tuple[str, int], records: list[MemberRecord], *, whole: bool) -> None:
        self._ctx.send((address,), Members(self._ctx.name, records, flood=False, whole=whole))

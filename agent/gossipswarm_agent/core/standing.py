"""What this agent claims of itself, and what it does about claims that differ.

Suspicion and death are refuted at once, with a higher incarnation (SWIM, section 4.2). Another process with
the same name is a conflict: the claim that ranks higher holds everywhere, so everybody's answers go there
and the other one is deaf. It is told, stands aside and takes the name back once the holder is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.members import ALIVE, DEAD, MemberTable, rank
from gossipswarm_agent.core.messages import MemberRecord, Members
from gossipswarm_agent.core.news import News
from gossipswarm_agent.core.probing import LocalHealth

CONFLICTS: Final = 1024
"""Conflicts remembered so that each is told once; beyond that all are forgotten."""


class Standing:
    """Guards this agent's own claim. ``stand_aside(outranked)`` is called when that changes."""

    def __init__(
        self,
        ctx: Context,
        table: MemberTable,
        news: News,
        health: LocalHealth,
        stand_aside: Callable[[bool], None],
    ) -> None:
        self._ctx = ctx
        self._table = table
        self._news = news
        self._health = health
        self._stand_aside = stand_aside
        self._conflicts: set[tuple[str, int]] = set()
        self.outranked = False

    def claim(self, incarnation: int | None = None, status: int | None = None) -> None:
        """Change what this agent claims of itself."""
        own = self._table.own.record()
        self._table.set_own(
            replace(
                own,
                incarnation=own.incarnation if incarnation is None else incarnation,
                status=own.status if status is None else status,
            )
        )

    def hear(self, record: MemberRecord, sender: str) -> None:
        """Somebody claims something of this agent's name."""
        own = self._table.own
        if own.status >= DEAD or record.incarnation < own.incarnation:
            return
        elsewhere = (record.host, record.port) != own.address
        if record.status != ALIVE or (not elsewhere and record.incarnation > own.incarnation):
            # Also a claim of an earlier life that this one has no memory of.
            self._refute(record.incarnation, sender)
        elif elsewhere:
            self.note_conflict(record, own.record())
            self._set_outranked(rank(record) > rank(own))
            if not self.outranked:
                self._news.publish(own.name)

    def note_conflict(self, one: MemberRecord, other: MemberRecord) -> None:
        """Two processes use one name: count it, and tell it once."""
        key = (one.name, one.incarnation)
        if key in self._conflicts:
            return
        if len(self._conflicts) >= CONFLICTS:
            self._conflicts.clear()
        self._conflicts.add(key)
        holder, loser = (one, other) if rank(one) > rank(other) else (other, one)
        self._ctx.count("name_conflicts")
        detail = {
            "member": one.name,
            "incarnation": holder.incarnation,
            "holder": f"{holder.host}:{holder.port}",
            "loser": f"{loser.host}:{loser.port}",
        }
        self._ctx.effects.append(Notify("name-conflict", detail))

    def _refute(self, incarnation: int, sender: str) -> None:
        self.claim(incarnation=incarnation + 1)
        self._set_outranked(False)
        self._health.worse()
        self._ctx.count("refutations")
        self._news.publish(self._ctx.name)
        accuser = self._table.members.get(sender)
        if accuser is not None:
            refutation = Members(self._ctx.name, [self._table.own.record()], flood=False)
            self._ctx.send((accuser.address,), refutation)

    def _set_outranked(self, outranked: bool) -> None:
        if outranked != self.outranked:
            self.outranked = outranked
            self._stand_aside(outranked)

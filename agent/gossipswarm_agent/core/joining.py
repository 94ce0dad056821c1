"""Finding the swarm: at first, and again whenever a part of it was lost from sight.

An agent alone asks one seed after the other, ever more slowly, for ever. An agent in company asks now and
then somebody it cannot see: a seed that is no live member, a dead member, one beyond a cut. So halves that
hold each other for dead meet again, and nobody sends anything where nobody is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.members import DEAD, MemberTable
from gossipswarm_agent.core.messages import Join

FIRST_RETRY: Final = 0.1
RETRY_LIMIT: Final = 5.0
REUNION: Final = 5.0
"""Seconds between two attempts to reach somebody out of sight."""


class Joining:
    """Sends ``Join`` to whoever might let this agent in."""

    def __init__(self, ctx: Context, table: MemberTable, reachable: Callable[[str], bool]) -> None:
        self._ctx = ctx
        self._table = table
        self._reachable = reachable
        self.outside = False
        """Nobody answers to our address, whatever we know of the swarm: keep asking like one alone."""
        self._seeds: tuple[Address, ...] = ()
        self._tried = 0
        self._delay = FIRST_RETRY
        self.deadline = inf
        """Monotonic seconds of the next attempt."""

    @property
    def has_seeds(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._seeds)

    def set_seeds(self, seeds: Iterable[Address]) -> None:
        """Where to ask; new seeds are asked at once if this agent is alone."""
        own = self._table.own.address
        found = tuple(dict.fromkeys(seed for seed in seeds if seed != own))
        changed = set(found) != set(self._seeds)
        if changed:
            self._seeds = tuple(self._ctx.rng.sample(found, len(found)))
            self._delay = FIRST_RETRY
        if changed or self.deadline == inf:
            self.deadline = self._ctx.now.mono if not self._table.live() else self._later()

    def ask_soon(self) -> None:
        """Ask again after the usual delay, not first after a reunion's."""
        self.deadline = min(self.deadline, self._ctx.now.mono + self._delay)

    def tick(self) -> None:
        """Ask whoever is next."""
        if self._ctx.now.mono < self.deadline:
            return
        if self._table.own.status >= DEAD:
            self.deadline = inf
            return
        live = self._table.live()
        if self.outside or not live:
            known = tuple(member.address for member in self._table.members.values())
            self._ask_next_of(self._seeds or known)
            return
        addresses = {member.address for member in live}
        strange = [seed for seed in self._seeds if seed not in addresses]
        if strange and self._delay < RETRY_LIMIT:
            # Those that started together may have found nobody but each other: look further, soon.
            self._ask_next_of(strange)
            return
        missing = [*strange, *self._lost()]
        if missing:
            self._ask(self._ctx.rng.choice(missing))
        self.deadline = self._later()

    def _ask_next_of(self, doors: Sequence[Address]) -> None:
        if doors:
            self._ask(doors[self._tried % len(doors)])
            self._tried += 1
        self.deadline = self._ctx.now.mono + self._delay * self._ctx.rng.uniform(0.8, 1.2)
        self._delay = min(RETRY_LIMIT, 2 * self._delay)

    def _lost(self) -> list[Address]:
        """Members that are dead or beyond a cut."""
        beyond = {region for region in self._table.regions() if not self._reachable(region)}
        if not beyond and len(self._table.live()) == len(self._table.members):
            return []
        return [
            member.address
            for member in self._table.members.values()
            if member.status == DEAD or (member.status < DEAD and member.region in beyond)
        ]

    def _ask(self, address: Address) -> None:
        self._ctx.count("joins_sent")
        self._ctx.send((address,), Join(self._ctx.name, self._table.own.record()))

    def _later(self) -> float:
        return self._ctx.now.mono + REUNION * self._ctx.rng.uniform(0.8, 1.2)

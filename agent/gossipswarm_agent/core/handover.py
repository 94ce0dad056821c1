"""Making sure that others have all that this agent has, before it goes for good.

An order notes everything seen at that moment and asks a few peers whether they hold all of it (``HoldRequest``). One that
does syncs its journal and says so (``HoldReply``); one that does not asks for the rest, as in any repair, and is asked
again. Peers that do not answer are followed by others, and so are those that are about to go themselves. The order is
done when enough have said yes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Append, Reply
from gossipswarm_agent.core.events import HandOver
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.membership import Member, Membership
from gossipswarm_agent.core.messages import HoldReply, HoldRequest, Ranges
from gossipswarm_agent.core.state import State

FIRST_RETRY: Final = 0.2
RETRY_LIMIT: Final = 1.0
"""Seconds between two rounds of questions, at first and at last."""
UNSYNCED_LIMIT: Final = 64
"""Questions whose answers wait for the disk; a further one is not answered, and will be asked again."""


class _Order:
    __slots__ = (
        "ahead", "asked", "copies", "delay", "due", "holders", "leaving", "number", "seen", "token",
        "width",
    )  # fmt: skip

    def __init__(self, event: HandOver, number: int, seen: dict[str, int], ahead: Ranges) -> None:
        self.token = event.token
        self.number = number
        self.copies = event.copies
        self.leaving = set(event.leaving)
        self.seen = seen
        self.ahead = ahead
        self.holders: set[str] = set()
        self.asked: dict[str, int] = {}
        """Peer to how often it was asked."""
        self.width = event.copies + 1
        """How many to ask: one that is busy or gone costs no time. Ever more while too few answer."""
        self.delay = FIRST_RETRY
        self.due = -inf


class Handover:
    """Asks others to hold what this agent has, and answers those that ask. ``fetch`` repairs from an address."""

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        state: State,
        fetch: Callable[[Address], None],
    ) -> None:
        self.leaving = False
        """This agent is about to go: it vouches for nobody's writes."""
        self._ctx = ctx
        self._membership = membership
        self._state = state
        self._fetch = fetch
        self._orders: dict[int, _Order] = {}
        self._numbers = 0
        self._unsynced: dict[int, tuple[Address, int]] = {}
        """Token of a sync to whom it will be told."""
        self._syncs = 0

    # --- who goes ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return min([order.due for order in self._orders.values()], default=inf)

    def order(self, event: HandOver) -> None:
        """Begin; ``Reply(token, names of the holders)`` follows, at once if there is nobody to ask."""
        self._numbers += 1
        vector = self._state.vector
        ahead = {origin: list(spans) for origin, spans in vector.ahead.items()}
        self._orders[self._numbers] = _Order(event, self._numbers, dict(vector.seen), ahead)
        self._advance(self._orders[self._numbers])

    def cancel(self, token: int) -> None:
        """Nobody waits for this order any more."""
        self._orders = {n: order for n, order in self._orders.items() if order.token != token}

    def holders(self, token: int) -> list[str]:
        """Who has confirmed so far, for an order that is under way."""
        found = [order.holders for order in self._orders.values() if order.token == token]
        return sorted(set().union(*found))

    def tick(self) -> None:
        """Ask again, or others."""
        now = self._ctx.now.mono
        for order in [order for order in self._orders.values() if order.due <= now]:
            self._advance(order)

    def handle_reply(self, message: HoldReply) -> None:
        """Somebody holds all that was asked about, or goes as well."""
        order = self._orders.get(message.number)
        if order is None or message.sender not in order.asked:
            return
        if message.leaving:
            order.leaving.add(message.sender)
            self._advance(order)
            return
        order.holders.add(message.sender)
        if self._is_done(order, self._others(order)):
            self._finish(order)

    def _advance(self, order: _Order) -> None:
        others = self._others(order)
        if self._is_done(order, others):
            self._finish(order)
            return
        rng = self._ctx.rng
        candidates = [member for member in others if member.name not in order.holders]
        rng.shuffle(candidates)
        candidates.sort(key=lambda member: order.asked.get(member.name, 0))
        chosen = candidates[: order.width]
        order.width *= 2
        for member in chosen:
            order.asked[member.name] = order.asked.get(member.name, 0) + 1
        self._ctx.count("handover_questions", len(chosen))
        request = HoldRequest(self._ctx.name, order.number, order.seen, order.ahead)
        self._ctx.send([member.address for member in chosen], request)
        order.due = self._ctx.now.mono + order.delay * rng.uniform(0.8, 1.2)
        order.delay = min(RETRY_LIMIT, 2 * order.delay)

    def _others(self, order: _Order) -> list[Member]:
        membership = self._membership
        return [
            member
            for member in membership.live()
            if member.name not in order.leaving and membership.reachable(member.region)
        ]

    def _is_done(self, order: _Order, others: Collection[Member]) -> bool:
        order.holders.intersection_update(member.name for member in others)
        return len(order.holders) >= min(order.copies, len(others))

    def _finish(self, order: _Order) -> None:
        del self._orders[order.number]
        self._ctx.effects.append(Reply(order.token, sorted(order.holders)))

    # --- who stays --------------------------------------------------------------------------------

    def handle_request(self, message: HoldRequest, address: Address) -> None:
        """Say yes once all of it is on the disk, or fetch what is missing."""
        if self.leaving:
            self._ctx.send([address], HoldReply(self._ctx.name, message.number, leaving=True))
        elif not self._state.vector.includes(message.seen, message.ahead):
            self._fetch(address)
        elif self._ctx.settings.durability == "memory":
            self._confirm(address, message.number)
        elif len(self._unsynced) < UNSYNCED_LIMIT:
            self._syncs -= 1  # below zero, where no token of a caller is
            self._unsynced[self._syncs] = address, message.number
            *others, last = self._state.beside_rows()
            self._ctx.effects += map(Append, others)
            # Rows are in the journal already; they are synced with it.
            self._ctx.effects.append(Append(last, self._syncs, whole=True))

    def durable(self, token: int) -> None:
        """The disk has everything up to this token."""
        asked = self._unsynced.pop(token, None)
        if asked is not None:
            self._confirm(*asked)

    def failed(self, token: int) -> None:
        """The disk refused it; whoever asked will ask others."""
        self._unsynced.pop(token, None)

    def _confirm(self, address: Address, number: int) -> None:
        self._ctx.send([address], HoldReply(self._ctx.name, number))

"""Taking an agent away without loss: no more writes, everything it has on others' disks, and only then goodbye.

``drain`` is for somebody who takes agents away one by one and wants proof first; it ends by itself, so that nothing has to
be undone when they change their mind. ``leave`` is for the end of the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from gossipswarm_agent.core.events import HandOver
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.runtime.driver import Driver
from gossipswarm_agent.runtime.writes import Writes

COPIES: Final = 2
"""Peers that must hold everything, where there are as many."""
LEAVE_SECONDS: Final = 10.0
"""What the end of the process waits for peers to confirm; with the rest of the shutdown it fits into the 30 seconds
that a pod gets."""

_log = logging.getLogger(__name__)


class NotHandedOver(Exception):
    """Not enough peers have confirmed; ``holders`` are those that have."""

    def __init__(self, detail: str, holders: list[str]) -> None:
        super().__init__(detail)
        self.holders = holders


class Departure:
    """Whether an agent is on its way out, and what it owes to others before."""

    def __init__(self, node: Node, driver: Driver, writes: Writes) -> None:
        self._node = node
        self._driver = driver
        self._writes = writes
        self._reopening: asyncio.TimerHandle | None = None
        self._ends = False

    @property
    def under_way(self) -> bool:
        """Writes are refused here, and clients should be sent elsewhere."""
        return self._writes.closed

    async def drain(
        self, *, copies: int, leaving: Collection[str], seconds: float, hold: float
    ) -> list[str]:
        """Take no more writes and return who holds everything; writes are taken again ``hold`` seconds later.

        With ``hold`` 0 they are taken again now, and nothing else happens. ``copies`` peers, or all where they are fewer; the ``leaving`` do not count. May be repeated.

        Raises:
            NotHandedOver: fewer confirmed within ``seconds``, or there is nobody else in reach.
            Stopped: the agent stops.
        """
        if not hold:
            self._close(0.0)
            return []
        self._close(seconds + hold)
        try:
            return await self._hand_over(copies, leaving, seconds)
        finally:
            self._close(hold)

    async def leave(self) -> None:
        """Take no more writes at all, and give peers ``LEAVE_SECONDS`` to confirm that they hold everything."""
        self._close(None)
        name = self._node.identity.name
        if not self._node.membership.live():
            return
        try:
            holders = await self._hand_over(COPIES, (), LEAVE_SECONDS)
        except NotHandedOver as failed:
            _log.warning(
                "leaving without knowing that others have everything",
                extra={"agent": name, "error": str(failed), "holders": failed.holders},
            )
        else:
            _log.info("others have everything", extra={"agent": name, "holders": holders})

    def _close(self, seconds: float | None) -> None:
        """Refuse writes for so long; None = for good."""
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        self._ends = self._ends or seconds is None
        self._set_leaving(self._ends or bool(seconds))
        if seconds and not self._ends:
            self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _set_leaving(self, leaving: bool) -> None:
        self._writes.closed = leaving
        self._node.repair.handover.leaving = leaving

    def _reopen(self) -> None:
        self._reopening = None
        self._set_leaving(False)
        _log.info("taking writes again", extra={"agent": self._node.identity.name})

    async def _hand_over(self, copies: int, leaving: Collection[str], seconds: float) -> list[str]:
        driver, handover = self._driver, self._node.repair.handover
        token = driver.new_token()
        confirmed: asyncio.Future[list[str]] = driver.expect(token)
        try:
            async with asyncio.timeout(seconds):
                # What is being written is acknowledged or refused first; nothing comes after it.
                await self._writes.settled()
                driver.handle(HandOver(token, copies, tuple(leaving)))
                holders = await confirmed
        except TimeoutError:
            holders = handover.holders(token)
            raise NotHandedOver(
                f"{len(holders)} of {copies} peers confirmed within {seconds:g} s that they hold "
                "everything",
                holders,
            ) from None
        finally:
            driver.forget(token)
            handover.cancel(token)
        if not holders:
            raise NotHandedOver("there is no other agent in reach that stays", [])
        return holders

    def close(self) -> None:
        """Forget about taking writes again."""
        if self._reopening is not None:
            self._reopening.cancel()

"""Callers' writes on their way through the core: awaited, or found again by the id of their request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias

from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import LocalWrite, Mutation
from gossipswarm_agent.core.results import WriteResult
from gossipswarm_agent.runtime.driver import Driver

REQUESTS_REMEMBERED: Final = 2048
"""Request ids whose answers are kept; the oldest are forgotten first."""

_Reply: TypeAlias = "asyncio.Future[list[WriteResult]]"


class Writes:
    """The writes of one agent."""

    def __init__(self, driver: Driver) -> None:
        self.closed = False
        """Every new write is refused; one that is asked for again by its id still gets its answer."""
        self._driver = driver
        self._open: set[_Reply] = set()
        """Replies that are still due."""
        self._requests: OrderedDict[str, _Reply] = OrderedDict()

    async def write(
        self, mutations: Sequence[Mutation], traced: bool, system: bool, request_id: str | None
    ) -> list[WriteResult]:
        """As ``Agent.write``."""
        if request_id is not None:
            known = self._requests.get(request_id)
            if known is not None and not _failed(known):
                return await asyncio.shield(known)
        if self.closed:
            raise WriteRefused(503, "leaving", "this agent is about to leave; ask another one", 1.0)
        driver = self._driver
        token = driver.new_token()
        reply: _Reply = driver.expect(token)
        self._open.add(reply)
        reply.add_done_callback(self._open.discard)
        reply.add_done_callback(_retrieved)
        if request_id is not None:
            self._remember(request_id, reply)
        try:
            driver.handle(LocalWrite(token, tuple(mutations), traced, system))
        except BaseException:
            driver.forget(token)
            driver.commits.mend()
            reply.cancel()
            raise
        if reply.done():
            return reply.result()
        # A caller that gives up does not undo the write, which may be asked for again by its id.
        return await asyncio.shield(reply)

    async def settled(self) -> None:
        """Return once every write that is under way was acknowledged or refused."""
        while self._open:
            await asyncio.wait(self._open)

    def _remember(self, request_id: str, reply: _Reply) -> None:
        self._requests[request_id] = reply
        if len(self._requests) > REQUESTS_REMEMBERED:
            self._requests.popitem(last=False)


def _failed(reply: _Reply) -> bool:
    return reply.done() and (reply.cancelled() or reply.exception() is not None)


def _retrieved(reply: _Reply) -> None:
    # Whoever asked may have given up: an error that nobody awaits is no news.
    if not reply.cancelled():
        reply.exception()

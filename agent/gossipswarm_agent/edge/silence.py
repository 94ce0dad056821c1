"""When the agent that an edge follows says nothing: another one is found beside it, which takes over if the silence goes on."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.finding import Connection, Finder

DOUBT_SECONDS: Final = (0.3, 0.5)
"""An agent that is silent for so long has a successor looked for; at random, so that not all its edges do that at once."""
LATE_SECONDS: Final = 0.1
"""A look at the clock that comes later than this says that the edge itself stood still, not its agent: what that said
meanwhile lies in the socket, and so much more time is given to read it."""


class Successor:
    """Another agent, with a stream that is open and not read yet."""

    def __init__(self, finder: Finder, followed: Address) -> None:
        self._finder = finder
        self._followed = followed
        self._search: asyncio.Task[Connection] | None = None

    def seek(self) -> None:
        """Find one, if there may be any."""
        if self._search is None and self._finder.known > 1:
            search = self._finder.find(self._followed)
            self._search = asyncio.create_task(search, name="find a successor")

    async def take(self) -> Connection:
        """The one that was found, or the next that is."""
        if self._search is None:
            return await self._finder.find(self._followed)
        found = await self._search
        self._search = None
        return found

    async def drop(self) -> None:
        """It is not needed; nothing happens to one that was taken."""
        search, self._search = self._search, None
        if search is not None:
            search.cancel()
            await asyncio.wait((search,))
            if not search.cancelled() and search.exception() is None:
                self._finder.close(search.result().socket)


async def silence(connection: Connection, successor: Successor) -> str:
    """Return once the agent was silent for too long, and say so; a successor is sought before."""
    loop = asyncio.get_running_loop()
    doubt = random.uniform(*DOUBT_SECONDS)
    reading_until = excused = 0.0
    while True:
        now = loop.time()
        doubted_at = max(connection.heard + doubt, reading_until)
        lost_at = max(connection.heard + frames.SILENCE_SECONDS, reading_until)
        if now >= lost_at:
            return f"it was silent for {frames.SILENCE_SECONDS:g} s"
        if now >= doubted_at:
            due = min(lost_at, now + frames.BEAT_SECONDS)
            successor.seek()
        else:
            due = doubted_at
            await successor.drop()
        await asyncio.sleep(due - loop.time())
        if loop.time() - due > LATE_SECONDS and connection.heard > excused:
            # Once in a silence, or an edge that is always late would wait for ever.
            excused, reading_until = connection.heard, loop.time() + LATE_SECONDS

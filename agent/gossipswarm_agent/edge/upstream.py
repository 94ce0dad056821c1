"""The one stream that an edge has its state from: found, followed, and replaced when its agent is lost or about to go.

An agent that says it is leaving is followed until another one has taken its place; so is one of another region. While an
agent is silent another one is found beside it already, which takes its place at once if the silence goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

import aiohttp
import msgspec

from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.config import Credentials, EdgeConfig
from gossipswarm_agent.edge.finding import Connection, Finder
from gossipswarm_agent.edge.replica import Replica, Unsound
from gossipswarm_agent.edge.silence import Successor, silence

AWAY_SECONDS: Final = 20.0
"""Between two looks for an agent of the region while one of another region is followed."""
STAY_SECONDS: Final = 1800.0
"""After once to twice this long another agent of the region is followed, if there is one."""
UNSOUND_SECONDS: Final = 1.0
"""Pause after what was of no use, so that what comes again and again costs no more than that."""
DOUBTS: Final = 2
"""Times in a row that an agent and the edge must disagree about what they hold before everything is fetched anew."""


_log = logging.getLogger(__name__)


class Upstream:
    """Keeps the replica fed. ``run`` is its life."""

    def __init__(
        self,
        config: EdgeConfig,
        replica: Replica,
        session: aiohttp.ClientSession,
        credentials: Credentials,
        changed: Callable[[Collection[str]], None],
        report: Callable[[], str | None],
    ) -> None:
        """``changed`` is told of leaves that changed; ``report`` says what the agent should know beside."""
        self.current: Connection | None = None
        """The stream that is followed; None = no agent is reachable."""
        self.was_level = False
        """It has had everything that some agent had, since the start."""
        self.connected = asyncio.Event()
        self.failovers = 0
        """Times that an agent was lost or left."""
        self.lost_at = float("-inf")
        """Monotonic seconds at which the last one was lost."""
        self.contact_ms: int | None = None
        """Wall clock at which the last frame came that was not of ``current``."""
        self._replica = replica
        self._finder = Finder(config, replica, session, credentials)
        self._changed = changed
        self._report = report
        self._lost_why: str | None = None
        self._pulse = asyncio.Event()

    @property
    def known(self) -> int:
        """Agents that the edge may turn to."""
        return self._finder.known

    @property
    def trouble(self) -> str | None:
        """Why there is no stream."""
        if self.current is not None:
            return None
        return self._finder.trouble or self._lost_why

    def silence_seconds(self) -> float | None:
        """How long ago an agent was heard; None = never."""
        if self.current is not None:
            return max(0.0, asyncio.get_running_loop().time() - self.current.heard)
        return None if self.contact_ms is None else max(0.0, time.time() - self.contact_ms / 1000)

    def contact_at(self) -> int:
        """Wall clock in milliseconds at which an agent was last heard; 0 = never."""
        silence = self.silence_seconds()
        return 0 if silence is None else round(1000 * (time.time() - silence))

    async def next_frame(self) -> None:
        """Return once an agent has said something more, or another one is followed."""
        await self._pulse.wait()

    def _beat_pulse(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    def note_report(self) -> None:
        """What ``report`` says is something else now."""
        if self.current is not None:
            self.current.news.set()

    def leave(self) -> None:
        """Look for another agent, because this one takes no writes."""
        if self.current is not None:
            self.current.leaving.set()

    async def run(self) -> None:
        """Find an agent, follow it, find another; for ever."""
        await self._finder.start()
        try:
            connection = await self._finder.find(None)
            while True:
                try:
                    connection = await self._follow(connection)
                except Exception:  # noqa: BLE001 - a bug must not leave the edge with what it holds now, for ever
                    _log.exception("cannot follow an agent", extra={"agent": connection.agent})
                    if not connection.lost.done():
                        connection.lost.set_result(None)
                    await asyncio.sleep(UNSOUND_SECONDS)
                    connection = await self._finder.find(connection.address)
        finally:
            await self._finder.stop()

    # --- following --------------------------------------------------------------------------------

    async def _follow(self, connection: Connection) -> Connection:
        """Apply what an agent sends, until another one is there in its place."""
        self._replica.interrupted()
        self.current = connection
        self._finder.found()
        self.connected.set()
        self._beat_pulse()
        _log.info("following an agent", extra={"agent": connection.agent, "api": connection.url})
        successor = Successor(self._finder, connection.address)
        reading: asyncio.Task[str] = asyncio.create_task(self._read(connection), name="upstream")
        silent: asyncio.Task[str] = asyncio.create_task(
            silence(connection, successor), name="silence"
        )
        better = asyncio.create_task(self._find_better(connection), name="better upstream")
        tasks = (reading, silent, better, asyncio.create_task(self._tell(connection), name="tell"))
        try:
            await asyncio.wait((reading, silent, better), return_when=asyncio.FIRST_COMPLETED)
            self.failovers += 1
            if better.done():
                return better.result()
            reason = (reading if reading.done() else silent).result()
            _log.warning("an agent is lost", extra={"agent": connection.agent, "reason": reason})
            connection.lost.set_result(None)
            self._leave(connection)
            self._lost_why = f"{connection.url}: {reason}"
            if connection.unsound:
                await successor.drop()  # it may have to be asked for everything
                await asyncio.sleep(UNSOUND_SECONDS)
            return await successor.take()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await successor.drop()
            self._leave(connection)

    async def _find_better(self, connection: Connection) -> Connection:
        """Another agent: once this one is leaving, if it is of another region, and now and then in any case, so that agents
        that were restarted get their share of edges again."""
        while not connection.leaving.is_set():
            away = not self._finder.is_home(connection.address)
            seconds = AWAY_SECONDS if away else STAY_SECONDS * random.uniform(1.0, 2.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await connection.leaving.wait()
            if not connection.leaving.is_set():
                home, _ = self._finder.order(connection.address)
                found = await self._finder.race(
                    [address for address in home if address != connection.address]
                )
                if found is not None:
                    return found
        return await self._finder.find(connection.address)

    def _leave(self, connection: Connection) -> None:
        if self.current is not connection:
            return
        loop = asyncio.get_running_loop()
        self.current = None
        self.connected.clear()
        self.lost_at = loop.time()
        self.contact_ms = round(time.time() * 1000 - 1000 * (self.lost_at - connection.heard))
        self._finder.close(connection.socket)

    async def _read(self, connection: Connection) -> str:
        """Apply every frame; why there are no more."""
        loop = asyncio.get_running_loop()
        async for message in connection.socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return "it speaks another protocol"
            connection.heard = loop.time()
            try:
                changed = self._apply(connection, frames.decode_from_agent(message.data))
                if changed:
                    self._changed(changed)
            except (msgspec.MsgspecError, UnicodeDecodeError, Unsound) as error:
                connection.unsound = True
                return f"it sent what is of no use: {error}"
            except Exception:  # noqa: BLE001 - one frame that meets a bug must not end the edge
                _log.exception("cannot handle a frame", extra={"agent": connection.agent})
                # It may have been applied by half.
                self._finder.starts_over = connection.unsound = True
                return "a frame of it could not be handled"
            self._beat_pulse()
        return "it closed the stream"

    def _apply(self, connection: Connection, frame: frames.ToEdge) -> Collection[str]:
        replica = self._replica
        changed: Collection[str] = ()
        match frame:
            case frames.Rows():
                changed = replica.take(frame)
                # Nothing in it: that is what follows everything that was lacking.
                self.was_level |= not (frame.batches or frame.claims)
                connection.news.set()
            case frames.Begin():
                replica.begin()
            case frames.End():
                self._finder.starts_over = False
                changed = replica.end(frame)
            case frames.Terms():
                replica.agree(frame)
            case frames.Collect():
                replica.collect(frame)
            case frames.Beat():
                self._judge(connection, frame)
                replica.tidy()
                if frame.leaving:
                    connection.leaving.set()
            case frames.Welcome():
                raise Unsound("it said welcome twice")
        return changed

    def _judge(self, connection: Connection, beat: frames.Beat) -> None:
        """Compare what both hold. Raises Unsound where all has to be fetched anew."""
        if beat.vector is None or beat.state is None:
            return
        if self._replica.agrees(beat.vector, beat.state):
            connection.doubts = 0
            return
        connection.doubts += 1
        if connection.doubts >= DOUBTS:
            self._finder.starts_over = True
            raise Unsound("what the edge holds is not what the agent holds; fetching it anew")

    async def _tell(self, connection: Connection) -> None:
        """Report how far the edge is, not too often, and often enough to be known alive."""
        reported: str | None = None
        with suppress(ConnectionError):
            while True:
                connection.news.clear()
                report = self._report()
                taken = frames.Taken(self._replica.number, None if report == reported else report)
                reported = report
                await connection.socket.send_bytes(frames.encode(taken))
                await asyncio.sleep(frames.TAKEN_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(frames.IDLE_TAKEN_SECONDS - frames.TAKEN_SECONDS):
                        await connection.news.wait()

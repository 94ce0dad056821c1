"""The one stream that an edge has its state from: found, followed, and replaced when its agent is lost or about to go.

Agents are tried in random order, the next one a moment after the one before if that has not answered, so that one that is
silent costs no more than that moment. An agent that says it is leaving is followed until another one has taken its place.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import aiohttp
import msgspec

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.config import Credentials, EdgeConfig
from gossipswarm_agent.edge.replica import Replica, Unsound
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.seeds import SeedResolver

OPEN_SECONDS: Final = 3.0
"""An agent that has not welcomed the edge by then is of no use."""
STAGGER_SECONDS: Final = 0.1
"""After which the next agent is tried as well."""
TRIED_AT_ONCE: Final = 8
"""Agents tried before a pause."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Between two rounds of attempts; each is longer than the one before."""
LATE_SECONDS: Final = 0.1
"""A look for silence that comes later than this says that the edge itself stood still, not its agent."""
DOUBTS: Final = 2
"""Times in a row that an agent and the edge must disagree about what they hold before everything is fetched anew."""

_Task: TypeAlias = "asyncio.Task[object]"

_log = logging.getLogger(__name__)


class Connection:
    """A stream whose agent has welcomed the edge."""

    def __init__(
        self, url: str, address: Address, socket: aiohttp.ClientWebSocketResponse, agent: str
    ) -> None:
        self.url = url
        """Of the agent's API."""
        self.address = address
        self.socket = socket
        self.agent = agent
        self.heard = asyncio.get_running_loop().time()
        self.leaving = asyncio.Event()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once nothing more is to be expected of it."""
        self.news = asyncio.Event()
        """There is something to report."""
        self.doubts = 0


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
        self.trouble: str | None = None
        """Why there is no stream."""
        self.lost_at = float("-inf")
        """Monotonic seconds at which the last one was lost."""
        self.contact_ms: int | None = None
        """Wall clock at which the last frame came that was not of ``current``."""
        self._config = config
        self._replica = replica
        self._session = session
        self._credentials = credentials
        self._changed = changed
        self._report = report
        self._rng = random.Random()
        self._addresses: tuple[Address, ...] = ()
        self._found = asyncio.Event()
        self._seeds = SeedResolver(config.upstream, self._take_addresses, self._rng)
        self._closing: set[_Task] = set()
        self._starts_over = False
        self._said = ""
        self._pulse = asyncio.Event()

    @property
    def known(self) -> int:
        """Agents that the edge may turn to."""
        return len(self._addresses)

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

    def _take_addresses(self, addresses: tuple[Address, ...]) -> None:
        self._addresses = addresses
        self._found.set()

    async def run(self) -> None:
        """Find an agent, follow it, find another; for ever."""
        await self._seeds.start()
        try:
            connection = await self._find(None)
            while True:
                connection = await self._follow(connection)
        finally:
            await self._seeds.close()
            if self._closing:
                await asyncio.wait(self._closing)

    # --- following --------------------------------------------------------------------------------

    async def _follow(self, connection: Connection) -> Connection:
        """Apply what an agent sends, until another one is there in its place."""
        self._replica.interrupted()
        self.current, self.trouble, self._said = connection, None, ""
        self.connected.set()
        self._beat_pulse()
        _log.info("following an agent", extra={"agent": connection.agent, "api": connection.url})
        reading: asyncio.Task[str] = asyncio.create_task(self._read(connection), name="upstream")
        silence: asyncio.Task[str] = asyncio.create_task(_silence(connection), name="silence")
        leaving = asyncio.create_task(connection.leaving.wait(), name="leaving")
        telling = asyncio.create_task(self._tell(connection), name="tell upstream")
        finding: asyncio.Task[Connection] | None = None
        try:
            await asyncio.wait((reading, silence, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and not silence.done():
                finding = asyncio.create_task(self._find(connection.address), name="find")
                await asyncio.wait((reading, silence, finding), return_when=asyncio.FIRST_COMPLETED)
                if finding.done():
                    self.failovers += 1
                    return finding.result()
            reason = (reading if reading.done() else silence).result()
            _log.warning("an agent is lost", extra={"agent": connection.agent, "reason": reason})
            connection.lost.set_result(None)
            self._leave(connection)
            self.failovers += 1
            self.trouble = f"{connection.url}: {reason}"
            return await (finding or self._find(connection.address))
        finally:
            tasks = [task for task in (reading, silence, leaving, telling, finding) if task]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        if self.current is not connection:
            return
        loop = asyncio.get_running_loop()
        self.current = None
        self.connected.clear()
        self.lost_at = loop.time()
        self.contact_ms = round(time.time() * 1000 - 1000 * (self.lost_at - connection.heard))
        self._close(connection.socket)

    def _close(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Not waited for: the other side may be silent."""
        task: _Task = asyncio.create_task(socket.close(), name="close upstream")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _read(self, connection: Connection) -> str:
        """Apply every frame; why there are no more."""
        loop = asyncio.get_running_loop()
        async for message in connection.socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return "it speaks another protocol"
            connection.heard = loop.time()
            try:
                changed = self._apply(connection, frames.decode_from_agent(message.data))
            except (msgspec.MsgspecError, UnicodeDecodeError, Unsound) as error:
                return f"it sent what is of no use: {error}"
            if changed:
                self._changed(changed)
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
                self._starts_over = False
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
            self._starts_over = True
            raise Unsound("what the edge holds is not what the agent holds; fetching it anew")

    async def _tell(self, connection: Connection) -> None:
        """Report how far the edge is, not too often, and often enough to be known alive."""
        with suppress(ConnectionError):
            while True:
                connection.news.clear()
                taken = frames.Taken(self._replica.number, self._report())
                await connection.socket.send_bytes(frames.encode(taken))
                await asyncio.sleep(frames.TAKEN_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(frames.IDLE_TAKEN_SECONDS - frames.TAKEN_SECONDS):
                        await connection.news.wait()

    # --- finding ----------------------------------------------------------------------------------

    async def _find(self, avoided: Address | None) -> Connection:
        """The first agent that welcomes the edge; ``avoided`` is tried last."""
        pause = FIRST_PAUSE
        while True:
            self._found.clear()
            order = self._rng.sample(self._addresses, len(self._addresses))
            order.sort(key=lambda address: address == avoided)
            winner = await self._race(order[:TRIED_AT_ONCE])
            if winner is not None:
                return winner
            if not order:
                self._say("no agent is known by the names in upstream yet")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * self._rng.uniform(0.7, 1.3)):
                    await self._found.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _race(self, order: Sequence[Address]) -> Connection | None:
        attempts: set[asyncio.Task[Connection]] = set()
        winner: Connection | None = None
        try:
            for address in (*order, None):
                if address is not None:
                    attempts.add(asyncio.create_task(self._open(address), name=f"try {address}"))
                while attempts and winner is None:
                    seconds = STAGGER_SECONDS if address is not None else None
                    done, attempts = await asyncio.wait(
                        attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                    )
                    winner = self._first(done)
                    if address is not None:
                        break
                if winner is not None:
                    return winner
            return None
        finally:
            for attempt in attempts:
                attempt.cancel()
            if attempts:
                done, _ = await asyncio.wait(attempts)
                for attempt in done:
                    if not attempt.cancelled() and attempt.exception() is None:
                        self._close(attempt.result().socket)

    def _first(self, done: Collection[asyncio.Task[Connection]]) -> Connection | None:
        """One of the attempts that came to an end, if any succeeded; others that did are closed."""
        winner: Connection | None = None
        for attempt in done:
            failure = attempt.exception()
            if failure is not None:
                self._say(str(failure))
            elif winner is None:
                winner = attempt.result()
            else:
                self._close(attempt.result().socket)
        return winner

    def _say(self, trouble: str) -> None:
        if self.current is None:
            self.trouble = trouble
        if trouble != self._said:
            self._said = trouble
            _log.warning("cannot follow an agent; going on trying", extra={"error": trouble})

    async def _open(self, address: Address) -> Connection:
        """Raises ConnectionError that says what was wrong."""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        url = f"{self._credentials.scheme}://{host}:{address[1]}"
        config, vector = self._config, self._replica.vector
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                socket = await self._session.ws_connect(
                    f"{url}/v1/replica",
                    params={"swarm": config.swarm, "version": str(frames.VERSION)},
                    headers=self._credentials.headers(),
                    ssl=self._credentials.context(),
                    max_msg_size=frames.FRAME_LIMIT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.2),
                )
                try:
                    prefixes = self._replica.prefixes
                    hello = frames.Hello(
                        config.name,
                        config.region,
                        None if prefixes is None else list(prefixes),
                        {} if self._starts_over else vector.seen,
                        {} if self._starts_over else vector.ahead,
                        dict(config.labels),
                    )
                    await socket.send_bytes(frames.encode(hello))
                    message = await socket.receive()
                    if message.type is not aiohttp.WSMsgType.BINARY:
                        raise ConnectionError(f"closed at once ({message.extra or message.data})")
                    welcome = frames.decode_from_agent(message.data)
                    if not isinstance(welcome, frames.Welcome):
                        raise ConnectionError("no welcome")
                except BaseException:
                    self._close(socket)
                    raise
        except TimeoutError:
            raise ConnectionError(f"{url}: no answer within {OPEN_SECONDS:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            meaning = _REFUSALS.get(error.status, "it is no agent")
            raise ConnectionError(f"{url}: {error.status}, {meaning}") from None
        except (aiohttp.ClientError, msgspec.MsgspecError, OSError) as error:
            raise ConnectionError(f"{url}: {error}") from None
        except ConfigError as error:
            raise ConnectionError(str(error)) from None
        return Connection(url, address, socket, welcome.agent)


_REFUSALS: Final = {
    401: "it does not know this edge's token (upstream_token_file)",
    403: "this edge's token may not read (upstream_token_file)",
    404: "it is an edge itself, or of a version that serves none",
    409: "it is of another swarm, or speaks another version",
    503: "it serves no edges at the moment",
}


async def _silence(connection: Connection) -> str:
    """Return once the agent was silent for too long."""
    loop = asyncio.get_running_loop()
    while True:
        due = connection.heard + frames.SILENCE_SECONDS
        if loop.time() >= due:
            return f"it was silent for {frames.SILENCE_SECONDS:g} s"
        await asyncio.sleep(due - loop.time())
        if loop.time() - due > LATE_SECONDS:
            # What it said meanwhile lies in the socket.
            connection.heard = loop.time() - frames.SILENCE_SECONDS / 2

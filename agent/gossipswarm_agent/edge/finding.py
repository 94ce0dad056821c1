"""Finding an agent for an edge: those of its region first, in random order, several at a time if need be.

The next one is tried a moment after the one before if that has not answered, so that one that is silent costs no more than that
moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import aiohttp
import msgspec

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.config import Credentials, EdgeConfig
from gossipswarm_agent.edge.replica import Replica
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.seeds import SeedResolver

OPEN_SECONDS: Final = 3.0
"""An agent that has not welcomed the edge by then is of no use."""
STAGGER_SECONDS: Final = 0.1
"""After which the next agent is tried as well."""
TRIED_AT_ONCE: Final = 8
TRIED_AWAY: Final = 3
"""Agents of the region tried before a pause, and of other regions once those have failed."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Between two rounds of attempts; each is longer than the one before."""

_REFUSALS: Final = {
    401: "it does not know this edge's token (upstream_token_file)",
    403: "this edge's token may not read (upstream_token_file)",
    404: "it is an edge itself, or of a version that serves none",
    409: "it is of another swarm, or speaks another version",
    503: "it serves no edges at the moment",
}

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
        """Times in a row that it and the edge did not agree about what they hold."""
        self.unsound = False
        """It sent what could not be handled."""


class Finder:
    """Knows where agents may be, and opens streams to them."""

    def __init__(
        self,
        config: EdgeConfig,
        replica: Replica,
        session: aiohttp.ClientSession,
        credentials: Credentials,
    ) -> None:
        self.trouble = ""
        """Why the last attempt failed."""
        self.starts_over = False
        """Ask for everything, whatever is held."""
        self._config = config
        self._replica = replica
        self._session = session
        self._credentials = credentials
        self._rng = random.Random()
        self._addresses: tuple[Address, ...] = ()
        self._found = asyncio.Event()
        self._seeds = SeedResolver(config.upstream, self._take_addresses, self._rng)
        self._closing: set[_Task] = set()
        self._said = ""

    async def start(self) -> None:
        """Look up the names of agents, and go on doing so."""
        await self._seeds.start()

    async def stop(self) -> None:
        """Look no further, and finish closing what was opened."""
        await self._seeds.close()
        if self._closing:
            await asyncio.wait(self._closing)

    @property
    def known(self) -> int:
        """Agents that the edge may turn to."""
        return len(self._addresses)

    def _take_addresses(self, addresses: tuple[Address, ...]) -> None:
        self._addresses = addresses
        self._found.set()

    def found(self) -> None:
        """The last trouble is over."""
        self.trouble = self._said = ""

    def close(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Close without waiting for it: the other side may be silent."""
        task: _Task = asyncio.create_task(socket.close(), name="close upstream")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def find(self, avoided: Address | None) -> Connection:
        """The first agent that welcomes the edge; ``avoided`` is tried last."""
        pause = FIRST_PAUSE
        while True:
            self._found.clear()
            home, away = self.order(avoided)
            order = [*home, *away]
            winner = await self.race(order)
            if winner is not None:
                return winner
            if not order:
                self._say("no agent is known by the names in upstream yet")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * self._rng.uniform(0.7, 1.3)):
                    await self._found.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    def order(self, avoided: Address | None) -> tuple[list[Address], list[Address]]:
        """Agents to try, of this region and of others, ``avoided`` last in its part."""
        shuffled = self._rng.sample(self._addresses, len(self._addresses))
        shuffled.sort(key=lambda address: address == avoided)
        home = [address for address in shuffled if self.is_home(address)]
        away = [address for address in shuffled if not self.is_home(address)]
        return home[:TRIED_AT_ONCE], away[:TRIED_AWAY]

    def is_home(self, address: Address) -> bool:
        """Whether there is an agent of this region."""
        return self._seeds.regions.get(address, self._config.region) == self._config.region

    async def race(self, order: Sequence[Address]) -> Connection | None:
        """The first of these agents that welcomes the edge; None if none does."""
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
                        self.close(attempt.result().socket)

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
                self.close(attempt.result().socket)
        return winner

    def _say(self, trouble: str) -> None:
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
                        {} if self.starts_over else vector.seen,
                        {} if self.starts_over else vector.ahead,
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
                    self.close(socket)
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

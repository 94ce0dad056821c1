"""Carries calls out with aiohttp: time limits, retries, batches and watches."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import aiohttp
from yarl import URL

from gossipswarm_client import calls, results
from gossipswarm_client.calls import Call, Line, encode_line
from gossipswarm_client.errors import (
    ApiError,
    GossipSwarmError,
    ProtocolError,
    Throttled,
    TimedOut,
    Unavailable,
    Unreachable,
    from_problem,
)
from gossipswarm_client.events import EventParser, change_of
from gossipswarm_client.http1 import endpoint
from gossipswarm_client.waiting import (
    SILENCE_SECONDS,
    Backoff,
    group_lines,
    is_worth_retrying,
)

T = TypeVar("T")
Lines: TypeAlias = Iterable[Line | Mapping[str, Any]] | AsyncIterable[Line | Mapping[str, Any]]

LINES_IN_FLIGHT = 1024
"""Lines of a batch without an acknowledgement: theirs fit into the buffers on the way back."""
_UNLIMITED = aiohttp.ClientTimeout(total=None)


class AsyncExchange:
    """Everything that goes to one agent and comes back. Times are seconds."""

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        retries: int,
        tls: ssl.SSLContext | None,
        connections: int,
    ) -> None:
        where = endpoint(url)
        self._base = f"{'https' if where.tls else 'http'}://{where.authority}{where.base}"
        self.timeout = timeout
        self._retries = retries
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = tls
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections, ssl=self._tls if self._tls is not None else True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=_UNLIMITED,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _url(self, target: str) -> URL:
        return URL(self._base + target, encoded=True)

    # --- single calls -----------------------------------------------------------------------------

    async def run(
        self,
        call: Call[T],
        timeout: float | None = None,  # noqa: ASYNC109 - retries and their pauses count, too
        retries: int | None = None,
    ) -> T:
        """The result of a call. ``timeout`` and ``retries`` None: the call's own, else the client's."""
        return call.result(calls.decode(await self.fetch(call, timeout, retries)))

    async def fetch(
        self,
        call: Call[Any],
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        retries: int | None = None,
    ) -> bytes:
        """The body that answers a call."""
        wanted = timeout if timeout is not None else call.timeout
        seconds = self.timeout if wanted is None else wanted
        ends = monotonic() + seconds
        left = self._retries if retries is None else retries
        backoff = Backoff()
        while True:
            try:
                async with asyncio.timeout(max(0.0, ends - monotonic())):
                    status, media, body = await self._send(call)
            except TimeoutError:
                raise TimedOut(f"{self._base} did not answer within {seconds:g} s") from None
            except Unreachable:
                pause = backoff.next()
                if not call.safe or left <= 0 or monotonic() + pause >= ends:
                    raise
            else:
                if status < 300:
                    return body
                refusal = from_problem(status, calls.problem_of(body, media))
                pause = max(backoff.next(), refusal.retry_after or 0.0)
                if left <= 0 or not is_worth_retrying(refusal) or monotonic() + pause >= ends:
                    raise refusal
            left -= 1
            await asyncio.sleep(pause)

    async def _send(self, call: Call[Any]) -> tuple[int, str, bytes]:
        headers = dict(call.headers)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._open().request(
                call.method,
                self._url(call.target),
                data=_payload(call.body),
                headers=headers,
                allow_redirects=False,
            ) as response:
                return response.status, response.content_type, await response.read()
        except aiohttp.ClientError as error:
            raise self._translated(error) from None

    def _translated(self, error: aiohttp.ClientError) -> GossipSwarmError:
        if isinstance(error, aiohttp.ClientResponseError):
            return ProtocolError(f"{self._base}: {error}; is there an agent?")
        return Unreachable(f"{self._base}: {error or type(error).__name__}")

    # --- streams ----------------------------------------------------------------------------------

    async def batch(self, lines: Lines, patience: float) -> AsyncIterator[results.Ack]:
        """Send lines and yield their acknowledgements; ``patience`` bounds the wait for any one."""
        sending = _Sending(lines, patience)
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            async with asyncio.timeout(patience):
                response = await self._open().post(
                    self._url("/v1/batch"), data=sending.chunks(), headers=headers
                )
            async with response:
                if response.status != 200:
                    raise await _refusal(response)
                while line := await sending.next_answer(response.content):
                    yield results.Ack(calls.decode_object(line))
        except TimeoutError:
            raise TimedOut(f"{self._base} acknowledged nothing for {patience:g} s") from None
        except aiohttp.ClientError as error:
            if sending.failure is None:
                raise self._translated(error) from None
        if sending.failure is not None:
            raise sending.failure
        if sending.unanswered or not sending.done:
            raise Unreachable("the agent ended the batch before acknowledging every line")

    async def watch(
        self,
        prefix: str,
        since: str | None,
        timeout: float | None,  # noqa: ASYNC109 - spans many connections
    ) -> AsyncIterator[results.Change | results.Reset]:
        """Changes for as long as they are taken; a stream that breaks is made again and resumed."""
        ends = monotonic() + timeout if timeout is not None else float("inf")
        backoff = Backoff()
        parser = EventParser()
        parser.last_id = since or ""
        was_there = False
        while True:
            pause = 0.0
            try:
                response = await self._begin_watch(prefix, parser.last_id, ends)
                was_there = True
                async with response, aclosing(self._changes(response, parser, ends)) as changes:
                    async for change in changes:
                        backoff.reset()
                        yield change
            except (Unreachable, Unavailable, Throttled) as error:
                if not was_there:
                    raise
                pause = max(backoff.next(), getattr(error, "retry_after", None) or 0.0)
            if monotonic() + pause >= ends:
                raise TimedOut(f"nothing more changed within {timeout:g} s")
            await asyncio.sleep(pause)
            parser.reconnect()

    async def _begin_watch(self, prefix: str, last_id: str, ends: float) -> aiohttp.ClientResponse:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        where = self._url(calls.state_target(prefix, watch=True))
        try:
            async with asyncio.timeout(min(self.timeout, ends - monotonic())):
                response = await self._open().get(where, headers=headers)
                if response.status == 200:
                    return response
                async with response:
                    raise await _refusal(response)
        except TimeoutError:
            raise TimedOut(f"{self._base} does not answer") from None
        except aiohttp.ClientError as error:
            raise self._translated(error) from None

    async def _changes(
        self, response: aiohttp.ClientResponse, parser: EventParser, ends: float
    ) -> AsyncGenerator[results.Change | results.Reset, None]:
        while True:
            try:
                async with asyncio.timeout(min(SILENCE_SECONDS, ends - monotonic())):
                    piece = await response.content.readany()
            except TimeoutError:
                raise TimedOut(f"{self._base} fell silent") from None
            except aiohttp.ClientError as error:
                raise self._translated(error) from None
            if not piece:
                raise Unreachable("the agent ended the watch")
            for event in parser.feed(piece):
                change = change_of(event)
                if change is not None:
                    yield change


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body is sent in pieces, as aiohttp wants it, so that others get a turn."""
    return io.BytesIO(body) if body is not None and len(body) > 1 << 20 else body


class _Sending:
    """The request's side of a batch."""

    def __init__(self, lines: Lines, patience: float) -> None:
        self.unanswered = 0
        self.done = False
        """Every line was sent."""
        self.failure: Exception | None = None
        """What the source of the lines raised."""
        self._lines = lines
        self._patience = patience
        self._room = asyncio.Event()
        self._limit: asyncio.Timeout | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """What to send, no further ahead of the acknowledgements than the buffers on the way hold."""
        try:
            async for count, data in self._groups():
                while self.unanswered and self.unanswered + count > LINES_IN_FLIGHT:
                    self._room.clear()
                    await self._room.wait()
                self.unanswered += count
                if self._limit is not None and self._limit.when() is None:
                    self._limit.reschedule(asyncio.get_running_loop().time() + self._patience)
                yield data
            self.done = True
        except Exception as error:
            self.failure = error
            raise

    async def _groups(self) -> AsyncIterator[tuple[int, bytes]]:
        if isinstance(self._lines, AsyncIterable):
            async for line in self._lines:
                yield 1, encode_line(line)
            return
        for group in group_lines(self._lines):
            yield group

    async def next_answer(self, content: aiohttp.StreamReader) -> bytes:
        """The next acknowledgement; nothing at the end. Raises TimeoutError when one is overdue.

        While every line is answered there is nothing to be late: the source may take its time.
        """
        try:
            async with asyncio.timeout(self._patience if self.unanswered else None) as self._limit:
                line = await content.readline()
        finally:
            self._limit = None
        if line:
            self.unanswered -= 1
            self._room.set()
        return line


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    body = await response.read()
    return from_problem(response.status, calls.problem_of(body, response.content_type))

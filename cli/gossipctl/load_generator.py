"""Load for ``gossip benchmark``: writers that stream updates to agents over POST /v1/batch.

The generator shares the machine with the swarm that it measures, so it does little for an update: one
connection a writer, requests put together as text, acknowledgements counted rather than parsed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed, Unreachable

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""A swarm that acknowledges nothing for so long is taken for hung."""

Result = TypeVar("Result")


class Plan(NamedTuple):
    """What is to be written."""

    updates: int
    writers: int
    pipeline: int
    """Updates that one writer has outstanding."""
    prefix: str
    """The keys of a writer stand below ``prefix.w<writer>``; each is written once."""
    traced_every: int
    """One update in so many is traced."""


class Load(NamedTuple):
    """What came of it."""

    started: float
    """When the first update was sent, by ``time.monotonic`` in seconds."""
    seconds: float
    """From then until the last acknowledgement."""
    latencies: list[float]
    """Seconds from each update to its acknowledgement."""
    traced: list[tuple[Agent, str]]
    """Each traced update: the agent where it was written and its dot."""


def writer_key(plan: Plan, writer: int) -> str:
    """The key that holds all updates of one writer."""
    return f"{plan.prefix}.w{writer}"


def run(agents: Sequence[Agent], plan: Plan, progress: Callable[[int], None]) -> Load:
    """Write everything; ``progress`` is told how many more were acknowledged.

    Raises:
        Unreachable: an agent cannot be connected to, or nothing is acknowledged any more.
        CommandFailed: an agent refuses an update; the message has its reason.
    """
    return _in_loop(lambda: _write_all(agents, plan, progress))


def _in_loop(work: Callable[[], Awaitable[Result]]) -> Result:
    factory = None
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            factory = uvloop.new_event_loop

    async def main() -> Result:
        return await work()

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def _write_all(agents: Sequence[Agent], plan: Plan, progress: Callable[[int], None]) -> Load:
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def on_defect(_: object, context: dict[str, Any]) -> None:
        if not broken.done():
            broken.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(on_defect)
    writers = []
    load = Load(0.0, 0.0, [], [])
    for number in range(plan.writers):
        agent = agents[number % len(agents)]
        writer = _Writer(agent, plan, number, load, progress)
        host, _, port = urlsplit(agent.url).netloc.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(partial(_itself, writer), host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            raise Unreachable(
                f"cannot connect to agent {agent.name}: {error or 'timed out'}"
            ) from None
        writers.append(writer)
    started = time.monotonic()
    for writer in writers:
        writer.start()
    await _until_done(writers, load, broken)
    seconds = time.monotonic() - started
    return load._replace(started=started, seconds=seconds)


async def _until_done(writers: Sequence[_Writer], load: Load, broken: asyncio.Future[None]) -> None:
    """Wait for all writers; raise the first failure, or a defect of our own."""
    finished = asyncio.gather(*(writer.finished for writer in writers))
    try:
        while not finished.done():
            before = len(load.latencies)
            await asyncio.wait(
                (finished, broken), timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if broken.done():
                broken.result()
            if not finished.done() and len(load.latencies) == before:
                raise Unreachable(
                    f"no update was acknowledged for {SILENCE_SECONDS:g} s",
                    "see how the swarm is with: gossipctl swarm status --verbose",
                )
        finished.result()
    finally:
        finished.cancel()
        for writer in writers:
            writer.abort()


def _itself(writer: _Writer) -> _Writer:
    return writer


class _Writer(asyncio.Protocol):
    """One stream of updates to one agent."""

    def __init__(
        self, agent: Agent, plan: Plan, number: int, load: Load, progress: Callable[[int], None]
    ) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = agent
        self._pipeline = plan.pipeline
        self._traced_every = plan.traced_every
        self._keys = writer_key(plan, number)
        self._updates = iter(range(number, plan.updates, plan.writers))
        self._load = load
        self._progress = progress
        self._outstanding: deque[tuple[float, bool]] = deque()
        self._received = b""
        self._head_seen = False
        self._transport: asyncio.Transport | None = None

    def start(self) -> None:
        """Begin to write."""
        self._send(self._pipeline)

    def abort(self) -> None:
        """Close the connection, done or not."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports derive from nothing of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        token = f"Authorization: Bearer {self._agent.token}\r\n" if self._agent.token else ""
        self._transport.write(
            f"POST /v1/batch HTTP/1.1\r\nHost: {urlsplit(self._agent.url).netloc}\r\n{token}"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )

    def _send(self, number: int) -> None:
        assert self._transport is not None
        chunks = []
        now = time.monotonic()
        for update in self._updates:
            traced = update % self._traced_every == 0
            mark = ',"trace":true' if traced else ""
            line = f'{{"op":"put","key":"{self._keys}.u{update}","value":{update}{mark}}}\n'
            chunks.append(f"{len(line):x}\r\n{line}\r\n")
            self._outstanding.append((now, traced))
            if len(chunks) == number:
                break
        if chunks:
            self._transport.write("".join(chunks).encode())
        elif not self._outstanding and not self.finished.done():
            self._transport.write(b"0\r\n\r\n")
            self.finished.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._received + data
        if not self._head_seen:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            self._head_seen = True
            if b" 200 " not in head.partition(b"\r\n")[0]:
                self._fail(f"agent {self._agent.name} refused the batch: {_reason(data)}")
                return
        complete, newline, self._received = data.rpartition(b"\n")
        if b'"error":' in complete:
            self._fail(f"agent {self._agent.name} refused an update: {_reason(complete)}")
            return
        # Every acknowledgement is an object on a line of its own; what is left are sizes of chunks.
        number = (complete + newline).count(b"}\n")
        if number:
            self._acknowledge(number, complete)

    def _acknowledge(self, number: int, lines: bytes) -> None:
        now = time.monotonic()
        traced = []
        for index in range(number):
            sent, mark = self._outstanding.popleft()
            self._load.latencies.append(now - sent)
            if mark:
                traced.append(index)
        if traced:
            acknowledgements = [line for line in lines.split(b"\n") if line.startswith(b"{")]
            for index in traced:
                dot = json.loads(acknowledgements[index])["dot"]
                self._load.traced.append((self._agent, dot))
        self._progress(number)
        self._send(number)

    def _fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(CommandFailed(why))
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if not self.finished.done():
            self.finished.set_exception(
                Unreachable(f"agent {self._agent.name} closed the connection")
            )


def _reason(text: bytes) -> str:
    """The first reason that an answer gives."""
    for line in text.splitlines():
        if line.startswith(b"{"):
            try:
                document = json.loads(line)
            except ValueError:
                continue
            problem = document.get("error", document)
            if isinstance(problem, dict) and "detail" in problem:
                return str(problem["detail"])
    return "it gave no reason"

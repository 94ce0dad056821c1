"""The edges of one agent: what each lacks is sent in pieces, then all are sent the same bytes as things change.

An edge is *level* while it has been sent all that was sent to anybody, and costs one write to its socket a change. One that does
not take that in time falls *behind*: nothing is kept for it, it is sent what it lacks once it reads again, and given up if
it does not. So an agent's memory does not depend on its slowest edge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from aiohttp import WSMsgType, web

from gossipswarm_agent.core.batch import Row, pack
from gossipswarm_agent.core.extraction import without_rows
from gossipswarm_agent.core.messages import Ranges
from gossipswarm_agent.core.messages import encode as encode_message
from gossipswarm_agent.core.supply import within
from gossipswarm_agent.core.versions import VersionVector
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.frames import Hello, Taken

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

EDGES_LIMIT: Final = 768
"""Edges of one agent; a further one is told to ask another."""
UNSENT_LIMIT: Final = 64 << 10
"""Bytes that may wait in the buffer of an edge's socket; with more it falls behind."""
STALLED_SECONDS: Final = 10.0
"""An edge that takes nothing for so long is given up; it resumes when it is back."""
SILENT_SECONDS: Final = 3 * frames.IDLE_TAKEN_SECONDS
"""An edge that says nothing for so long is gone."""
WINDOW_SECONDS: Final = 0.004
"""Changes of so much time go out together, once changes follow each other."""
SHARE: Final = 4.0
"""Sending may take a quarter of the time: a round that took long is followed by a pause three times as long."""
PORTION_DOTS: Final = 2048
"""Writes of which the rows are looked for in one go."""
HASH_BEATS: Final = 25
"""Every so many beats edges are told what they must hold."""
TIMES_KEPT: Final = 4096

Prefixes: TypeAlias = tuple[str, ...] | None

_log = logging.getLogger(__name__)


class Lost(Exception):
    """An edge is given up; the message says why."""


class Attended:
    """One edge that is connected."""

    def __init__(
        self, hello: Hello, socket: web.WebSocketResponse, unsent: asyncio.Transport
    ) -> None:
        self.name = hello.name
        self.region = hello.region
        self.labels = hello.labels
        self.prefixes: Prefixes = None if hello.prefixes is None else tuple(hello.prefixes)
        self.since_ms = time.time_ns() // 1_000_000
        self.taken = 0
        """Number of the last frame that it has applied."""
        self.heard = time.monotonic()
        self.report: str | None = None
        """What it says of those that use it, as JSON."""
        self.vector: VersionVector | None = VersionVector(hello.seen)
        """What it has, while it is behind; None = it is level."""
        for origin, spans in hello.ahead.items():
            for first, last in spans:
                self.vector.add(origin, first, last)
        self.needs_all = not hello.seen
        self.terms = b""
        """The terms that it was told, as sent; empty = it has not been welcomed yet."""
        self.fell_behind = asyncio.Event()
        self._socket = socket
        self._unsent = unsent

    def has_room(self, size: int) -> bool:
        """Whether so many more bytes can be written without waiting for it."""
        return self._unsent.get_write_buffer_size() + size < UNSENT_LIMIT

    async def push(self, frame: bytes) -> None:
        """Send a frame for which there is room. Raises ConnectionError."""
        await self._socket.send_bytes(frame)

    async def send(self, frame: bytes) -> None:
        """Send once the edge takes it. Raises Lost or ConnectionError."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._socket.send_bytes(frame)
        except TimeoutError:
            raise Lost(f"it took nothing for {STALLED_SECONDS:g} s") from None

    def cut_off(self) -> None:
        """End its connection at once."""
        self._unsent.abort()


class Edges:
    """Serves the edges of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.dropped = 0
        """Edges that were given up, because they took nothing or said nothing."""
        self.number = 0
        """Of the last round."""
        self._agent = agent
        self._supply = agent.node.state.supply
        self._vector = agent.node.state.vector
        self._edges: set[Attended] = set()
        self._level: dict[Prefixes, set[Attended]] = {}
        self._sent = VersionVector()
        """What every level edge has been sent."""
        self._mended = 0
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        """When the latest rounds began."""
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._terms = b""
        self._collected = -1
        self._beats = 0

    def __len__(self) -> int:
        return len(self._edges)

    def __iter__(self) -> Iterator[Attended]:
        return iter(sorted(self._edges, key=lambda edge: edge.name))

    @property
    def full(self) -> bool:
        """No further edge is served."""
        return len(self._edges) >= EDGES_LIMIT

    def lag_seconds(self, edge: Attended) -> float:
        """For how long the oldest change has been known here that the edge does not say it has applied."""
        missing = self.number - edge.taken
        if missing <= 0:
            return 0.0
        index = len(self._times) - min(missing, len(self._times))
        return time.monotonic() - self._times[index] if self._times else 0.0

    def wake(self) -> None:
        """Something changed at the agent."""
        self._changed.set()

    # --- one edge ---------------------------------------------------------------------------------

    async def attend(
        self, hello: Hello, socket: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        """Serve an edge that has said hello, until it is gone or given up."""
        edge = Attended(hello, socket, transport)
        self._edges.add(edge)
        runner = self._runner = self._runner or self._start()
        if self._agent.node.state.collected_beyond(hello.seen):
            edge.needs_all = True
        tasks = [
            asyncio.create_task(self._feed(edge), name=f"edge {edge.name}"),
            asyncio.create_task(self._hear(edge, socket), name=f"edge {edge.name} says"),
        ]
        try:
            done, _ = await asyncio.wait((*tasks, runner), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Lost as lost:
            self.dropped += 1
            edge.cut_off()
            _log.info("an edge was given up", extra={"edge": edge.name, "reason": str(lost)})
        except ConnectionError:
            pass  # it is gone
        finally:
            self._edges.discard(edge)
            self._leave_level(edge)
            if not self._edges:
                self._runner = None
                tasks.append(runner)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _leave_level(self, edge: Attended) -> None:
        group = self._level.get(edge.prefixes)
        if group is not None:
            group.discard(edge)
            if not group:
                del self._level[edge.prefixes]

    async def _hear(self, edge: Attended, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                raise Lost("it speaks another protocol")
            try:
                said = frames.decode_from_edge(message.data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Lost(f"it sent what is no frame: {error}") from None
            if not isinstance(said, Taken):
                raise Lost("it said hello twice")
            edge.heard = time.monotonic()
            edge.taken = said.number
            if said.report is not None:
                edge.report = said.report

    async def _feed(self, edge: Attended) -> None:
        node = self._agent.node
        name, region = node.identity.name, node.identity.region
        await edge.send(frames.encode(frames.Welcome(name, region)))
        terms = self._current_terms()
        await edge.send(terms)
        edge.terms = terms
        while True:
            edge.fell_behind.clear()
            await self._bring_level(edge)
            await edge.fell_behind.wait()

    async def _bring_level(self, edge: Attended) -> None:
        """Send what the edge lacks, until there is nothing that it lacks."""
        while True:
            if edge.needs_all:
                await self._send_all(edge)
                continue
            assert edge.vector is not None
            lacking = self._sent.missing_from(edge.vector.seen, edge.vector.ahead)
            if not lacking:
                break
            await self._send_rows(edge, edge.vector, _portion(lacking))
        # No pause between that look and this: it has all that was sent to anybody.
        edge.vector = None
        self._level.setdefault(edge.prefixes, set()).add(edge)
        floor = self._agent.node.floors.floor()
        if floor is not None:
            await edge.send(frames.encode(frames.Collect(floor)))
        await edge.send(frames.encode(frames.Rows(self.number, [])))

    async def _send_rows(self, edge: Attended, known: VersionVector, ranges: Ranges) -> None:
        rows = list(within(self._supply.rows(self._vector.known(ranges)), edge.prefixes))
        claims = without_rows(ranges, rows)
        if self._agent.node.state.lost_among(claims):
            edge.needs_all = True
            return
        for frame in _pieces(rows, claims, 0):
            await edge.send(frame)
        _add(known, ranges)

    async def _send_all(self, edge: Attended) -> None:
        edge.needs_all = False
        # As of now, whatever happens while it is being sent.
        edge.vector = _copy(self._sent)
        end = frames.encode(frames.End(self._sent.seen, self._sent.ahead))
        rows = self._supply.everything(edge.prefixes)
        await edge.send(frames.encode(frames.Begin()))
        for batch in pack(rows, "", frames.PIECE_BYTES):
            await edge.send(frames.encode(frames.Rows(0, [encode_message(batch)])))
            await asyncio.sleep(0)
        await edge.send(end)

    # --- all of them ------------------------------------------------------------------------------

    def _start(self) -> asyncio.Task[None]:
        self._sent = _copy(self._vector)
        self._mended = self._supply.mended
        self._terms = self._current_terms()
        return asyncio.create_task(self._run(), name="edges")

    async def _run(self) -> None:
        beat_at = time.monotonic()
        while True:
            begun = time.monotonic()
            if begun >= beat_at:
                beat_at = begun + frames.BEAT_SECONDS
                await self._beat()
            self._changed.clear()
            await self._round()
            pause = max(WINDOW_SECONDS, (SHARE - 1) * (time.monotonic() - begun))
            await asyncio.sleep(min(pause, frames.BEAT_SECONDS))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, beat_at - time.monotonic())):
                    await self._changed.wait()

    async def _round(self) -> None:
        """Send all level edges what they lack."""
        if self._mended != self._supply.mended:
            self._mended = self._supply.mended
            self._sent = _copy(self._vector)
            for edge in self._edges:
                edge.needs_all = True
                self._fall_behind(edge, self._sent)
            return
        lacking = self._vector.missing_from(self._sent.seen, self._sent.ahead)
        if not lacking:
            return
        portion = _portion(lacking)
        if portion != lacking:
            self._changed.set()
            lacking = portion
        self.number += 1
        self._times.append(time.monotonic())
        rows = self._supply.rows(lacking)
        late: list[Attended] = []
        for prefixes, group in list(self._level.items()):
            held = list(within(rows, prefixes))
            pieces = list(_pieces(held, without_rows(lacking, held), self.number))
            late += [edge for edge in list(group) if not await _push_all(edge, pieces)]
        for edge in late:
            self._fall_behind(edge, self._sent)
        _add(self._sent, lacking)

    def _fall_behind(self, edge: Attended, known: VersionVector) -> None:
        """``known`` is what the edge has."""
        if edge.vector is None:
            edge.vector = _copy(known)
        self._leave_level(edge)
        edge.fell_behind.set()

    async def _beat(self) -> None:
        """Tell every edge that this agent lives, and what has changed beside the state."""
        self._beats += 1
        self._terms = self._current_terms()
        agent, now = self._agent, time.monotonic()
        extra = [frames.encode(self._sign_of_life())]
        collected = agent.node.counters.get("tombstones_collected", 0)
        if collected != self._collected:
            self._collected = collected
            floor = agent.node.floors.floor()
            if floor is not None:
                extra.append(frames.encode(frames.Collect(floor)))
        for edge in list(self._edges):
            if now - edge.heard > SILENT_SECONDS:
                self.dropped += 1
                edge.cut_off()
                continue
            if not edge.terms:
                continue
            frames_due = extra if edge.terms == self._terms else [*extra, self._terms]
            if await _push_all(edge, frames_due):
                edge.terms = self._terms

    def _sign_of_life(self) -> frames.Beat:
        agent = self._agent
        leaving = agent.departure.under_way
        # Writes that are not durable yet stand in the state and were not sent.
        if (
            self._beats % HASH_BEATS
            or agent.driver.in_flight
            or self._vector.hash != self._sent.hash
        ):
            return frames.Beat(leaving)
        return frames.Beat(leaving, self._sent.hash, agent.node.state.state_hash)

    def _current_terms(self) -> bytes:
        node = self._agent.node
        settings = msgspec.to_builtins(node.settings)
        parameters = node.parameters
        return frames.encode(frames.Terms(settings, parameters.version, parameters.degraded))


async def _push_all(edge: Attended, pieces: Sequence[bytes]) -> bool:
    """Whether there was room for all of it; an edge that is gone has as much as it needs."""
    for piece in pieces:
        if not edge.has_room(len(piece)):
            return False
        try:
            await edge.push(piece)
        except ConnectionError:
            break
    return True


def _pieces(rows: Iterable[Row], claims: Ranges, number: int) -> Iterator[bytes]:
    """Frames with these rows; the last one has the claims and the number."""
    previous: list[bytes] = []
    for batch in pack(rows, "", frames.PIECE_BYTES):
        if previous:
            yield frames.encode(frames.Rows(0, previous))
        previous = [encode_message(batch)]
    yield frames.encode(frames.Rows(number, previous, claims))


def _portion(ranges: Ranges) -> Ranges:
    """Some of these dots."""
    left = PORTION_DOTS
    portion: Ranges = {}
    for origin, spans in ranges.items():
        for first, last in spans:
            taken = min(left, last - first + 1)
            if not taken:
                return portion
            portion.setdefault(origin, []).append((first, first + taken - 1))
            left -= taken
    return portion


def _add(vector: VersionVector, ranges: Ranges) -> None:
    for origin, spans in ranges.items():
        for first, last in spans:
            vector.add(origin, first, last)


def _copy(vector: VersionVector) -> VersionVector:
    copied = VersionVector()
    _add(copied, vector.ranges())
    return copied

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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import WSMsgType, web

from gossipswarm_agent.edge import frames, reports
from gossipswarm_agent.edge.attended import Attended, Lost, push_all
from gossipswarm_agent.edge.feed import Feed, Prefixes, add
from gossipswarm_agent.edge.frames import Hello, Taken

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

EDGES_LIMIT: Final = 480
"""Edges of one agent; a further one is told to ask another. Each may have a second connection for what it passes on, and
others need some as well (``api.limits.MAX_CONNECTIONS``)."""
SILENT_SECONDS: Final = 3 * frames.IDLE_TAKEN_SECONDS
"""An edge that says nothing for so long is gone."""
WINDOW_SECONDS: Final = 0.004
"""Changes of so much time go out together, once changes follow each other."""
SHARE: Final = 4.0
"""Sending may take a quarter of the time: a round that took long is followed by a pause three times as long."""
HASH_BEATS: Final = 25
"""Every so many beats edges are told what they must hold."""
TIMES_KEPT: Final = 4096

_log = logging.getLogger(__name__)


class Edges:
    """Serves the edges of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.dropped = 0
        """Edges that were given up, because they took nothing or said nothing."""
        self._agent = agent
        self._feed = Feed(agent.node.state)
        self._edges: set[Attended] = set()
        self._level: dict[Prefixes, set[Attended]] = {}
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
        missing = self._feed.number - edge.taken
        if missing <= 0:
            return 0.0
        index = len(self._times) - min(missing, len(self._times))
        return time.monotonic() - self._times[index] if self._times else 0.0

    def projections(self) -> Mapping[reports.State, int]:
        """Files that these edges keep, by how they are."""
        return reports.count(edge.report for edge in self._edges)

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
        if self._runner is None:
            self._feed = Feed(self._agent.node.state)
            self._times.clear()
            self._runner = asyncio.create_task(self._run(), name="edges")
        runner = self._runner
        edge.needs_all = self._feed.must_begin_again(hello.seen)
        tasks = [
            asyncio.create_task(self._serve(edge), name=f"edge {edge.name}"),
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

    async def _serve(self, edge: Attended) -> None:
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
        while edge.needs_all or (lacking := self._feed.lacking(edge.known())):
            pieces = None if edge.needs_all else self._feed.rows(lacking, edge.prefixes)
            if pieces is None:
                edge.needs_all = False
                edge.vector, whole = self._feed.everything(edge.prefixes)
                for piece in whole:
                    await edge.send(piece)
                    await asyncio.sleep(0)  # it may never have to wait for the edge
            else:
                for piece in pieces:
                    await edge.send(piece)
                add(edge.known(), lacking)
        # No pause between that look and this: it has all that was sent to anybody.
        edge.vector = None
        self._level.setdefault(edge.prefixes, set()).add(edge)
        floor = self._agent.node.floors.floor()
        if floor is not None:
            await edge.send(frames.encode(frames.Collect(floor)))
        await edge.send(frames.encode(frames.Rows(self._feed.number, [])))

    # --- all of them ------------------------------------------------------------------------------

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
        """Send all level edges what is new."""
        feed = self._feed
        if feed.begin_again():
            for edge in self._edges:
                edge.needs_all = True
                self._fall_behind(edge)
        new = feed.upcoming()
        if not new:
            return
        self._changed.set()  # there may be more
        self._times.append(time.monotonic())
        late: list[Attended] = []
        for prefixes, pieces in feed.round(new, list(self._level)):
            level = list(self._level.get(prefixes, ()))
            late += [edge for edge in level if not await push_all(edge, pieces)]
        for edge in late:
            self._fall_behind(edge)
        feed.was_sent(new)

    def _fall_behind(self, edge: Attended) -> None:
        if edge.vector is None:
            edge.vector = self._feed.told(edge.prefixes)
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
            if await push_all(edge, frames_due):
                edge.terms = self._terms
        for prefixes, claims in self._feed.debts():
            for edge in list(self._level.get(prefixes, ())):
                if not await push_all(edge, [claims]):
                    self._fall_behind(edge)

    def _sign_of_life(self) -> frames.Beat:
        agent, sent = self._agent, self._feed.sent
        state, leaving = agent.node.state, agent.departure.under_way
        # Writes that are not durable yet stand in the state and were not sent.
        if self._beats % HASH_BEATS or agent.driver.in_flight or state.vector.hash != sent.hash:
            return frames.Beat(leaving)
        return frames.Beat(leaving, sent.hash, state.state_hash)

    def _current_terms(self) -> bytes:
        node = self._agent.node
        settings = msgspec.to_builtins(node.settings)
        parameters = node.parameters
        return frames.encode(frames.Terms(settings, parameters.version, parameters.degraded))

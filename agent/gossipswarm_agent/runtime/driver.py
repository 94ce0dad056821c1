"""Runs one core: feeds it what happens, and makes happen what it asks for.

Everything is done on the event loop, in the order in which the core asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from gossipswarm_agent.core.context import Instant
from gossipswarm_agent.core.effects import Append, Changed, Effect, Notify, Reply, Send
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Event, Received, Tick
from gossipswarm_agent.core.frames import Inbound
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.runtime.clocks import read_clocks
from gossipswarm_agent.runtime.commits import AnyJournal, Commits
from gossipswarm_agent.runtime.transport import Transport

LATE_SECONDS: Final = 0.02
"""A tick later than this drains the sockets first: the answer that a timeout is about may lie there."""
STALE_SECONDS: Final = 0.03
"""A deadline that moved this much further off has its timer set anew: waking for nothing costs several times that."""
DRAINS_BEFORE_TICK: Final = 16
PAUSE_AFTER_DEFECT: Final = 1.0

_log = logging.getLogger(__name__)


class Stopped(WriteRefused):
    """The agent has stopped; whoever asked should ask another."""

    def __init__(self) -> None:
        super().__init__(503, "stopped", "the agent is stopping; ask another one", 1.0)


def coalesced(deadline: float, now: float) -> float:
    """When to wake up for ``deadline``: a little later if it is far off, at a moment that others share.

    The agents of one process then wake up together, which saves most of what an idle agent costs.
    """
    ahead = deadline - now
    if ahead < 0.05:
        return deadline
    grid = 0.02 if ahead < 0.2 else 0.05
    return math.ceil(deadline / grid) * grid


class Driver:
    """One node on one transport and one journal.

    ``start`` is called once both exist; before it, the node is only restored.
    """

    def __init__(
        self,
        node: Node,
        journal: AnyJournal,
        rng: random.Random,
        *,
        clocks: Callable[[], Instant] = read_clocks,
    ) -> None:
        self.node = node
        self.commits = Commits(journal, self.handle_all, node.snapshot, rng)
        self.defects = 0
        """Events whose handling raised: each is a bug, logged with its traceback."""
        self.lag = 0.0
        """Seconds by which the last tick came later than it was asked for."""
        self.worst_lag = 0.0
        self.on_changed: Callable[[tuple[str, ...]], None] = lambda _: None
        self.on_notify: Callable[[Notify], None] = lambda _: None
        self._transport: Transport | None = None
        self._clocks = clocks
        self._loop = asyncio.get_running_loop()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._last_token = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_serves = math.inf
        """The deadline that the timer was set for."""
        self._closed = False

    def start(self, transport: Transport) -> None:
        """Send by ``transport`` from now on, and keep the node's deadlines."""
        self._transport = transport
        self._keep_deadline(self._clocks().mono)

    # --- events -----------------------------------------------------------------------------------

    def deliver(self, frames: list[Inbound]) -> None:
        """Frames came from the network. One that meets a bug takes no other with it."""
        if not self.handle_all((Received(frames),)) and len(frames) > 1:
            self.handle_all([Received([frame]) for frame in frames])

    def handle_all(self, events: Sequence[Event]) -> bool:
        """Handle events that nobody waits for; False if one met a bug, which is logged and survived."""
        sound = True
        for event in events:
            try:
                self.handle(event)
            except Exception:  # noqa: BLE001 - one event that meets a bug must not end the agent
                self._note_defect(event)
                sound = False
        return sound

    def _note_defect(self, event: Event) -> None:
        self.defects += 1
        _log.exception("cannot handle an event", extra={"event": type(event).__name__})
        # What the core had already applied may not have come to the journal.
        self.commits.mend()

    def handle(self, event: Event, now: Instant | None = None) -> None:
        """Handle one event and carry out what the core asks for; raises what the core raises."""
        if self._closed:
            return
        if now is None:
            now = self._clocks()
        effects = self.node.handle(event, now)
        if effects:
            self._carry_out(effects)
        deadline = self.node.deadline
        if deadline < self._timer_serves or deadline > self._timer_serves + STALE_SECONDS:
            self._keep_deadline(now.mono)

    def _carry_out(self, effects: list[Effect]) -> None:
        transport = self._transport
        for effect in effects:
            if isinstance(effect, Send):
                if transport is not None:
                    transport.send(effect)
            elif isinstance(effect, Append):
                self.commits.append(effect.record, effect.token, whole=effect.whole)
            elif isinstance(effect, Changed):
                self.on_changed(effect.keys)
            elif isinstance(effect, Reply):
                self._finish(effect)
            else:
                self.on_notify(effect)

    # --- requests ---------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests that wait for their reply."""
        return len(self._replies)

    def new_token(self) -> int:
        """A token that no request has had."""
        self._last_token += 1
        return self._last_token

    async def request(self, make: Callable[[int], Event]) -> Any:
        """Hand the node the event made for a new token, and await its reply or raise its error.

        Raises Stopped if the agent stops meanwhile.
        """
        token = self.new_token()
        reply = self.expect(token)
        try:
            self.handle(make(token))
            return await reply
        finally:
            self._replies.pop(token, None)

    def expect(self, token: int) -> asyncio.Future[Any]:
        """What will hold the reply to ``token``; pass it to ``forget`` if it is not awaited any more."""
        if self._closed:
            raise Stopped
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies[token] = reply
        return reply

    def forget(self, token: int) -> None:
        """Nobody waits for the reply to this token any more."""
        self._replies.pop(token, None)

    def _finish(self, effect: Reply) -> None:
        reply = self._replies.pop(effect.token, None)
        if reply is None or reply.done():
            return  # whoever asked has given up
        if effect.error is not None:
            reply.set_exception(effect.error)
        else:
            reply.set_result(effect.result)

    # --- time -------------------------------------------------------------------------------------

    def _keep_deadline(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.node.deadline
        self._timer_serves = deadline
        if deadline == math.inf or self._closed:
            return
        # Whole milliseconds, rounded up: the loop's timers know no less, and would fire early.
        pause = math.ceil(max(0.0, coalesced(deadline, now) - now) * 1000) / 1000
        self._timer = self._loop.call_later(pause, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_serves = math.inf
        now = self._clocks()
        late = now.mono - self.node.deadline
        if late >= 0:
            self.lag = late
            self.worst_lag = max(self.worst_lag, late)
            if late > LATE_SECONDS:
                self._drain()
                now = self._clocks()
            try:
                self.handle(Tick(), now)
            except Exception:  # noqa: BLE001 - as above
                self._note_defect(Tick())
                self._timer_serves = -math.inf
                self._timer = self._loop.call_later(PAUSE_AFTER_DEFECT, self._wake)
                return
        if self._timer is None:
            self._keep_deadline(now.mono)

    def _drain(self) -> None:
        # Event loops run timers that are due before they read sockets that are ready.
        for _ in range(DRAINS_BEFORE_TICK):
            if self._transport is None or not self._transport.drain():
                return

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Handle nothing any more, journal what waits, and fail the requests that are still open."""
        await self.commits.close()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(Stopped())

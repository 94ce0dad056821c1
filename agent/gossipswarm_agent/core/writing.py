"""Local writes: planned at once, durable next, then spread and acknowledged.

Nobody is told of a write, and it is not acknowledged, before it is as durable as was asked: a crash can then
lose no more than what nobody relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Append, Reply
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import JournalFailed, LocalWrite
from gossipswarm_agent.core.frames import Frame
from gossipswarm_agent.core.messages import Batch, encode
from gossipswarm_agent.core.receipts import Receipts
from gossipswarm_agent.core.results import WriteResult
from gossipswarm_agent.core.state import State

UNDURABLE_LIMIT: Final = 10_000
"""Own writes waiting for the disk; beyond that callers get 429."""


class _Pending(msgspec.Struct):
    """A write between its append and its fsync."""

    token: int
    batch: Batch
    frame: Frame
    results: list[WriteResult]
    changed: list[str]


class LocalWrites:
    """What callers of this agent write."""

    def __init__(
        self,
        ctx: Context,
        state: State,
        receipts: Receipts,
        spread: Callable[[Batch, Frame], None],
        changed: Callable[[Sequence[str]], None],
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._receipts = receipts
        self._spread = spread
        self._changed = changed
        self._pending: dict[int, _Pending] = {}

    def write(self, event: LocalWrite, refusal: WriteRefused | None) -> None:
        """Plan and append; refused with ``refusal`` if there is one, or if the state refuses."""
        try:
            if refusal is not None:
                raise refusal
            if len(self._pending) >= UNDURABLE_LIMIT:
                raise WriteRefused(429, "too-many-writes", "too many writes wait for the disk", 0.1)
            batch, results, changed = self._state.write(
                event.mutations, system=event.system, traced=event.traced
            )
        except WriteRefused as refused:
            self._ctx.effects.append(Reply(event.token, error=refused))
            return
        if batch is None:
            self._ctx.effects.append(Reply(event.token, results))
            return
        frame = Frame(encode(batch))
        pending = _Pending(event.token, batch, frame, results, changed)
        if self._ctx.settings.durability == "memory":
            self._ctx.effects.append(Append(frame.body))
            self._complete(pending)
            return
        self._pending[event.token] = pending
        self._ctx.effects.append(Append(frame.body, event.token))

    def durable(self, token: int) -> None:
        """The disk has it."""
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._complete(pending)

    def failed(self, event: JournalFailed) -> None:
        """The disk refused it: take it back."""
        pending = self._pending.pop(event.token, None)
        if pending is not None:
            self._changed(self._state.retract(pending.batch))
            self._ctx.effects.append(Reply(event.token, error=event.error))

    def _complete(self, pending: _Pending) -> None:
        batch = pending.batch
        self._state.confirm(batch)
        # After a change of origin its rows were issued again under the new one, and went out as those.
        if batch.runs[0][0] == self._state.origin:
            keys = {result.dot: result.key for result in pending.results}
            for origin, sequence in batch.traced:
                self._receipts.start(origin, sequence, keys[f"{origin}:{sequence}"])
            self._spread(batch, pending.frame)
        self._changed(pending.changed)
        self._ctx.count("writes", sum(run[2] for run in batch.runs))
        self._ctx.effects.append(Reply(pending.token, pending.results))

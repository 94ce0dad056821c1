"""Hooks: what an operator wants done when something happens. They never hold up gossip.

Events that belong together run in order, one after the other (healing never overtakes the partition it
ends); other events run beside them. What cannot wait any more is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.runtime.hook_actions import ActionFailed, Occasion, Performer
from gossipswarm_agent.runtime.hooks_file import Action, Hooks, describe, load_hooks

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

WAITING_LIMIT: Final = 64
"""Occasions that may wait in one lane; one more is dropped."""
OUTCOMES_KEPT: Final = 64

_log = logging.getLogger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """How one action ended."""

    event: str
    action: str
    status: str
    """``done`` or ``failed``."""
    message: str
    """What it said, or why it failed."""
    duration_ms: float
    at: str


class HookRunner:
    """The hooks of one agent, and a task a lane that has something to do. Made by ``start``."""

    def __init__(self, agent: Agent, hooks: Hooks) -> None:
        self.hooks = hooks
        self.outcomes: deque[Outcome] = deque(maxlen=OUTCOMES_KEPT)
        """How the last actions ended, oldest first."""
        self._agent = agent
        self._performer = Performer(agent)
        self._waiting: dict[str, deque[Occasion]] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._unsubscribe = agent.subscribe(self._heard)

    @classmethod
    def start(cls, agent: Agent, path: Path) -> HookRunner:
        """Run the hooks of a file from now on. Raises ConfigError."""
        return cls(agent, load_hooks(path))

    async def run(self, event: str, detail: dict[str, Any]) -> list[Outcome]:
        """Carry out the actions of an event now, and say how each ended."""
        occasion = self._occasion(event, detail)
        return [await self._perform(action, occasion) for action in self.hooks.get(event, ())]

    def _heard(self, notice: Notify) -> None:
        if notice.event not in self.hooks:
            return
        lane = notice.event.partition("-")[0]
        waiting = self._waiting.setdefault(lane, deque())
        if len(waiting) >= WAITING_LIMIT:
            self._agent.metrics.count_hook(notice.event, "overflow")
            return
        waiting.append(self._occasion(notice.event, notice.detail))
        if lane not in self._lanes:
            self._lanes[lane] = asyncio.create_task(self._work(lane), name=f"hooks {lane}")

    def _occasion(self, event: str, detail: dict[str, Any]) -> Occasion:
        config = self._agent.config
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Occasion(event, config.name, config.region, config.swarm, at, detail)

    async def _work(self, lane: str) -> None:
        waiting = self._waiting[lane]
        try:
            while waiting:
                occasion = waiting.popleft()
                for action in self.hooks.get(occasion.event, ()):
                    await self._perform(action, occasion)
        finally:
            del self._lanes[lane]

    async def _perform(self, action: Action, occasion: Occasion) -> Outcome:
        began = time.monotonic()
        try:
            status, message = "done", await self._performer.perform(action, occasion)
        except ActionFailed as failed:
            status, message = "failed", str(failed)
        except Exception as error:  # noqa: BLE001 - a defect in an action must not end its lane
            _log.exception("a hook's action met a bug", extra={"event": occasion.event})
            status, message = "failed", f"internal error: {error!r}"
        outcome = Outcome(
            event=occasion.event,
            action=describe(action),
            status=status,
            message=message,
            duration_ms=round((time.monotonic() - began) * 1000, 3),
            at=occasion.at,
        )
        self.outcomes.append(outcome)
        self._agent.metrics.count_hook(occasion.event, status)
        _log.log(
            logging.INFO if status == "done" else logging.WARNING,
            "hook %s",
            status,
            extra={
                "agent": self._agent.config.name,
                "event": outcome.event,
                "action": outcome.action,
                "output": message,
            },
        )
        return outcome

    async def close(self) -> None:
        """Start nothing any more, and end what runs."""
        self._unsubscribe()
        tasks = list(self._lanes.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._performer.close()

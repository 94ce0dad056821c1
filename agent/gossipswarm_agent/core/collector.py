"""When deletions are collected: once the floors say that everybody has them, a portion at a time."""

from __future__ import annotations

from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.floors import Floors
from gossipswarm_agent.core.state import COLLECT_LIMIT, State

INTERVAL: Final = 2.0
"""Seconds between looks while there are tombstones."""
PAUSE: Final = 0.25
"""Seconds between two portions."""


class Collector:
    """Collects tombstones at causal stability."""

    def __init__(self, ctx: Context, state: State, floors: Floors) -> None:
        self._ctx = ctx
        self._state = state
        self._floors = floors
        self._done_to: dict[str, int] | None = None
        self.deadline = float("inf")
        """When ``tick`` is next needed."""

    def watch(self) -> None:
        """There may be tombstones now."""
        if self.deadline == float("inf") and self._state.tombstone_count:
            self.deadline = self._ctx.now.mono + INTERVAL

    def tick(self) -> None:
        """Collect a portion, if the floor allows it and has risen."""
        self.deadline = float("inf")
        if not self._state.tombstone_count:
            return
        self.deadline = self._ctx.now.mono + INTERVAL
        floor = self._floors.floor()
        if floor is None or floor is self._done_to:
            return
        collected = self._state.collect(floor, COLLECT_LIMIT)
        self._ctx.count("tombstones_collected", collected)
        if collected < COLLECT_LIMIT:
            self._done_to = floor
        else:
            self.deadline = self._ctx.now.mono + PAUSE

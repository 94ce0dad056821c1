"""Partitions that one agent lived through: when, between whom, how fast noticed, how fast made up for.

An agent hears of a partition's end before it has what was written beyond it. How long it took to catch up is
read off what arrives: the last change that somebody beyond the cut had written before the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.node import Node

HISTORY_KEPT: Final = 100
SETTLE_SECONDS: Final = 5.0
"""How long after its end a partition is watched for what still arrives."""
LOOKED_AT: Final = 4
"""Changes that are looked at of those that came together: they were written in one stretch."""


class Cut(msgspec.Struct, frozen=True):
    """Two regions without a direct link. Times are wall clock in milliseconds."""

    a: str
    b: str
    since_ms: int
    detection_ms: int


class Partition(msgspec.Struct):
    """One partition, current or past. Times are wall clock in milliseconds."""

    start_ms: int
    """When the silence began."""
    groups: list[list[str]]
    detection_ms: int
    """From the beginning of the silence until this agent knew."""
    end_ms: int | None = None
    healing_ms: int | None = None
    """From the end until what had been written beyond the cut was here; None until that is known."""
    conflicts: int = 0
    """Concurrent writes that were decided during it and after it."""

    @property
    def regions(self) -> list[str]:
        """All regions that it was between."""
        return sorted(region for group in self.groups for region in group)


class PartitionLog:
    """Fed with what the core tells, by its agent, on the event loop."""

    def __init__(self, node: Node, on_healed: Callable[[Partition], None]) -> None:
        """``on_healed`` gets each partition that is over, once it is known how long healing took."""
        self.history: deque[Partition] = deque(maxlen=HISTORY_KEPT)
        """Latest last."""
        self._node = node
        self._on_healed = on_healed
        self._cuts: dict[tuple[str, str], Cut] = {}
        self._beyond: set[str] = set()
        """Regions that were beyond the current or last partition at some time."""
        self._healing: Partition | None = None
        self._settling: asyncio.TimerHandle | None = None

    @property
    def cuts(self) -> list[Cut]:
        """Links that are down now."""
        return [self._cuts[pair] for pair in sorted(self._cuts)]

    def observe(self, notice: Notify) -> None:
        """Something notable happened."""
        detail, now = notice.detail, _now_ms()
        match notice.event:
            case "region-cut":
                detection = int(detail["detection_ms"])
                cut = Cut(detail["a"], detail["b"], now - detection, detection)
                self._cuts[cut.a, cut.b] = cut
            case "region-healed":
                self._cuts.pop((detail["a"], detail["b"]), None)
            case "partition-detected":
                self._begin(detail["groups"], int(detail["detection_ms"]), now)
            case "partition-healed":
                self._end(now)
            case "conflict":
                current = self._healing or self._current()
                if current is not None:
                    current.conflicts += 1

    def _current(self) -> Partition | None:
        last = self.history[-1] if self.history else None
        return last if last is not None and last.end_ms is None else None

    def _begin(self, groups: list[list[str]], detection_ms: int, now: int) -> None:
        self._settle()
        current = self._current()
        if current is None:
            self._beyond.clear()
            self.history.append(Partition(now - detection_ms, groups, detection_ms))
        else:
            # Regions fall away one after the other: it is one partition until all are back.
            current.groups = groups
        home = self._node.identity.region
        self._beyond.update(*(group for group in groups if home not in group))

    def _end(self, now: int) -> None:
        current = self._current()
        if current is None:
            return
        current.end_ms = now
        self._healing = current
        self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    def note_changes(self, keys: Sequence[str]) -> None:
        """The visible values of these leaves changed."""
        healing = self._healing
        if healing is None:
            return
        assert healing.end_ms is not None
        for key in keys[-LOOKED_AT:]:
            change = self._node.change(key)
            member = self._node.membership.members.get(change.origin)
            beyond = member is not None and member.region in self._beyond
            if beyond and change.updated_ms <= healing.end_ms:
                healing.healing_ms = max(0, _now_ms() - healing.end_ms)
                return

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        healed, self._healing = self._healing, None
        if healed is not None:
            # Nothing arrived: there was nothing to catch up with.
            healed.healing_ms = healed.healing_ms or 0
            self._on_healed(healed)

    def close(self) -> None:
        """Watch no longer."""
        self._settle()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

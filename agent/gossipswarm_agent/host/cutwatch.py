"""When an agent noticed that it was cut off, measured from the moment at which packets began to be lost.

Agents report how long a region had been silent when they declared it cut off. Whoever makes the cut knows
better when it began, and this is that clock.
"""

from __future__ import annotations

import time

from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.runtime.drops import DropList

_NOTICED = frozenset({"region-cut", "partition-detected"})
_MENDED = frozenset({"region-healed", "partition-healed"})


class CutWatch:
    """One agent's cuts: the current one, or the last."""

    def __init__(self) -> None:
        self.drops = DropList()
        self.detected_ms: int | None = None
        """From the first dropped packet to the agent's first notice; None = not yet."""
        self.healed_ms: int | None = None
        """From the last dropped packet to the agent's last notice of a heal; None = not yet."""
        self._began: int | None = None
        self._ended: int | None = None
        self._down: set[tuple[str, str]] = set()
        """Links that the agent holds for cut."""

    def cut(self, drops: DropList) -> None:
        """The agent drops packets as listed from now on."""
        now = _now_ms()
        if drops.inbound or drops.outbound:
            if not (self.drops.inbound or self.drops.outbound):
                self._began, self._ended = now, None
                # What it holds for cut already, by a cut before or by mistake, it does not tell of again.
                self.detected_ms = 0 if self._down else None
                self.healed_ms = None
        elif self._began is not None and self._ended is None:
            until = self.drops.until_ms
            self._ended = now if until is None else min(now, until)
        self.drops = drops

    def notice(self, notice: Notify) -> None:
        """The agent said something."""
        now = _now_ms()
        link = notice.detail.get("a", ""), notice.detail.get("b", "")
        if notice.event == "region-cut":
            self._down.add(link)
        elif notice.event == "region-healed":
            self._down.discard(link)
            if not self._down and self._holds(now):
                self.detected_ms = None
        if notice.event in _NOTICED and self._began is not None and self.detected_ms is None:
            self.detected_ms = max(now - self._began, 0)
        elif notice.event in _MENDED:
            until = self.drops.until_ms
            ended = until if self._ended is None and until is not None else self._ended
            if ended is not None and ended <= now:
                self.healed_ms = now - ended

    def _holds(self, now: int) -> bool:
        until = self.drops.until_ms
        return self._began is not None and self._ended is None and (until is None or now < until)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Hybrid logical clock: 48 bits of milliseconds, 16 bits of counter, in one int.

Kulkarni et al., "Logical Physical Clocks" (2014). A stamp is larger than every stamp that was observed
before it, so ordering by stamp never contradicts causality.
"""

from __future__ import annotations

COUNTER_BITS = 16


def milliseconds(stamp: int) -> int:
    """Milliseconds since the epoch that a stamp stands for."""
    return stamp >> COUNTER_BITS


class HybridClock:
    """Stamps local events; observes remote stamps."""

    __slots__ = ("last", "trusts_wall")

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self.trusts_wall = True
        """False after peers said that this clock runs ahead: stamps then follow what was observed."""

    def stamp(self, wall: int) -> int:
        """A new stamp; ``wall`` is the wall clock in milliseconds."""
        now = wall << COUNTER_BITS if self.trusts_wall else 0
        self.last = max(self.last + 1, now)
        return self.last

    def observe(self, stamp: int) -> None:
        """Later stamps will be larger than this one."""
        if stamp > self.last:
            self.last = stamp

"""Histograms of durations: a count a bucket, and nothing per sample."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

SPREAD_SECONDS: Final = (
    0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0, 10.0, 60.0,
)  # fmt: skip
"""Buckets for what takes milliseconds when all is well and seconds when it is not."""
SYNC_SECONDS: Final = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Buckets for what disks do."""


class Histogram:
    """Cumulative on reading, as Prometheus wants it. Bounds are in seconds, upper ends inclusive."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it), ending with ``+Inf``."""
        rows, total = [], 0
        names = [*map(repr, self._bounds), "+Inf"]
        for name, count in zip(names, self._counts, strict=True):
            total += count
            rows.append((name, float(total)))
        return rows

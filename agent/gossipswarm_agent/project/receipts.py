"""Receipts of projections: which version is on disk since when, and whether the application was told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.project.reloading import APPLIED, Result
from gossipswarm_agent.runtime.histograms import SPREAD_SECONDS, Histogram

_PREFIX: Final = "gossipswarm_projection_"


class Written(msgspec.Struct, frozen=True):
    """A version that is on disk."""

    version: int
    """Of the prefix; 0 = there was nothing."""
    etag: str
    dot: str
    """``origin:sequence`` of the newest write that it shows; empty = there was nothing."""
    on_trial: bool
    """Whether it is what the prefix says with a trial of this region on top."""
    written_ms: int
    """Wall clock when it came to the disk, or was found there."""
    generation: int
    """Counts versions that changed the files since the start; 0 = it was there already."""
    bytes: int
    files: int


class Told(msgspec.Struct, frozen=True):
    """How the last attempt to tell the application ended."""

    result: Result
    detail: str
    at_ms: int
    generation: int
    """Which the attempt was about."""


class Receipt(msgspec.Struct, frozen=True):
    """What is known of one projection."""

    projection: Projection
    written: Written | None
    """None until the first version is on disk."""
    told: Told | None
    trouble: str | None
    """Why the newest version is not on disk."""

    @property
    def applied(self) -> bool:
        """Whether the application has what is on disk, as far as it lets anybody know."""
        if self.written is None:
            return False
        reload = self.projection.reload
        if reload is None or (reload.http is None and self.written.generation == 0):
            # What was there at the start was signalled by whoever wrote it, or is older than the application.
            return True
        return (
            self.told is not None
            and self.told.generation == self.written.generation
            and self.told.result in APPLIED
        )


def encode_receipt(receipt: Receipt) -> bytes:
    """A receipt as JSON, short: what is on disk, and whether it is applied."""
    written = receipt.written
    return msgspec.json.encode(
        {
            "prefix": receipt.projection.prefix,
            "path": receipt.projection.path,
            "version": 0 if written is None else written.version,
            "etag": "" if written is None else written.etag,
            "dot": "" if written is None else written.dot,
            "written": written is not None,
            "applied": receipt.applied,
            "trouble": receipt.trouble,
        }
    )


class Counts:
    """What happened to one projection since the start, and its receipt."""

    def __init__(self, projection: Projection) -> None:
        self.receipt = Receipt(projection, None, None, None)
        self.writes = 0
        """Versions that changed the files."""
        self.failures = 0
        self.reloads: dict[Result, int] = dict.fromkeys(
            ("acknowledged", "signalled", "absent", "failed"), 0
        )
        self.delay = Histogram(SPREAD_SECONDS)
        """Seconds from when a change was seen until the files had it."""


def families(projections: Sequence[Counts]) -> Iterator[Metric]:
    """Metrics of these projections, by path; nothing where there are none."""
    if not projections:
        return
    gauges = {
        name: GaugeMetricFamily(_PREFIX + name, text, labels=["path"])
        for name, text in (
            ("version", "Version of the prefix that is on disk."),
            ("written_timestamp_seconds", "When it came to the disk."),
            ("bytes", "Size of what is on disk."),
            ("trouble", "1 while the newest version is not on disk."),
            ("applied", "1 while the application has what is on disk."),
        )
    }
    counters = {
        name: CounterMetricFamily(_PREFIX + name, text, labels=["path"])
        for name, text in (
            ("writes", "Versions that changed the files."),
            ("failures", "Attempts to write that failed."),
        )
    }
    reloads = CounterMetricFamily(
        _PREFIX + "reloads", "Attempts to tell the application.", labels=["path", "result"]
    )
    delay = HistogramMetricFamily(
        _PREFIX + "delay_seconds",
        "From when a change was seen until the files had it.",
        labels=["path"],
    )
    for each in projections:
        receipt, path = each.receipt, [each.receipt.projection.path]
        written = receipt.written
        if written is not None:
            gauges["version"].add_metric(path, written.version)
            gauges["written_timestamp_seconds"].add_metric(path, written.written_ms / 1000)
            gauges["bytes"].add_metric(path, written.bytes)
        gauges["trouble"].add_metric(path, int(receipt.trouble is not None))
        gauges["applied"].add_metric(path, int(receipt.applied))
        counters["writes"].add_metric(path, each.writes)
        counters["failures"].add_metric(path, each.failures)
        for result, count in each.reloads.items():
            reloads.add_metric([*path, result], count)
        delay.add_metric(path, each.delay.buckets(), each.delay.sum)
    yield from gauges.values()
    yield from counters.values()
    yield reloads
    yield delay

"""An agent's metrics. Everything is read from plain counters when somebody scrapes; only durations are
collected as they happen.

Names have the prefix ``gossipswarm_`` and base units; labels are bounded: regions, reasons, kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.runtime.histograms import SPREAD_SECONDS, SYNC_SECONDS, Histogram

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

PREFIX: Final = "gossipswarm_"
_LABELLED: Final[dict[str, tuple[str, list[str], str]]] = {
    "dropped_": ("dropped_packets", ["reason"], "Frames and messages that were dropped."),
    "conflicts_": ("conflicts", ["resolution"], "Concurrent writes that lost, by what decided."),
    "batches_": ("batches", ["direction", "kind"], "Batches of updates that were news."),
    "updates_": ("updates", ["direction", "kind"], "Rows in those batches."),
}
"""Prefixes of the core's counters that are one metric with labels each."""
_HOPS: Final = "hops_"
_LARGEST_HOP: Final = 16


def program_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("gossipswarm")
    except PackageNotFoundError:
        return "unknown"


class Metrics(Collector):
    """What one agent exposes on /metrics."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.convergence: dict[str, Histogram] = {}
        """By threshold: seconds until that share of the agents held a traced write."""
        self.detection = Histogram(SPREAD_SECONDS)
        self.healing = Histogram(SPREAD_SECONDS)
        self.fsync = Histogram(SYNC_SECONDS)
        self.hook_runs: dict[tuple[str, str], int] = {}
        """Hook actions by event and outcome."""

    def observe_convergence(self, threshold: float, seconds: float) -> None:
        """A traced write reached this share of the agents."""
        name = f"{threshold:g}"
        histogram = self.convergence.get(name)
        if histogram is None:
            if len(self.convergence) >= 16:
                return  # the threshold is a setting: it must not make labels without end
            histogram = self.convergence[name] = Histogram(SPREAD_SECONDS)
        histogram.observe(seconds)

    def observe_notice(self, notice: Notify) -> None:
        """Something notable happened."""
        if notice.event == "region-cut":
            self.detection.observe(notice.detail["detection_ms"] / 1000)

    def count_hook(self, event: str, outcome: str) -> None:
        """A hook's action is over."""
        key = event, outcome
        self.hook_runs[key] = self.hook_runs.get(key, 0) + 1

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        yield from self._replication()
        yield from self._network()
        yield from self._members()
        yield from self._durations()
        yield from self._process()
        yield from self._agent.projector.collect()
        yield from self._edges()

    # --- by concern -------------------------------------------------------------------------------

    def _replication(self) -> Iterator[Metric]:
        node = self._agent.node
        state = node.state
        yield gauge("leaves", "Live leaves held.", state.leaf_count)
        yield gauge("tombstones", "Deleted leaves not collected yet.", state.tombstone_count)
        yield gauge("held_rows", "Rows from the future, waiting for their time.", state.held_count)
        yield gauge(
            "degraded", "1 while writes are refused by order.", int(node.parameters.degraded)
        )
        yield gauge("clock_skew_seconds", "By how much peers say that this clock is ahead.",
                     node.skew.ahead_ms / 1000)  # fmt: skip
        groups: dict[str, CounterMetricFamily] = {}
        for prefix, (name, labels, text) in _LABELLED.items():
            groups[prefix] = CounterMetricFamily(PREFIX + name, text, labels=labels)
        others = _counter_family("core_events", "What the protocol did, by kind.", "kind")
        hops: dict[int, int] = {}
        for name, count in sorted(node.counters.items()):
            prefix, _, rest = name.partition("_")
            family = groups.get(f"{prefix}_")
            if family is not None:
                family.add_metric(rest.split("_", len(_LABELLED[f"{prefix}_"][1]) - 1), count)
            elif name.startswith(_HOPS):
                hops[int(rest)] = count
            else:
                others.add_metric([name], count)
        for reason, count in sorted(self._agent.transport.counters.dropped.items()):
            groups["dropped_"].add_metric([reason], count)
        yield from groups.values()
        yield others
        yield _hops(hops)

    def _network(self) -> Iterator[Metric]:
        transport, agent = self._agent.transport, self._agent
        counters = transport.counters
        traffic = _counter_family("bytes", "Payload bytes, by direction.", "direction")
        traffic.add_metric(["in"], counters.bytes_in)
        traffic.add_metric(["out"], counters.bytes_out)
        yield traffic
        frames = CounterMetricFamily(
            PREFIX + "frames", "Frames, by direction and kind.", labels=["direction", "kind"]
        )
        frames.add_metric(["in", "datagram"], counters.datagrams_in)
        frames.add_metric(["out", "datagram"], counters.datagrams_out)
        frames.add_metric(["in", "stream"], counters.stream_frames_in)
        frames.add_metric(["out", "stream"], counters.stream_frames_out)
        yield frames
        yield gauge("streams", "Open streams, both ways.", transport.streams_open)
        depths = GaugeMetricFamily(
            PREFIX + "queue_depth", "What waits, by queue.", labels=["queue"]
        )
        depths.add_metric(["stream_bytes"], transport.stream_queue_bytes)
        depths.add_metric(["requests"], agent.driver.in_flight)
        depths.add_metric(["watchers"], len(agent.watchers))
        yield depths
        yield counter("watchers_dropped", "Watchers that were too slow.", agent.watchers.dropped)
        yield counter(
            "seed_failures", "Attempts to resolve a seed that failed.", agent.seed_failures
        )

    def _members(self) -> Iterator[Metric]:
        node = self._agent.node
        members = GaugeMetricFamily(
            PREFIX + "members", "Members known, by region and state.", labels=["region", "state"]
        )
        for (region, state), count in sorted(node.membership.counts().items()):
            members.add_metric([region, state], count)
        yield members
        cuts = GaugeMetricFamily(
            PREFIX + "region_cut", "1 while two regions cannot hear each other.", labels=["a", "b"]
        )
        regions = sorted(node.membership.regions())
        for position, a in enumerate(regions):
            for b in regions[position + 1 :]:
                cuts.add_metric([a, b], int(not node.regions.linked(a, b)))
        yield cuts

    def _durations(self) -> Iterator[Metric]:
        spread = HistogramMetricFamily(
            PREFIX + "convergence_seconds",
            "Time until this share of the agents held a traced write of this agent.",
            labels=["threshold"],
        )
        for threshold, histogram in sorted(self.convergence.items()):
            spread.add_metric([threshold], histogram.buckets(), histogram.sum)
        yield spread
        for name, text, histogram in (
            ("cut_detection_seconds", "Silence until a cut between regions was declared.",
             self.detection),
            ("heal_seconds", "Time until regions that met again held the same.", self.healing),
            ("journal_fsync_seconds", "Duration of the journal's syncs.", self.fsync),
        ):  # fmt: skip
            yield HistogramMetricFamily(
                PREFIX + name, text, buckets=histogram.buckets(), sum_value=histogram.sum
            )

    def _edges(self) -> Iterator[Metric]:
        edges = self._agent.edges
        known = [] if edges is None else list(edges)
        lags = [0.0 if edges is None else edges.lag_seconds(edge) for edge in known]
        yield gauge("edges", "Edges that follow this agent.", len(known))
        yield gauge("edges_behind", "Edges that are being sent what they lack.",
                    sum(edge.vector is not None for edge in known))  # fmt: skip
        yield gauge("edge_lag_seconds", "Age of the oldest change that an edge has not applied, of all edges.",
                    max(lags, default=0.0))  # fmt: skip
        yield counter("edges_dropped", "Edges that were given up for being silent or too slow.",
                      0 if edges is None else edges.dropped)  # fmt: skip
        files = GaugeMetricFamily(
            PREFIX + "edge_projections", "Files that these edges keep, by state.", labels=["state"]
        )
        counts = {} if edges is None else edges.projections()
        for state in ("applied", "unapplied", "trouble"):
            files.add_metric([state], counts.get(state, 0))
        yield files

    def _process(self) -> Iterator[Metric]:
        agent = self._agent
        status = agent.journal_status
        yield gauge("journal_bytes", "Size of the journal on disk.", status.bytes)
        yield counter("journal_records", "Records appended.", status.records)
        yield counter("journal_failures", "Appends, syncs and snapshots refused by the disk.",
                       status.failures)  # fmt: skip
        yield counter("journal_snapshots", "Snapshots taken.", status.snapshots)
        yield gauge("journal_trouble", "1 while the journal does not hold everything.",
                     int(status.trouble is not None))  # fmt: skip
        yield gauge("event_loop_lag_seconds", "By how much the last tick came late.",
                     agent.loop_lag_seconds)  # fmt: skip
        yield gauge(
            "event_loop_worst_lag_seconds", "The latest tick of all.", agent.driver.worst_lag
        )
        yield counter("defects", "Events that met a bug; the log has them.", agent.driver.defects)
        hooks = CounterMetricFamily(
            PREFIX + "hook_actions", "Actions of hooks, by outcome.", labels=["event", "outcome"]
        )
        for (event, outcome), count in sorted(self.hook_runs.items()):
            hooks.add_metric([event, outcome], count)
        yield hooks
        labels = {
            "version": program_version(),
            "python": python_version(),
            "agent": agent.config.name,
            "region": agent.config.region,
            "swarm": agent.config.swarm,
        }
        build = GaugeMetricFamily(PREFIX + "build_info", "Always 1.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build


def _hops(counts: dict[int, int]) -> HistogramMetricFamily:
    buckets, total = [], 0
    for hop in range(_LARGEST_HOP + 1):
        total += counts.get(hop, 0)
        buckets.append((str(hop), float(total)))
    buckets.append(("+Inf", float(sum(counts.values()))))
    return HistogramMetricFamily(
        PREFIX + "hops",
        "Sends between the one who sealed a batch and this agent, over batches that were news.",
        buckets=buckets,
        sum_value=float(sum(hop * count for hop, count in counts.items())),
    )


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """One number that goes up and down."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """One number that only goes up."""
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _counter_family(name: str, text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=[label])

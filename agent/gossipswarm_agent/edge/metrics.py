"""An edge's metrics, read from plain counters when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from platform import python_version
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gossipswarm_agent.runtime.metrics import PREFIX, counter, gauge, program_version

if TYPE_CHECKING:
    from gossipswarm_agent.edge.edge import Edge

_NEVER: Final = float("inf")


class Metrics(Collector):
    """What one edge exposes on /metrics."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        edge = self._edge
        replica, upstream, state = edge.replica, edge.upstream, edge.replica.state
        silence = upstream.silence_seconds()
        yield gauge("leaves", "Live leaves held.", state.leaf_count)
        yield gauge("tombstones", "Deleted leaves not collected yet.", state.tombstone_count)
        yield gauge("degraded", "1 while writes cannot be passed on.", int(edge.degraded))
        yield gauge("edge_connected", "1 while an agent is followed.",
                    int(upstream.current is not None))  # fmt: skip
        yield gauge("edge_age_seconds", "Since an agent was last heard; infinite if never.",
                    _NEVER if silence is None else silence)  # fmt: skip
        yield gauge("edge_upstreams", "Agents that can be turned to.", upstream.known)
        yield counter("edge_failovers", "Agents that were lost or left.", upstream.failovers)
        yield counter("edge_rows", "Rows received.", replica.rows)
        yield counter("edge_wholes", "Times that everything was received.", replica.wholes)
        passed = CounterMetricFamily(
            PREFIX + "edge_requests", "Requests passed on, by outcome.", labels=["outcome"]
        )
        for outcome, count in sorted(edge.writes.outcomes.items()):
            passed.add_metric([outcome], count)
        yield passed
        depths = GaugeMetricFamily(
            PREFIX + "queue_depth", "What waits, by queue.", labels=["queue"]
        )
        depths.add_metric(["watchers"], len(edge.watchers))
        yield depths
        yield counter("watchers_dropped", "Watchers that were too slow.", edge.watchers.dropped)
        yield from edge.projector.collect()
        labels = {
            "version": program_version(),
            "python": python_version(),
            "agent": edge.config.name,
            "region": edge.config.region,
            "swarm": edge.config.swarm,
        }
        build = GaugeMetricFamily(PREFIX + "build_info", "Always 1.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build

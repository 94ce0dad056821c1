"""Names of the metrics that the programs really show, with the labels of each, as Prometheus stores them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache

from prometheus_client import Metric

from agents import config_of, running
from gossipswarm_operator.metrics import Metrics

_SUFFIXES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_sum", "_count"],
    "gauge": [""],
    "info": ["_info"],
}


@cache
def collected() -> dict[str, frozenset[str]]:
    """Labels by name of the series, for agents and for the operator."""
    return {**_series(asyncio.run(_agent())), **_series(_operator())}


async def _agent() -> list[Metric]:
    async with running(config_of("alone")) as agent:
        return list(agent.metrics.collect())


def _operator() -> Iterable[Metric]:
    metrics = Metrics()
    metrics.reconciled("GossipSwarm", "done", 0.1)
    metrics.called("get", "pods", 200, 0.1)
    metrics.show("GossipSwarm", "team", "prod", [{"type": "Ready", "status": "True"}])
    metrics.reviews.labels("injected").inc()
    metrics.show_uninjected({("team", "NotInjected"): 1})
    return metrics.registry.collect()


def _series(families: Iterable[Metric]) -> dict[str, frozenset[str]]:
    found = {}
    for family in families:
        labels = frozenset(getattr(family, "_labelnames", ())).union(
            *(sample.labels for sample in family.samples)
        )
        for suffix in _SUFFIXES[family.type]:
            found[family.name + suffix] = labels
    return found

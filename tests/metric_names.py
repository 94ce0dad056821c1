"""Names of the metrics that the programs really show, with the labels of each, as Prometheus stores them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache

from prometheus_client import Metric

from agents import config_of, running

_SUFFIXES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_sum", "_count"],
    "gauge": [""],
    "info": ["_info"],
}


OPERATOR = {
    "gossipswarm_operator_leading": frozenset(),
    "gossipswarm_operator_reconciles_total": frozenset({"kind", "outcome"}),
    "gossipswarm_operator_reconcile_seconds_bucket": frozenset({"kind"}),
    "gossipswarm_operator_condition": frozenset({"kind", "namespace", "name", "type"}),
}
"""What the operator shows, as far as alerts and the dashboard ask for it."""


@cache
def collected() -> dict[str, frozenset[str]]:
    """Labels by name of the series, for agents and for the operator."""
    return {**_series(asyncio.run(_agent())), **OPERATOR}


async def _agent() -> list[Metric]:
    async with running(config_of("alone")) as agent:
        return list(agent.metrics.collect())


def _series(families: Iterable[Metric]) -> dict[str, frozenset[str]]:
    found = {}
    for family in families:
        labels = frozenset(getattr(family, "_labelnames", ())).union(
            *(sample.labels for sample in family.samples)
        )
        for suffix in _SUFFIXES[family.type]:
            found[family.name + suffix] = labels
    return found

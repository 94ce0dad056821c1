"""What pods use, as the kubelets of their nodes count it."""

from __future__ import annotations

import json
import time
from typing import Final, NamedTuple

from e2e.cluster import Cluster

SPAN: Final = 30.0
"""Seconds over which processor time is averaged."""


class Usage(NamedTuple):
    """Of one pod."""

    cores: float
    bytes: float
    """Working set."""


class _Sample(NamedTuple):
    at: float
    seconds: float
    bytes: float


def measure(cluster: Cluster, *whose: tuple[str, str]) -> list[list[Usage]]:
    """Of the pods of each namespace whose names begin with what stands beside it, averaged over the same SPAN."""
    before = [_samples(cluster, namespace, prefix) for namespace, prefix in whose]
    time.sleep(SPAN)
    after = [_samples(cluster, namespace, prefix) for namespace, prefix in whose]
    return [_between(*samples) for samples in zip(before, after, strict=True)]


def _between(before: dict[str, _Sample], after: dict[str, _Sample]) -> list[Usage]:
    return [
        Usage(
            (after[name].seconds - first.seconds) / (after[name].at - first.at),
            after[name].bytes,
        )
        for name, first in before.items()
        # A kubelet looks at its containers every ten seconds or so; one that it has not looked at again says nothing.
        if name in after and after[name].at > first.at
    ]


def _samples(cluster: Cluster, namespace: str, prefix: str) -> dict[str, _Sample]:
    found = {}
    for node in cluster.names("node"):
        summary = json.loads(
            cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
        )
        for pod in summary["pods"]:
            reference = pod["podRef"]
            if reference["namespace"] != namespace or not reference["name"].startswith(prefix):
                continue
            cpu, memory = pod.get("cpu", {}), pod.get("memory", {})
            if "usageCoreNanoSeconds" in cpu and "workingSetBytes" in memory:
                at = time.mktime(time.strptime(cpu["time"], "%Y-%m-%dT%H:%M:%SZ"))
                found[reference["name"]] = _Sample(
                    at, cpu["usageCoreNanoSeconds"] / 1e9, memory["workingSetBytes"]
                )
    return found

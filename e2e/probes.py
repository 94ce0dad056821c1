"""How often the kubelets of a cluster have asked pods whether they live and are ready, as they count it themselves."""

from __future__ import annotations

from collections import Counter
from typing import Final

from e2e.cluster import Cluster
from gossipctl.exposition import collect

METRIC: Final = "prober_probe_total"


def answered(cluster: Cluster, namespace: str) -> Counter[tuple[str, str]]:
    """By pod and kind of probe, ``Readiness`` or ``Liveness``: how many succeeded."""
    pages = [
        cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/probes")
        for node in cluster.names("node")
    ]
    found: Counter[tuple[str, str]] = Counter()
    for (_, labels), values in collect(pages)[METRIC].samples.items():
        named = dict(labels)
        if named["namespace"] == namespace and named["result"] == "successful":
            found[named["pod"], named["probe_type"]] += round(sum(values))
    return found

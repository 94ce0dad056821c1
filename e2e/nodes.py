"""Nodes that stop, and nodes that are cleared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import Cluster, Object, program, run


def of_region(cluster: Cluster, region: str) -> str:
    """Name of the node of a region."""
    nodes = cluster.find("default", "nodes", f"topology.kubernetes.io/region={region}")
    return str(nodes[0]["metadata"]["name"])


@contextmanager
def stopped(node: str) -> Iterator[None]:
    """A kind node stands still, every process on it, as a machine that hangs."""
    docker = program("docker")
    run([docker, "pause", node])
    try:
        yield
    finally:
        run([docker, "unpause", node])


@contextmanager
def cordoned(cluster: Cluster, node: str) -> Iterator[None]:
    """No new pod comes to a node."""
    cluster.kubectl("cordon", node)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", node)


def is_ready(cluster: Cluster, node: str) -> bool:
    """Whether the control plane believes that the node works."""
    found: Object = json.loads(cluster.kubectl("get", "node", node, "-o", "json"))
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in found["status"]["conditions"]
    )

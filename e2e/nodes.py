"""Nodes that stop, and nodes that are cleared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from e2e.cluster import Cluster, Object, program, run
from e2e.settings import Refused

ENGINE: Final = "node-agent"
"""The DaemonSet that makes NetworkPolicies hold, where this suite knows how to switch them off."""


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


@contextmanager
def policies_ignored(cluster: Cluster) -> Iterator[None]:
    """NetworkPolicies that are made now change nothing, as with a network that knows none. Those from before stay.

    Raises Refused where it is not known how to do that.
    """
    if ENGINE not in cluster.names("daemonset"):
        raise Refused(f"the network of this cluster is not made by {ENGINE}")
    _select_nodes(cluster, {"gossipswarm.io/nowhere": "true"})
    try:
        cluster.kubectl(
            "-n",
            "kube-system",
            "wait",
            "--for=delete",
            "pod",
            "-l",
            f"app={ENGINE}",
            "--timeout=90s",
        )
        yield
    finally:
        _select_nodes(cluster, None)
        cluster.kubectl("-n", "kube-system", "rollout", "status", f"daemonset/{ENGINE}")


def _select_nodes(cluster: Cluster, selector: Object | None) -> None:
    patch = json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}})
    cluster.kubectl(
        "-n", "kube-system", "patch", f"daemonset/{ENGINE}", "--type", "merge", "--patch", patch
    )

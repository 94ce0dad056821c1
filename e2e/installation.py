"""GossipSwarm on a cluster: installed by its chart, changed, and removed without a trace."""

from __future__ import annotations

import json
from typing import Any, Final

from e2e import images
from e2e.cluster import ROOT, Cluster, Object, until
from e2e.settings import Refused, Settings

SYSTEM: Final = "gossipswarm-system"
RELEASE: Final = "gossipswarm"
OURS: Final = "gossipswarm.io/e2e"
"""Label of namespaces that tests made and may delete."""
CHART: Final = str(ROOT / "charts" / "gossipswarm")
CLUSTER_WIDE: Final = (
    "crd",
    "clusterrole",
    "clusterrolebinding",
    "validatingwebhookconfiguration",
    "mutatingwebhookconfiguration",
)


class Installation:
    """The release of the chart that tests make."""

    def __init__(self, cluster: Cluster, settings: Settings, chart: str = CHART) -> None:
        self._cluster = cluster
        self._settings = settings
        self._chart = chart

    def refuse_if_foreign(self) -> None:
        """Raises Refused where GossipSwarm is on the cluster and no test has put it there."""
        if any(name.endswith("gossipswarm.io") for name in self._cluster.names("crd")):
            labels = "jsonpath={.items[*].metadata.name}"
            ours = self._cluster.kubectl("get", "namespace", "-l", OURS, "-o", labels).split()
            if SYSTEM not in ours:
                raise Refused(
                    f"context {self._cluster.context} has GossipSwarm already, and the tests would"
                    " delete it, every swarm with it"
                )

    def namespace(self, name: str) -> None:
        """Make a namespace that admits restricted pods only."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", OURS: "true"}
        self._cluster.apply(
            name,
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": labels},
            },
        )

    def install(self, **values: Any) -> None:
        """Install the release, or make it what these values say, and wait until the operator is ready."""
        everything = {
            "crds": {"keep": False},
            "swarmNamespaces": ["*"],
            "image": reference(self._settings.operator_image),
            "agentImage": reference(self._settings.agent_image),
            **values,
        }
        if self._settings.kind is not None:
            # A tag that stands for another image than at the last run replaces the operator, too.
            built = images.identity(self._settings.operator_image)
            everything["podAnnotations"] = {f"{OURS}-image": built}
        self._cluster.helm(
            "upgrade", RELEASE, self._chart, "--install", "--namespace", SYSTEM, "--values", "-",
            "--wait", "--timeout", "4m", stdin=json.dumps(everything),
        )  # fmt: skip

    def test(self) -> None:
        """``helm test``. Raises Failed."""
        self._cluster.helm("test", RELEASE, "--namespace", SYSTEM, "--timeout", "4m")

    def rollback(self) -> None:
        """Go back to the release before."""
        self._cluster.helm("rollback", RELEASE, "--namespace", SYSTEM, "--wait")

    def uninstall(self) -> None:
        """Remove the release and its namespace, and wait until nothing of it is left. Raises Failed."""
        self._cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
        until("nothing of the release is left", lambda: not self.left() or None, 60)
        self._cluster.kubectl("delete", "namespace", SYSTEM, "--wait", "--timeout=120s")

    def left(self) -> list[str]:
        """What the cluster has of ours outside of namespaces."""
        return [
            f"{kind} {name}"
            for kind in CLUSTER_WIDE
            for name in self._cluster.names(kind)
            if "gossipswarm" in name
        ]


def reference(image: str) -> Object:
    """An image as the chart and GossipSwarms take it."""
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}

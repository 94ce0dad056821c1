"""A SwarmPartition of a story."""

from __future__ import annotations

from typing import Any, Final

from e2e.cluster import Cluster, Object, until
from e2e.swarm import Swarm

LABELS: Final = "gossipswarm.io/swarm={swarm},gossipswarm.io/partition"
DECLARATIONS: Final = 3
SILENCE_SECONDS: Final = 30.0


class Cut:
    """A SwarmPartition by its name."""

    def __init__(self, swarm: Swarm, name: str = "drill") -> None:
        self.swarm = swarm
        self.name = name
        self._cluster: Cluster = swarm.cluster
        self._namespace = swarm.namespace

    def make(self, *groups: list[str], **more: Any) -> None:
        """Order it: each group hears itself."""
        self._cluster.apply(
            self._namespace,
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "SwarmPartition",
                "metadata": {"name": self.name},
                "spec": {"swarmRef": {"name": self.swarm.name}, "groups": list(groups), **more},
            },
        )

    def wait(self, condition: str, seconds: int = 60) -> None:
        """Wait for a condition to be True."""
        self._cluster.wait(self._namespace, f"swarmpartition/{self.name}", condition, seconds)

    def get(self) -> Object:
        """The SwarmPartition."""
        return self._cluster.get(self._namespace, "swarmpartition", self.name)

    def condition(self, kind: str) -> Object:
        """One of its conditions; empty where it has none of that type."""
        conditions = self.get().get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def silent(self, *regions: str) -> None:
        """Wait until each of these regions has said three times more that it hears nothing across a cut.

        All sides call each other ten times a second, and a region says so once a second for as long as none of it arrives:
        what has not come by then does not come.
        """
        due = {region: self._declared(region) + DECLARATIONS for region in regions}
        until(
            f"{' and '.join(regions)} hear nothing",
            lambda: all(self._declared(each) >= count for each, count in due.items()) or None,
            SILENCE_SECONDS,
        )

    def _declared(self, region: str) -> float:
        return sum(self.swarm.counted("core_events", region, kind="link_states").values())

    def delete(self) -> None:
        """Delete it, and wait until it is gone."""
        self._cluster.kubectl(
            "-n", self._namespace, "delete", f"swarmpartition/{self.name}", "--timeout=60s"
        )

    def policies(self) -> list[Object]:
        """NetworkPolicies that hold cuts of the swarm: those of its sides, and the swarm's own, narrowed."""
        selector = LABELS.format(swarm=self.swarm.name)
        return self._cluster.find(self._namespace, "networkpolicies", selector)

    def sides(self) -> list[Object]:
        """The policies that were made for the cut, one a side."""
        component = "app.kubernetes.io/component"
        return [each for each in self.policies() if each["metadata"]["labels"][component] == "cut"]

    def healed(self, seconds: float = 60) -> None:
        """Wait until its policies are gone."""
        until("no policy of the cut is left", lambda: not self.policies() or None, seconds)

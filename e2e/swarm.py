"""One swarm of a story, as somebody with kubectl and gossipctl sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from e2e.cluster import Cluster, Failed, Object, until
from gossipctl.backend import Agent
from gossipctl.exposition import PREFIX, collect
from gossipctl.failures import CommandFailed
from gossipctl.kubernetes.backend import KubernetesBackend
from gossipswarm_client.errors import GossipSwarmError

REGIONS: Final = ("us-east", "us-west", "eu-central")
START_SECONDS: Final = 300.0
AGREE_SECONDS: Final = 30.0
WHOLE_SECONDS: Final = 10.0
ARRIVE_SECONDS: Final = 10.0


class Swarm:
    """A GossipSwarm by its name. Agents are named in short: ``us-east-0``."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = name
        self.selector = f"gossipswarm.io/swarm={name},gossipswarm.io/role=agent"

    # --- the object -------------------------------------------------------------------------------

    def apply(self, **spec: Any) -> None:
        """Make it, or make it what this spec says."""
        self.cluster.apply(
            self.namespace,
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "GossipSwarm",
                "metadata": {"name": self.name},
                "spec": spec,
            },
        )

    def patch(self, **spec: Any) -> None:
        """Change fields of its spec."""
        patch = json.dumps({"spec": spec})
        self._kubectl("patch", f"gossipswarm/{self.name}", "--type", "merge", "--patch", patch)

    def scale(self, replicas: int) -> None:
        """Agents of each region that says no number itself."""
        self._kubectl("scale", f"gossipswarm/{self.name}", "--replicas", str(replicas))

    def get(self) -> Object:
        """The GossipSwarm."""
        return self.cluster.get(self.namespace, "gswarm", self.name)

    def condition(self, kind: str) -> Object:
        """A condition of the GossipSwarm; empty where it has none of that type."""
        conditions = self.get().get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def settled(self, agents: int, *, image: str = "", seconds: float = START_SECONDS) -> None:
        """Wait until it says that as many agents are ready and hold the same, all on one image."""

        def settled() -> bool | None:
            found = self.get()
            status = found.get("status", {})
            conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
            well = (
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("readyReplicas") == agents
                and conditions.get("Ready") == conditions.get("Converged") == "True"
            )
            pods = self.pods() if well else []
            images = {pod["spec"]["containers"][0]["image"] for pod in pods}
            return (well and len(pods) == agents and (not image or images == {image})) or None

        try:
            until(f"{agents} agents ready and converged {image}".rstrip(), settled, seconds)
        except Failed as failed:
            status = json.dumps(self.get().get("status", {}), indent=1)
            raise Failed(f"{failed}; the swarm says {status}") from None

    def delete(self) -> None:
        """Delete it, and wait until all that belonged to it is gone."""
        self._kubectl("delete", f"gossipswarm/{self.name}", "--wait", "--timeout=120s")
        owned = "pods,statefulsets,services,configmaps,secrets,serviceaccounts,networkpolicies,pdb"

        def gone() -> bool | None:
            left = self.cluster.find(self.namespace, owned, f"gossipswarm.io/swarm={self.name}")
            return True if not left else None

        until(f"nothing of swarm {self.name} is left", gone, 120)

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments)

    # --- its pods ---------------------------------------------------------------------------------

    def pods(self, region: str | None = None) -> list[Object]:
        """Pods of its agents, by name."""
        selector = self.selector + (f",gossipswarm.io/region={region}" if region else "")
        pods = self.cluster.find(self.namespace, "pods", selector)
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def lives(self, region: str | None = None) -> dict[str, tuple[str, int]]:
        """Who each pod is and how often it was restarted: the same as long as nothing was touched."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(each["restartCount"] for each in pod["status"].get("containerStatuses", [])),
            )
            for pod in self.pods(region)
        }

    def pod(self, agent: str) -> str:
        """Name of an agent's pod."""
        return f"{self.name}-{agent}"

    # --- its agents -------------------------------------------------------------------------------

    def agent(self, name: str) -> Agent:
        """An agent's API, through the API server, over a connection of its own."""
        backend = KubernetesBackend(self.cluster.context, self.namespace)
        return backend.swarm(self.name).agent(name)

    def agents(self) -> list[Agent]:
        """All agents that are ready."""
        return KubernetesBackend(self.cluster.context, self.namespace).swarm(self.name).agents()

    def write(self, key: str, value: Any, at: str = "us-east-0") -> None:
        """Write at an agent; it is acknowledged when this returns."""
        self.agent(at).set(key, value)

    def read(self, key: str, at: str) -> Any:
        """What an agent holds at a key; None for nothing."""
        found = self.agent(at).find(key)
        return None if found is None else found.value

    def everywhere(self, key: str) -> dict[str, Any]:
        """What each agent that is ready holds at a key."""
        found = {}
        for agent in self.agents():
            value = agent.find(key)
            found[agent.name] = None if value is None else value.value
        return found

    def arrives(self, key: str, value: Any, at: str) -> None:
        """Wait until an agent holds this."""
        what = f"{at} holds {value!r} at {key}"
        until(what, lambda: self.read(key, at) == value or None, ARRIVE_SECONDS)

    def agree(self, key: str, value: Any, agents: int, seconds: float = AGREE_SECONDS) -> None:
        """Wait until so many agents are there and all hold this. Raises Failed with what they hold."""
        seen: list[dict[str, Any]] = []

        def agreed() -> bool | None:
            try:
                seen.append(self.everywhere(key))
            except (GossipSwarmError, CommandFailed):
                return None
            held = list(seen[-1].values())
            return True if held == [value] * agents else None

        try:
            until(f"{agents} agents hold {value!r} at {key}", agreed, seconds)
        except Failed as failed:
            raise Failed(f"{failed}; they hold {seen[-1:]}") from None

    def whole(self, agents: int, seconds: float = WHOLE_SECONDS) -> None:
        """Wait until so many agents know each other as alive and every link between regions as up.

        Raises Failed with what is amiss, and in whose eyes.
        """
        amiss: dict[str, Any] = {}

        def whole() -> bool | None:
            amiss.clear()
            try:
                amiss.update({agent.name: _amiss(agent, agents) for agent in self.agents()})
            except (GossipSwarmError, CommandFailed) as error:
                amiss["everywhere"] = [str(error)]
            return True if len(amiss) == agents and not any(amiss.values()) else None

        try:
            until(f"{agents} agents that know all members and links", whole, seconds)
        except Failed as failed:
            raise Failed(f"{failed}; amiss: {amiss}") from None

    def counted(self, counter: str, region: str | None = None, **labels: str) -> dict[str, float]:
        """By agent: a counter of its metrics, without prefix and suffix; 0 where nothing was counted."""
        name = f"{PREFIX}{counter}_total"
        return {
            agent.name: sum(
                collect([agent.metrics()])[name].samples.get((name, tuple(labels.items())), ())
            )
            for agent in self.agents()
            if region in (None, agent.region)
        }


def _amiss(agent: Agent, members: int) -> list[str]:
    """What an agent lacks of so many members that live and links that are up."""
    known = agent.members()
    found = [] if len(known) == members else [f"{len(known)} members"]
    found += [f"{each.name} is {each.status}" for each in known if each.status != "alive"]
    return found + [
        f"{region.name} to {other} is {link}"
        for region in agent.regions()
        for other, link in sorted(region.links.items())
        if link != "up"
    ]


def plain(regions: Sequence[str] = REGIONS) -> list[Object]:
    """Regions by name alone, anywhere in the cluster."""
    return [{"name": region} for region in regions]


def bound(regions: Sequence[str] = REGIONS) -> list[Object]:
    """Regions whose agents run on the nodes of that region."""
    label = "topology.kubernetes.io/region"
    return [{"name": region, "nodeSelector": {label: region}} for region in regions]

"""From a GossipSwarm and its pods to agents, regions and a status in the CLI's terms. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from gossipctl.kubernetes.resources import (
    API_PORT,
    DOWN_ANNOTATION,
    GOSSIP_PORT,
    REGION_LABEL,
    agent,
)

DEFAULT_REPLICAS = 3
DEFAULT_MAX_AGENTS = 1000
_STUCK = ("CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError")
"""Reasons of a container that waits for somebody to act."""

Json = Mapping[str, Any]
Pod = TypeVar("Pod", bound=Json)


class Place(NamedTuple):
    """Where an agent is by its name."""

    name: str
    region: str
    ordinal: int


class Roster:
    """A GossipSwarm: who ought to be where."""

    def __init__(self, source: Json) -> None:
        self.source = source
        self.name: str = source["metadata"]["name"]
        self.namespace: str = source["metadata"]["namespace"]
        self.spec: Json = source.get("spec") or {}

    @property
    def regions(self) -> list[str]:
        """Names of its regions in the order of the spec."""
        return [region["name"] for region in self.spec.get("regions") or []]

    def replicas(self, region: str) -> int:
        """Agents that a region ought to have."""
        common = self.spec.get("replicasPerRegion", DEFAULT_REPLICAS)
        found = next(each for each in self.spec["regions"] if each["name"] == region)
        return int(found.get("replicas", common))

    @property
    def total(self) -> int:
        """Agents that it ought to have."""
        return sum(map(self.replicas, self.regions))

    @property
    def max_agents(self) -> int:
        """Agents that it admits."""
        return int(self.spec.get("maxAgents", DEFAULT_MAX_AGENTS))

    @property
    def encrypted(self) -> bool:
        """Gossip is encrypted."""
        return bool((self.spec.get("encryption") or {}).get("mode", "Enabled") == "Enabled")

    @property
    def tls(self) -> bool:
        """The agents' API speaks TLS."""
        return bool(((self.spec.get("api") or {}).get("tls") or {}).get("secretName"))

    @property
    def down(self) -> dict[str, int] | None:
        """Replicas by region from before ``swarm down``; None unless it is down."""
        annotations = self.source["metadata"].get("annotations") or {}
        try:
            found = json.loads(annotations[DOWN_ANNOTATION])
        except (KeyError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def names(self) -> list[str]:
        """Names of the agents that it ought to have."""
        return [
            agent(self.name, region, ordinal)
            for region in self.regions
            for ordinal in range(self.replicas(region))
        ]

    def place(self, name: str) -> Place | None:
        """The agent of this name, with or without the swarm's name before it; None if it cannot be one."""
        for region in self.regions:
            for prefix in (f"{self.name}-{region}-", f"{region}-"):
                ordinal = name.removeprefix(prefix)
                if ordinal != name and ordinal.isascii() and ordinal.isdigit():
                    return Place(agent(self.name, region, int(ordinal)), region, int(ordinal))
        return None

    def settings(self) -> dict[str, Any]:
        """Parameters that the spec sets, by the agents' names; what is not understood is left out."""
        from gossipctl import spelling

        found: dict[str, Any] = {}
        gossip = self.spec.get("gossip") or {}
        for part in ({"gossip": {name: value}} for name, value in gossip.items()):
            try:
                found |= spelling.read(part)
            except spelling.Misspelt:  # a parameter of a newer version
                continue
        tops = {spelling.camel(name) for name in spelling.TOP_LEVEL} & set(self.spec)
        return found | spelling.read({name: self.spec[name] for name in tops})


def condition(source: Json, kind: str) -> Json:
    """A condition of an object; empty where it has none of that type."""
    conditions = (source.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def holds(source: Json, kind: str) -> bool:
    """Whether a condition of an object is True."""
    return bool(condition(source, kind).get("status") == "True")


def is_ready(pod: Json) -> bool:
    """Whether a pod takes requests."""
    return state_of(pod) == "active"


def state_of(pod: Json) -> str:
    """active, starting, stopping or failed."""
    if pod["metadata"].get("deletionTimestamp"):
        return "stopping"
    if holds(pod, "Ready"):
        return "active"
    status = pod.get("status") or {}
    return "failed" if status.get("phase") == "Failed" or _trouble(status) else "starting"


def _trouble(status: Json) -> str | None:
    """Why a pod's containers do not run, if somebody has to act."""
    for container in [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return None


def _obstacle(pod: Json) -> str | None:
    """Why a pod is not active, in the cluster's words."""
    status = pod.get("status") or {}
    if state_of(pod) == "active":
        return None
    unscheduled = condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        return f"{unscheduled.get('reason')}: {unscheduled.get('message', '')}".rstrip(": ")
    return _trouble(status) or status.get("message")


def describe(pod: Json) -> dict[str, Any]:
    """One agent, for people and scripts."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    address = status.get("podIP")
    host = f"[{address}]" if address and ":" in address else address
    labels = metadata.get("labels") or {}
    return {
        "name": metadata["name"],
        "region": labels.get(REGION_LABEL, ""),
        "type": labels.get("gossipswarm.io/type", "worker"),
        "capabilities": [],
        "labels": {name: text for name, text in labels.items() if "gossipswarm.io/" not in name},
        "worker": (pod.get("spec") or {}).get("nodeName"),
        "status": state_of(pod),
        "joined": holds(pod, "Ready"),
        "gossip": f"{host}:{GOSSIP_PORT}" if host else None,
        "api": f"http://{host}:{API_PORT}" if host else None,
        "created_at": metadata.get("creationTimestamp"),
        "restarts": sum(
            each.get("restartCount", 0) for each in status.get("containerStatuses") or []
        ),
        "error": _obstacle(pod),
    }


def in_order(roster: Roster, pods: Iterable[Pod]) -> list[Pod]:
    """Pods by region, as the spec has them, and by number."""
    regions = {region: index for index, region in enumerate(roster.regions)}

    def rank(pod: Pod) -> tuple[int, int, str]:
        name = pod["metadata"]["name"]
        place = roster.place(name)
        if place is None:
            return len(regions), 0, name
        return regions[place.region], place.ordinal, name

    return sorted(pods, key=rank)


def status(roster: Roster, pods: Sequence[Json], *, partitioned: bool) -> dict[str, Any]:
    """The swarm in a few lines, in the terms of ``local.requests.Status``."""
    counts = {
        region: {"declared": roster.replicas(region), "active": 0} for region in roster.regions
    }
    active = 0
    for pod in pods:
        region = (pod["metadata"].get("labels") or {}).get(REGION_LABEL)
        if is_ready(pod):
            active += 1
            if region in counts:
                counts[region]["active"] += 1
    return {
        "swarm_id": roster.name,
        "topology": "mesh",
        "protocol": "gossip",
        "status": _health(roster, active, partitioned=partitioned),
        "agents": roster.names,
        "regions": roster.regions,
        "created_at": roster.source["metadata"].get("creationTimestamp"),
        "max_agents": roster.max_agents,
        "encryption": roster.encrypted,
        "agent_counts": counts,
        "namespace": roster.namespace,
    }


def _health(roster: Roster, active: int, *, partitioned: bool) -> str:
    if partitioned or holds(roster.source, "Partitioned"):
        return "partitioned"
    if roster.down is not None and not roster.total:
        return "down"
    if not roster.total or not active:
        return "initializing"
    return "active" if active >= roster.total else "degraded"


def details(roster: Roster) -> dict[str, Any]:
    """What only a cluster knows about a swarm: versions, conditions."""
    found = roster.source.get("status") or {}
    return {
        "version": found.get("version"),
        "converged_agents": found.get("convergedAgents"),
        "keyring": found.get("keyring"),
        "conditions": [
            {name: each.get(name) for name in ("type", "status", "reason", "message")}
            for each in found.get("conditions") or []
        ],
    }

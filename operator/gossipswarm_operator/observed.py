"""What was found of a swarm, in the cluster and at its agents, at one moment. Data only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import AgentInfo
from gossipswarm_operator.keyring import Ring
from gossipswarm_operator.partition.severing import Cut

Object = Mapping[str, Any]


class Pod(msgspec.Struct, frozen=True):
    """The pod of an agent."""

    name: str
    region: str
    ordinal: int
    uid: str
    address: str | None
    """Its IP, once it has one."""
    ready: bool
    deleting: bool
    revision: str
    """Name of the template's revision that it was made of."""
    image: str
    since: datetime
    """When it became ready, or ceased to be."""
    drained_until: datetime | None = None
    """Until then its agent has handed over all it holds, and takes no writes."""
    draining_since: datetime | None = None
    trouble: str | None = None
    """Why it does not run, as far as it says."""


class Observed(msgspec.Struct, frozen=True):
    """Everything that a plan is made from."""

    objects: Mapping[tuple[str, str], Object]
    """By kind and name: what the operator owns, or what stands where something of the operator's should."""
    pods: tuple[Pod, ...]
    claims: Mapping[str, Object]
    """Volume claims by name."""
    agents: Mapping[str, AgentInfo] = {}
    """What each agent that answered says of itself, by name."""
    silent: Mapping[str, str] = {}
    """Agents that did not answer, and why."""
    keys: Mapping[str, tuple[str, ...]] = {}
    """Ids of the keys that each agent holds, the one that seals first."""
    settings: Mapping[str, Any] | None = None
    """The swarm's parameters, as one agent applies them; None = nobody said."""
    ring: Ring | None = None
    """The keys of the Secret; None = there is no such Secret."""
    ring_error: str | None = None
    """What is wrong with that Secret."""
    tokens: tuple[str, str] | None = None
    """Read and write token of the agents' API; None = there are none yet."""
    delivered: bool | None = None
    """Whether writes come to every agent within seconds, while agents hold different states; None = that cannot be told yet."""
    gossip_port_open: bool | None = None
    """Whether somebody outside the swarm gets at the gossip port; None = nobody tried."""
    missing: tuple[str, ...] = ()
    """Objects that the spec refers to and that are not there."""
    restart: Mapping[str, str] = {}
    """Hashes of what agents read only at their start."""
    creation_failures: Mapping[str, str] = {}
    """By StatefulSet: why it cannot make pods."""
    claim_failures: Mapping[str, str] = {}
    """By volume claim: why there is no volume."""
    cut: Cut = Cut()
    """Regions that SwarmPartitions cut off from each other."""

    def of_region(self, region: str) -> list[Pod]:
        """The pods of a region, by ordinal."""
        return [pod for pod in self.pods if pod.region == region]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Regions that hear each other: one group while the swarm is whole; none if nobody said.

        Of several views the one that sees most cuts counts: whoever is cut off knows it best.
        """
        views = {
            tuple(sorted(tuple(sorted(group)) for group in info.groups))
            for info in self.agents.values()
            if info.ready or len(info.groups) > 1
        }
        return max(views, key=lambda view: (len(view), view), default=())

    @property
    def divided(self) -> bool:
        """Some regions do not hear each other, not by way of others either."""
        return len(self.groups) > 1

    @property
    def partitioned(self) -> bool:
        """The swarm is divided, or is meant to be: whatever takes an agent down has to wait."""
        return self.divided or bool(self.cut)

    @property
    def commonest_state(self) -> tuple[str | None, int]:
        """The state that most agents hold, by hash, and how many do."""
        counted = Counter(info.state_hash for info in self.agents.values())
        return max(counted.items(), key=lambda found: (found[1], found[0]), default=(None, 0))


def read_pod(found: Object) -> Pod | None:
    """The pod of an agent; None if the object is none that a StatefulSet made."""
    metadata, spec, status = found["metadata"], found.get("spec", {}), found.get("status", {})
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    try:
        ordinal = names.ordinal_of(metadata["name"])
    except ValueError:
        return None
    images = {c["name"]: c.get("image", "") for c in spec.get("containers") or ()}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    created = read_time(metadata.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC)
    return Pod(
        name=metadata["name"],
        region=labels.get(names.REGION_LABEL, ""),
        ordinal=ordinal,
        uid=metadata["uid"],
        address=status.get("podIP"),
        ready=ready.get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        revision=labels.get(names.REVISION_LABEL, ""),
        image=images.get(names.CONTAINER, ""),
        since=read_time(ready.get("lastTransitionTime")) or created,
        drained_until=read_time(annotations.get(names.DRAINED_ANNOTATION)),
        draining_since=read_time(annotations.get(names.DRAIN_ANNOTATION)),
        trouble=_trouble(status, conditions),
    )


def _trouble(status: Object, conditions: Mapping[str, Object]) -> str | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            last = ((container.get("lastState") or {}).get("terminated") or {}).get("message")
            return f"{waiting.get('reason')}: {waiting.get('message') or last or ''}"
    if status.get("phase") == "Failed":
        return f"{status.get('reason', 'Failed')}: {status.get('message', '')}"
    return None


def read_time(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it; None for none, or for something else."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None

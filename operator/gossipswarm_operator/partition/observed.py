"""What was found of the cuts of one swarm at one moment, and what is remembered from looks before. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import AgentInfo, Partition
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Pod
from gossipswarm_operator.partition.model import SwarmPartition


class Observed(msgspec.Struct, frozen=True):
    """Everything that a plan is made from."""

    name: str
    """Of the swarm."""
    partitions: tuple[SwarmPartition, ...]
    """All of the swarm, those that are over included."""
    invalid: Mapping[str, str] = {}
    """By name: SwarmPartitions that cannot be read, and why."""
    swarm: Swarm | None = None
    absence: tuple[str, str] = ("SwarmNotFound", "there is no such GossipSwarm")
    """Why there is no swarm, as a reason and a message."""
    policies: Mapping[str, Object] = {}
    """All NetworkPolicies of the namespace, by name."""
    birth_cut: Object | None = None
    """The ConfigMap with the cut that new agents are born into, or what stands in its place."""
    pods: tuple[Pod, ...] = ()
    pod_objects: tuple[Object, ...] = ()
    """The same pods, as the API server gives them."""
    namespace_labels: Mapping[str, str] = {}
    agents: Mapping[str, AgentInfo] = {}
    silent: Mapping[str, str] = {}
    """Agents that did not answer, and why."""
    views: Mapping[str, Partition] = {}
    """Which regions hear each other by the knowledge of each agent."""
    ports: OpenPorts = RANGES
    """How policies of this network leave open what is not gossip."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the spec, and those that still have agents."""
        named = self.swarm.regions if self.swarm is not None else ()
        return tuple(sorted({*named, *(pod.region for pod in self.pods if pod.region)}))

    @property
    def on_host_network(self) -> list[str]:
        """Pods that no NetworkPolicy applies to."""
        return sorted(
            str(found["metadata"]["name"])
            for found in self.pod_objects
            if found["spec"].get("hostNetwork")
        )

    def baseline(self, region: str) -> Object | None:
        """The NetworkPolicy that a region has at all times, if it is there."""
        assert self.swarm is not None
        return self.policies.get(names.stateful_set(self.swarm.name, region))


class Told(msgspec.Struct, frozen=True):
    """What an agent was told to drop. It forgets that when it restarts."""

    started_at: str
    regions: tuple[str, ...]
    until: datetime | None


class Reach(msgspec.Struct, frozen=True):
    """A flow across a cut that passed."""

    source: str
    target: str
    flow: str
    """``fresh udp`` and the like."""

    def __str__(self) -> str:
        return f"{self.source} reaches {self.target} by {self.flow}"


class Trial(msgspec.Struct, frozen=True):
    """How the probes of one SwarmPartition go."""

    since: datetime
    rounds: int = 0
    closed: int = 0
    """Rounds in a row in which nothing passed."""
    opened: int = 0
    """Rounds in a row in which something did though the network had its time."""
    sealed: bool = False
    """No new flow passed in the last round that came about; what gossip had open may have."""
    open: tuple[Reach, ...] = ()
    """What passed in the last round."""
    probed: int = 0
    """Probes that came about in the last round in which any did."""
    failure: str = ""
    """Why a probe of the last round did not."""
    at: datetime | None = None
    """When the last round was."""

    @property
    def settled(self) -> bool:
        """No new flow is known to pass, also because there is nobody who could open one."""
        return self.sealed or (self.rounds > 0 and not self.probed)


class Memory:
    """What is remembered between looks at one swarm. Losing it costs calls, and nothing else."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.reset: dict[str, tuple[str, str, int]] = {}
        """By agent: its start, the cut, and how far that was when it last gave up its connections."""
        self.trials: dict[tuple[str, bool], Trial] = {}
        """By uid of a SwarmPartition and whether agents make the cut."""

    def trial(self, partition: SwarmPartition, now: datetime) -> Trial:
        """The trial of a SwarmPartition, begun now if there is none yet."""
        return self.trials.get((partition.uid, partition.by_agents)) or Trial(now)

    def begin_anew(self, partition: SwarmPartition) -> None:
        """What probes have shown so far says nothing about whether the network enforces it."""
        self.trials.pop((partition.uid, partition.by_agents), None)

    def keep(self, uids: set[str], agents: set[str]) -> None:
        """Forget what is about anything else."""
        self.trials = {key: found for key, found in self.trials.items() if key[0] in uids}
        self.told = {name: found for name, found in self.told.items() if name in agents}
        self.reset = {name: found for name, found in self.reset.items() if name in agents}


def labels_of(found: Object) -> dict[str, Any]:
    """Labels of an object."""
    return dict(found["metadata"].get("labels") or {})

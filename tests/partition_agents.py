"""Agents of a cluster in miniature: they drop, detect, give up connections and probe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import (
    CUT_BY,
    AgentAddress,
    AgentInfo,
    AgentUnreachable,
    Cut,
    Flow,
    Flows,
    Journal,
    Partition,
)
from gossipswarm_operator.conditions import timestamp
from gossipswarm_operator.partition.severing import pair
from partition_server import NAMESPACE

if TYPE_CHECKING:
    from partition_world import World

PORT = 7600


class Agents:
    """Calls of agents, as ``AgentsApi`` has them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _agent(self, address: AgentAddress) -> Agent:
        agent = self._world.agents[address.name]
        if agent.silent:
            raise AgentUnreachable(address.name, "no answer in time")
        return agent

    async def info(self, address: AgentAddress) -> AgentInfo:
        return self._agent(address).info()

    async def partition(self, address: AgentAddress) -> Partition:
        return self._agent(address).view()

    async def drop(
        self, address: AgentAddress, regions: Sequence[str], seconds: float | None
    ) -> None:
        agent = self._agent(address)
        until = None if seconds is None else self._world.now + timedelta(seconds=seconds)
        agent.drops, agent.drops_until = frozenset(regions), until
        agent.cut_by = CUT_BY if regions else None

    async def reset_peers(self, address: AgentAddress) -> int:
        agent = self._agent(address)
        self._world.flows = {
            flow for flow in self._world.flows if agent.name not in (flow[0], flow[1])
        }
        self._world.talk()
        return 0

    async def probe(self, address: AgentAddress, target: str) -> Flows:
        source = self._agent(address)
        self._world.now += timedelta(seconds=self._world.probe_seconds)
        self._world.probe_seconds = 0.0
        host = target.rpartition(":")[0]
        other = next(a for a in self._world.agents.values() if a.address == host)
        dropped = source.drops_frames_of(other) or other.drops_frames_of(source)
        fresh = not dropped and self._world.passes(source, other)
        live = not dropped and (fresh or (source.name, other.name) in self._world.flows)
        return Flows(
            [Flow("udp", "fresh", fresh), Flow("tcp", "fresh", fresh), Flow("udp", "live", live)]
        )


class Agent:
    """An agent of the swarm and its pod."""

    def __init__(self, world: World, region: str, ordinal: int, number: int) -> None:
        self.world = world
        self.region = region
        self.name = names.agent("demo", region, ordinal)
        self.address = f"10.0.{number // 250}.{number % 250 + 1}"
        self.started_at = timestamp(world.now)
        self.silent = False
        self.drops: frozenset[str] = frozenset()
        self.drops_until: datetime | None = None
        self.cut_by: str | None = None

    def drops_frames_of(self, other: Agent) -> bool:
        if self.drops_until is not None and self.drops_until <= self.world.now:
            self.drops, self.drops_until, self.cut_by = frozenset(), None, None
        return other.region in self.drops

    def restart(self, cut: frozenset[str] = frozenset()) -> None:
        """Start anew, born into a cut."""
        self.world.seconds += 1
        self.started_at = timestamp(self.world.now + timedelta(seconds=self.world.seconds))
        self.drops, self.drops_until = cut, None
        self.cut_by = "configuration" if cut else None

    def deaf_to(self) -> set[str]:
        """Regions of which it hears nobody."""
        others = {a.region for a in self.world.agents.values()} - {self.region}
        return {
            region
            for region in others
            if not any(
                self.world.talks(self, other)
                for other in self.world.agents.values()
                if other.region == region
            )
        }

    def info(self) -> AgentInfo:
        self.drops_frames_of(self)
        return AgentInfo(
            name=self.name,
            region=self.region,
            swarm="uid-demo",
            ready=True,
            state_hash="",
            vector_hash="",
            sequence=0,
            leaves=0,
            members_alive=1,
            degraded=False,
            settings_version=0,
            version="1",
            journal=Journal(0, None),
            started_at=self.started_at,
            groups=[],
            cut_by=self.cut_by,
        )

    def view(self) -> Partition:
        cuts = [Cut(*pair(self.region, other), "", 300.0) for other in sorted(self.deaf_to())]
        return Partition("partitioned" if cuts else "healthy", [], cuts)

    def pod(self) -> dict[str, Any]:
        labels = {**names.agent_selector("demo", self.region), "app": "agent"}
        ports = [
            {"name": "gossip-udp", "containerPort": PORT, "protocol": "UDP"},
            {"name": "gossip-tcp", "containerPort": PORT, "protocol": "TCP"},
            {"name": "api", "containerPort": 7601, "protocol": "TCP"},
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"containers": [{"name": "agent", "ports": ports}]},
            "status": {"podIP": self.address, "phase": "Running"},
        }

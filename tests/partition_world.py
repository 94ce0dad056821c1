"""A cluster in miniature for cuts: an API server of dictionaries, a network that enforces NetworkPolicies or does not, and
agents that drop, detect and probe. The operator's own reconcilers of cuts and of the swarm work on it.

Flows that were open before a policy last until their agent gives them up, as on most networks.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from typing import Any

from gossipswarm_operator import builders, model, names
from gossipswarm_operator.builders import Facts, RegionFacts
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.client import Object
from gossipswarm_operator.conditions import find
from gossipswarm_operator.drift import stamped
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition.actions import Action
from gossipswarm_operator.partition.model import InvalidPartition, parse
from gossipswarm_operator.partition.reconciler import Reconciler
from gossipswarm_operator.partition.severing import combined
from operator_world import IMAGE, START, swarm_source
from partition_agents import PORT, Agent, Agents
from partition_server import NAMESPACE, Server
from policy_semantics import passes

KEY = (NAMESPACE, "demo")
THREE = ("us-east", "us-west", "eu-central")


class OperatorStopped(Exception):
    """The operator was made to stop here."""


class World:
    """A namespace with a swarm ``demo`` that has two agents in each of these regions."""

    def __init__(
        self,
        *regions: str,
        enforces: bool = True,
        per_region: int = 2,
        ports: OpenPorts = RANGES,
        ranges: bool = True,
    ) -> None:
        """``ports``: what the operator leaves open. ``ranges``: the network knows ``endPort``."""
        self.now = START
        self.seconds = 0
        self.enforces = enforces
        """The network heeds NetworkPolicies."""
        self.probe_seconds = 0.0
        """How long the next probe takes."""
        self.ports = ports
        self.ranges = ranges
        self.api = Server(lambda: self.now)
        self.objects = self.api.objects
        self.agents: dict[str, Agent] = {}
        self.flows: set[tuple[str, str]] = set()
        """Flows in use: who sends to whom."""
        self._numbers = count()
        self.events: list[tuple[str, str]] = []
        self.actions: list[Action] = []
        self.stop_after: int | None = None
        """The operator stops after so many actions."""
        self._passing: dict[tuple[str, str], bool] = {}
        """Whether new flows pass, as long as no object changes."""
        self._passing_at = 0
        self._operator = self._new_operator()
        self.put(swarm_source(regions=[{"name": region} for region in regions]))
        token = base64.b64encode(b"token").decode()
        self.put(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "demo-tokens", "namespace": NAMESPACE},
                "data": {"read": token, "write": token},
            }
        )
        for region in regions:
            for ordinal in range(per_region):
                self.start(region, ordinal)
        self.swarm_reconcile()
        self.talk()

    # --- objects ----------------------------------------------------------------------------------

    def put(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, or apply one."""
        return self.api.put(body)

    def version(self, found: dict[str, Any]) -> None:
        """Somebody changed an object in place."""
        self.api.version(found)

    def delete(self, kind: str, name: str) -> bool:
        return self.api.remove(kind, name)

    def partition(self, name: str = "drill", *groups: list[str], **spec: Any) -> None:
        """Create a SwarmPartition."""
        self.put(
            {
                "apiVersion": names.API_VERSION,
                "kind": "SwarmPartition",
                "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1},
                "spec": {
                    "swarmRef": {"name": "demo"},
                    "groups": [list(group) for group in groups] or [["us-east"]],
                    **spec,
                },
            }
        )

    def change(self, name: str = "drill", **spec: Any) -> None:
        found = self.objects["SwarmPartition", name]
        found["spec"] |= spec
        found["metadata"]["generation"] += 1
        self.version(found)

    def status(self, name: str = "drill") -> dict[str, Any]:
        found: dict[str, Any] = self.objects["SwarmPartition", name].get("status") or {}
        return found

    def condition(self, kind: str, name: str = "drill") -> str:
        """``Status/Reason``."""
        found = find(self.status(name), kind) or {"status": "", "reason": ""}
        return f"{found['status']}/{found['reason']}"

    def message(self, kind: str, name: str = "drill") -> str:
        found = find(self.status(name), kind)
        assert found is not None
        return str(found["message"])

    def policies(self, *, of_cuts: bool = False) -> list[dict[str, Any]]:
        return [
            found
            for (kind, _), found in sorted(self.objects.items())
            if kind == "NetworkPolicy"
            and (not of_cuts or found["metadata"]["labels"].get(names.COMPONENT_LABEL) == "cut")
        ]

    def change_swarm(self, **spec: Any) -> None:
        found = self.objects["GossipSwarm", "demo"]
        found["spec"] |= spec
        found["metadata"]["generation"] += 1
        self.api.version(found)

    # --- agents and their network -----------------------------------------------------------------

    def start(self, region: str, ordinal: int) -> Agent:
        """A pod is made and its agent starts, born into the cut that is mounted."""
        agent = Agent(self, region, ordinal, next(self._numbers))
        self.agents[agent.name] = agent
        self.put(agent.pod())
        found = self.objects.get(("ConfigMap", "demo-cut"))
        if found is not None:
            links = [line[2:] for line in found["data"]["cut.yaml"].splitlines() if "|" in line]
            ends = [link.split("|") for link in links]
            agent.restart(frozenset(a if b == region else b for a, b in ends if region in (a, b)))
        return agent

    def stop(self, agent: Agent) -> None:
        """Its pod goes, for good."""
        del self.agents[agent.name]
        self.api.remove("Pod", agent.name)
        self.flows = {flow for flow in self.flows if agent.name not in flow}

    def reaches(self, source: Agent, target: Agent, protocol: str, port: int) -> bool:
        """Whether policies let a new flow pass."""
        there = [self.objects["Pod", each.name] for each in (source, target)]
        labels = {"kubernetes.io/metadata.name": NAMESPACE}
        return passes(self.policies(), *there, protocol, port, labels, ranges=self.ranges)

    def passes(self, source: Agent, target: Agent) -> bool:
        """Whether a new flow of gossip passes."""
        if not self.enforces:
            return True
        if self._passing_at != self.api.changes:
            self._passing.clear()
            self._passing_at = self.api.changes
        way = (source.name, target.name)
        if way not in self._passing:
            self._passing[way] = self.reaches(source, target, "UDP", PORT)
        return self._passing[way]

    def talk(self) -> None:
        """Everybody sends to everybody; what gets through is a flow from then on."""
        for source in self.agents.values():
            for target in self.agents.values():
                if source is not target and self.passes(source, target):
                    self.flows.add((source.name, target.name))

    def talks(self, one: Agent, other: Agent) -> bool:
        """Whether two agents hear each other."""
        return all(
            not a.drops_frames_of(b) and ((a.name, b.name) in self.flows or self.passes(a, b))
            for a, b in ((one, other), (other, one))
        )

    def heard(self, a: str, b: str) -> bool:
        """Whether anybody of one region hears anybody of another."""
        return any(
            self.talks(one, other)
            for one in self.agents.values()
            for other in self.agents.values()
            if (one.region, other.region) == (a, b)
        )

    # --- the operator -----------------------------------------------------------------------------

    def _new_operator(self) -> Reconciler:
        events = Told(self.events)
        return Reconciler(
            self.api,  # type: ignore[arg-type]
            Agents(self),  # type: ignore[arg-type]
            events,  # type: ignore[arg-type]
            Metrics(),
            ports=self.ports,
            checkpoint=self._did,
            now=lambda: self.now,
        )

    def _did(self, action: Action) -> None:
        self.actions.append(action)
        if self.stop_after is not None and len(self.actions) >= self.stop_after:
            raise OperatorStopped

    def restart_operator(self) -> None:
        """Another operator, which remembers nothing."""
        self.stop_after = None
        self._operator = self._new_operator()

    async def reconcile(self) -> float | None:
        """One look at the cuts of the swarm, and the time until the next passes."""
        try:
            due = await self._operator.reconcile(KEY)
        finally:
            self.talk()
        self.now += timedelta(seconds=max(0.5, due or 0.5))
        return due

    async def settle(self, seconds: float = 15.0) -> None:
        """Look for that long, as often as is asked for."""
        ends = self.now + timedelta(seconds=seconds)
        while self.now < ends and await self.reconcile() is not None:
            pass

    def swarm_reconcile(self) -> None:
        """What the reconcile of the swarm applies of policies and the cut for new agents."""
        source = self.objects.get(("GossipSwarm", "demo"))
        if source is None:
            return
        swarm = model.parse(source)
        live = []
        for (kind, _), found in self.objects.items():
            if kind == "SwarmPartition":
                try:
                    live.append(parse(found))
                except InvalidPartition:
                    continue
        regions = {agent.region for agent in self.agents.values()} | set(swarm.regions)
        facts = Facts(
            default_image=IMAGE,
            regions={region: RegionFacts(2) for region in swarm.regions},
            declared={agent.name: agent.region for agent in self.agents.values()},
            settings={},
            keys={},
            key_annotations={},
            read_token="",
            write_token="",
            cut=combined([p for p in live if p.is_live(self.now)], regions),
            ports=self.ports,
        )
        wanted = {
            (body["kind"], body["metadata"]["name"]): body
            for body in builders.build(swarm, facts)
            if body["kind"] == "NetworkPolicy" or body["metadata"]["name"] == "demo-cut"
        }
        for body in wanted.values():
            self.put(stamped(body))
        if ("ConfigMap", "demo-cut") not in wanted:
            self.delete("ConfigMap", "demo-cut")


def is_clean(world: World) -> bool:
    """Nothing of any cut is left."""
    return (
        world.policies(of_cuts=True) == []
        and ("ConfigMap", "demo-cut") not in world.objects
        and all(not agent.drops for agent in world.agents.values())
        and all(world.heard(a, b) for a in THREE for b in THREE if a != b)
        and not any("gossipswarm.io/partition" in p["metadata"]["labels"] for p in world.policies())
    )


class Told:
    """Events, as ``Events`` takes them."""

    def __init__(self, told: list[tuple[str, str]]) -> None:
        self._told = told

    async def normal(self, about: Object, reason: str, message: str) -> None:
        self._told.append(("Normal", reason))

    async def warning(self, about: Object, reason: str, message: str) -> None:
        self._told.append(("Warning", reason))

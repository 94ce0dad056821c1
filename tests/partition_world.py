"""A cluster in miniature for cuts: an API server of dictionaries, a network that enforces NetworkPolicies or does not, and
agents that drop, detect and probe. The operator's own reconcilers of cuts and of the swarm work on it.

Flows that were open before a policy last until their agent gives them up, as on most networks.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gossipswarm_operator import builders, model, names
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
from gossipswarm_operator.builders import Facts, RegionFacts
from gossipswarm_operator.client import Object, Resource
from gossipswarm_operator.conditions import find, timestamp
from gossipswarm_operator.drift import stamped
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition.actions import Action
from gossipswarm_operator.partition.model import InvalidPartition, parse
from gossipswarm_operator.partition.reconciler import Reconciler
from gossipswarm_operator.partition.severing import combined, pair
from operator_world import IMAGE, START, swarm_source
from policy_semantics import passes

NAMESPACE = "prod"
KEY = (NAMESPACE, "demo")
PORT = 7600


class OperatorStopped(Exception):
    """The operator was made to stop here."""


class Api:
    """Calls of an API server, as ``KubeClient`` has them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.refused: dict[tuple[str, str], ApiError] = {}
        """By verb and plural: what is answered."""
        self.writes: list[str] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return copy.deepcopy(self._world.objects.get((resource.kind, name)))

    async def list_all(
        self, resource: Resource, namespace: str, *, labels: str | None = None
    ) -> list[Object]:
        wanted = dict(part.split("=") for part in labels.split(",")) if labels else {}
        return [
            copy.deepcopy(found)
            for (kind, _), found in sorted(self._world.objects.items())
            if kind == resource.kind
            and wanted.items() <= (found["metadata"].get("labels") or {}).items()
        ]

    async def apply(self, body: Object) -> Object:
        self._write("apply", body["kind"], body["metadata"]["name"])
        return copy.deepcopy(self._world.put(body))

    async def merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Object:
        self._write("patch", resource.kind, name)
        found = self._world.objects.get((resource.kind, name))
        if found is None:
            raise ApiError(404, "NotFound", name)
        asked = dict(patch.get("metadata") or {})
        version = asked.pop("resourceVersion", found["metadata"]["resourceVersion"])
        if version != found["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", name)
        if subresource == "status":
            _merge(found.setdefault("status", {}), patch["status"])
        else:
            _merge(found["metadata"], asked)
        self._world.version(found)
        self._world.collect(resource.kind, name)
        return copy.deepcopy(found)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, status: Mapping[str, Any]
    ) -> Object:
        return await self.merge(resource, namespace, name, {"status": status}, subresource="status")

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str | None = None
    ) -> bool:
        self._write("delete", resource.kind, name)
        return self._world.delete(resource.kind, name)

    def _write(self, verb: str, kind: str, name: str) -> None:
        if (verb, kind) in self.refused:
            raise self.refused[verb, kind]
        self.writes.append(f"{verb} {kind} {name}")


def _merge(held: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            held.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(held.get(name), dict):
            _merge(held[name], value)
        else:
            held[name] = copy.deepcopy(value)


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


class World:
    """A namespace with a swarm ``demo`` that has two agents in each of these regions."""

    def __init__(self, *regions: str, enforces: bool = True, per_region: int = 2) -> None:
        self.now = START
        self.seconds = 0
        self.enforces = enforces
        """The network heeds NetworkPolicies."""
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.agents: dict[str, Agent] = {}
        self.flows: set[tuple[str, str]] = set()
        """Flows in use: who sends to whom."""
        self.events: list[tuple[str, str]] = []
        self.actions: list[Action] = []
        self.stop_after: int | None = None
        """The operator stops after so many actions."""
        self.api = Api(self)
        self._versions = 0
        self._passing: dict[tuple[str, str], bool] = {}
        """Whether new flows pass, as long as no object changes."""
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
        key = (body["kind"], body["metadata"]["name"])
        held = self.objects.get(key)
        found = copy.deepcopy(dict(body))
        found["metadata"].setdefault("namespace", NAMESPACE)
        if held is not None:
            found["metadata"]["uid"] = held["metadata"]["uid"]
        else:
            found["metadata"].setdefault("uid", f"uid-{key[0]}-{key[1]}-{self._versions}")
        self.objects[key] = found
        self.version(found)
        return found

    def version(self, found: dict[str, Any]) -> None:
        self._versions += 1
        self._passing.clear()
        found["metadata"]["resourceVersion"] = str(self._versions)

    def delete(self, kind: str, name: str) -> bool:
        """As the API server does it: what has a finalizer stays, and is marked."""
        found = self.objects.get((kind, name))
        if found is None:
            return False
        found["metadata"].setdefault("deletionTimestamp", timestamp(self.now))
        self._passing.clear()
        self.collect(kind, name)
        return True

    def collect(self, kind: str, name: str) -> None:
        """Take away what is deleted and has no finalizer, and what it owns."""
        found = self.objects[kind, name]["metadata"]
        if "deletionTimestamp" not in found or found.get("finalizers"):
            return
        del self.objects[kind, name]
        self._passing.clear()
        for other_kind, other in list(self.objects):
            owned = self.objects.get((other_kind, other))
            if owned is not None and names.is_owned_by(owned, found["uid"]):
                self.delete(other_kind, other)

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

    # --- agents and their network -----------------------------------------------------------------

    def start(self, region: str, ordinal: int) -> Agent:
        """A pod is made and its agent starts, born into the cut that is mounted."""
        agent = Agent(self, region, ordinal, len(self.agents))
        self.agents[agent.name] = agent
        self.put(agent.pod())
        found = self.objects.get(("ConfigMap", "demo-cut"))
        if found is not None:
            links = [line[2:] for line in found["data"]["cut.yaml"].splitlines() if "|" in line]
            ends = [link.split("|") for link in links]
            agent.restart(frozenset(a if b == region else b for a, b in ends if region in (a, b)))
        return agent

    def passes(self, source: Agent, target: Agent) -> bool:
        """Whether a new flow passes."""
        if not self.enforces:
            return True
        way = (source.name, target.name)
        if way not in self._passing:
            there = [self.objects["Pod", name] for name in way]
            labels = {"kubernetes.io/metadata.name": NAMESPACE}
            self._passing[way] = passes(self.policies(), *there, "UDP", PORT, labels)
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


class Told:
    """Events, as ``Events`` takes them."""

    def __init__(self, told: list[tuple[str, str]]) -> None:
        self._told = told

    async def normal(self, about: Object, reason: str, message: str) -> None:
        self._told.append(("Normal", reason))

    async def warning(self, about: Object, reason: str, message: str) -> None:
        self._told.append(("Warning", reason))

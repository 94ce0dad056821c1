"""A cluster and its agents in miniature, for tests of what the operator decides: no API server, no clock, no chance.

It does with a plan's actions what the real ones do, as far as the planner can tell the difference: StatefulSets make and
replace pods by ordinal, revision and partition; agents hold keys, settings and a state.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import yaml

from gossipswarm_operator import drift, keyring, model, names, planner, status
from gossipswarm_operator.actions import (
    Action,
    Apply,
    ChangeSettings,
    Delete,
    Drain,
    InstallKeys,
    LiftCut,
    RemoveKeys,
    ReplaceKeyring,
    ResizeClaim,
    UseKey,
)
from gossipswarm_operator.agent_documents import AgentInfo, Journal
from gossipswarm_operator.keyring import Key, Ring
from gossipswarm_operator.observed import Observed, Pod
from gossipswarm_operator.parameters import PARAMETERS
from gossipswarm_operator.partition.severing import Cut

IMAGE = "registry.example/gossipswarm-agent:1.0.0"
START = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}


class OperatorStopped(Exception):
    """The operator was made to stop here."""


@dataclass
class Agent:
    """A running agent."""

    pod: Pod
    keys: list[str]
    broken: bool = False
    drained_until: datetime | None = None
    cut_by: str | None = None
    """Who told it to drop what other regions send."""


def swarm_source(name: str = "demo", **spec: Any) -> dict[str, Any]:
    """A GossipSwarm as the API server gives it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "GossipSwarm",
        "metadata": {"name": name, "namespace": "prod", "uid": f"uid-{name}", "generation": 1},
        "spec": {"regions": [{"name": "us-east"}, {"name": "eu-west"}], **spec},
    }


@dataclass
class World:
    source: dict[str, Any]
    now: datetime = START
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """What was changed live, in the swarm's own state."""
    groups: list[list[str]] | None = None
    """Who hears whom; None = everybody everybody."""
    cut: Cut = field(default_factory=Cut)
    """What SwarmPartitions cut."""
    unequal: bool = False
    """Agents hold different states."""
    broken_images: set[str] = field(default_factory=set)
    """Images whose pods never become ready."""
    restart: dict[str, str] = field(default_factory=dict)
    """Hashes of what agents read at their start only, and is there."""
    actions: list[Action] = field(default_factory=list)
    """Everything that was done."""
    stop_after: int | None = None
    """The operator stops after so many actions."""
    lost_ready: int = 0
    """Most agents that were not ready at one time, of those that were before."""
    _keys: Iterator[Key] = field(default_factory=lambda: keys())  # noqa: PLW0108 - defined below
    _uids: int = 0

    # --- the operator -------------------------------------------------------------------------

    def plan(self) -> planner.Plan:
        return planner.plan(self.swarm, self.observe(), self.fresh(), IMAGE, self.now)

    def fresh(self) -> planner.Fresh:
        key = next(self._keys)
        return planner.Fresh(key, f"read-{key.id}", f"write-{key.id}")

    def reconcile(self) -> planner.Plan:
        """One reconcile, and what controllers make of it. Raises OperatorStopped."""
        seen = self.observe()
        made = planner.plan(self.swarm, seen, self.fresh(), IMAGE, self.now)
        try:
            for action in made.actions:
                self.do(action)
                self.actions.append(action)
                if self.stop_after is not None and len(self.actions) >= self.stop_after:
                    raise OperatorStopped
        finally:
            self.controllers()
            self.now += timedelta(seconds=5)
        self.source["status"] = status.status(self.swarm, seen, made, [], self.now)
        return made

    def settle(self, rounds: int = 200, check: Callable[[], None] = lambda: None) -> planner.Plan:
        """Reconcile until nothing is left to do."""
        for _ in range(rounds):
            made = self.reconcile()
            check()
            if made.settled:
                return made
        raise AssertionError(f"not settled: {made.actions} {made.waits}")

    @property
    def swarm(self) -> model.Swarm:
        return model.parse(copy.deepcopy(self.source))

    def change(self, **spec: Any) -> None:
        """Change the spec."""
        self.source["spec"] = {**self.source["spec"], **spec}
        self.source["metadata"]["generation"] += 1

    # --- what is seen -------------------------------------------------------------------------

    def observe(self) -> Observed:
        secret = self.objects.get(("Secret", "demo-keyring"))
        tokens = self.objects.get(("Secret", "demo-tokens"))
        ring, error = None, None
        if secret is not None:
            try:
                ring = keyring.read_ring(secret)
            except keyring.InvalidKeyring as invalid:
                error = str(invalid)
        alive = {name: agent for name, agent in self.agents.items() if not agent.broken}
        return Observed(
            objects=copy.deepcopy(self.objects),
            pods=tuple(agent.pod for agent in self.agents.values()),
            claims=copy.deepcopy(self.claims),
            agents={name: self._info(agent, len(alive)) for name, agent in alive.items()},
            silent=dict.fromkeys(self.agents.keys() - alive.keys(), "refused"),
            keys={name: tuple(agent.keys) for name, agent in alive.items()},
            settings={**DEFAULTS, **self._base(), **self.settings} if alive else None,
            ring=ring,
            ring_error=error,
            cut=self.cut,
            restart=dict(self.restart),
            tokens=None
            if tokens is None
            else tuple(base64.b64decode(tokens["data"][s]).decode() for s in ("read", "write")),
        )

    def _info(self, agent: Agent, alive: int) -> AgentInfo:
        whole = [sorted({a.pod.region for a in self.agents.values()})]
        return AgentInfo(
            name=agent.pod.name,
            region=agent.pod.region,
            swarm=self.source["metadata"]["uid"],
            ready=agent.pod.ready,
            state_hash=agent.pod.name if self.unequal else "same",
            vector_hash="",
            sequence=0,
            leaves=0,
            members_alive=alive,
            degraded=False,
            settings_version=len(self.settings),
            version="1",
            journal=Journal(0, None),
            started_at="",
            groups=self.groups or whole,
            cut_by=agent.cut_by,
        )

    def _base(self) -> dict[str, Any]:
        config = self.objects.get(("ConfigMap", "demo-config"))
        if config is None:
            return {}
        return dict(yaml.safe_load(config["data"]["agent.yaml"])["settings"])

    # --- what actions do ----------------------------------------------------------------------

    def do(self, action: Action) -> None:
        match action:
            case Apply(body=body):
                self._apply(body)
            case Delete(kind=kind, name=name, uid=uid):
                assert self.objects[kind, name]["metadata"]["uid"] == uid
                del self.objects[kind, name]
                if kind == "StatefulSet" and action.propagation != "Orphan":
                    region_pods = [n for n in self.agents if n.rpartition("-")[0] == name]
                    for pod in region_pods:
                        self._leave(pod)
            case ResizeClaim(name=name, size=size):
                self.claims[name]["spec"]["resources"]["requests"]["storage"] = size
            case ChangeSettings(changes=changes):
                self.settings.update(changes)
            case InstallKeys(agent=agent, keys=installed):
                self.agents[agent].keys += [k.id for k in installed]
            case UseKey(agent=agent, id=used):
                held = self.agents[agent].keys
                held.sort(key=lambda name: name != used)
            case RemoveKeys(agent=agent, ids=ids):
                held = self.agents[agent].keys
                assert held[0] not in ids, "the key in use was removed"
                held[:] = [name for name in held if name not in ids]
            case LiftCut(agent=agent):
                self.agents[agent].cut_by = None
            case ReplaceKeyring(agents=agents, key=key, secret=secret):
                for name in agents:
                    self.agents[name].keys.append(key.id)
                self._apply(secret.body)
            case Drain(agent=name, leaving=leaving):
                assert name in leaving
                pod = self.agents[name].pod
                until = self.now + timedelta(minutes=1)
                self.agents[name].pod = replaced(pod, drained_until=until)
        self._check_hearing()

    def _check_hearing(self) -> None:
        """Whatever anybody seals with, everybody can open."""
        alive = [agent for agent in self.agents.values() if agent.keys]
        for sender in alive:
            for receiver in alive:
                assert sender.keys[0] in receiver.keys, "an agent has become deaf to another"

    def _apply(self, body: dict[str, Any]) -> None:
        identity = (body["kind"], body["metadata"]["name"])
        before = self.objects.get(identity)
        self._uids += 1
        after = copy.deepcopy(body)
        after["metadata"]["uid"] = before["metadata"]["uid"] if before else f"o{self._uids}"
        generation = before["metadata"]["generation"] if before else 0
        changed = before is None or before.get("spec") != after.get("spec")
        after["metadata"]["generation"] = generation + changed
        if before is not None and "status" in before:
            after["status"] = before["status"]
        self.objects[identity] = after

    # --- what controllers do ------------------------------------------------------------------

    def controllers(self) -> None:
        for (kind, name), found in list(self.objects.items()):
            if kind == "StatefulSet":
                self._stateful_set(name, found)

    def _stateful_set(self, name: str, found: dict[str, Any]) -> None:
        spec = found["spec"]
        update = drift.digest(spec["template"])
        before = found.get("status") or {"currentRevision": update}
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"],
            "updateRevision": update,
            "currentRevision": before["currentRevision"],
        }
        for pod in [n for n in self.agents if n.rpartition("-")[0] == name]:
            if names.ordinal_of(pod) >= spec["replicas"]:
                self._leave(pod)
        partition = spec["updateStrategy"].get("rollingUpdate", {}).get("partition", 1_000_000)
        for ordinal in range(spec["replicas"]):
            if f"{name}-{ordinal}" not in self.agents:
                held = ordinal < partition and before["currentRevision"] != update
                self._start(found, ordinal, before["currentRevision"] if held else update)
        self._replace_one(found, update, partition)
        pods = [a.pod for n, a in self.agents.items() if n.rpartition("-")[0] == name]
        whole = len(pods) == spec["replicas"]
        if whole and all(pod.revision == update and pod.ready for pod in pods):
            found["status"]["currentRevision"] = update

    def _replace_one(self, found: dict[str, Any], update: str, partition: int) -> None:
        name = found["metadata"]["name"]
        for ordinal in reversed(range(partition, found["spec"]["replicas"])):
            agent = self.agents.get(f"{name}-{ordinal}")
            if agent is None:
                return
            if agent.pod.revision != update:
                # Gone first; what comes in its place is decided by the partition of then.
                del self.agents[f"{name}-{ordinal}"]
                self.lost_ready = max(self.lost_ready, 1)
                return
            if not agent.pod.ready:
                return

    def _start(self, found: dict[str, Any], ordinal: int, revision: str) -> None:
        name = f"{found['metadata']['name']}-{ordinal}"
        template = found["spec"]["template"]
        labels = template["metadata"]["labels"]
        image = template["spec"]["containers"][0]["image"]
        known = self._images.setdefault(revision, image)
        broken = known in self.broken_images
        self._uids += 1
        pod = Pod(
            name=name,
            region=labels[names.REGION_LABEL],
            ordinal=ordinal,
            uid=f"p{self._uids}",
            address="10.0.0.1",
            ready=not broken,
            deleting=False,
            revision=revision,
            image=known,
            since=self.now,
        )
        self.agents[name] = Agent(pod, list(self._ring().ids), broken)
        for claim in found["spec"].get("volumeClaimTemplates", ()):
            self.claims.setdefault(f"data-{name}", copy.deepcopy(claim))

    @property
    def _images(self) -> dict[str, str]:
        return self.__dict__.setdefault("_known_images", {})

    def _ring(self) -> Ring:
        secret = self.objects.get(("Secret", "demo-keyring"))
        return keyring.read_ring(secret) if secret is not None else Ring(())

    def _leave(self, name: str) -> None:
        pod = self.agents.pop(name).pod
        drained = pod.drained_until is not None and pod.drained_until > self.now
        stays = any(map(self._stays, self.agents))
        assert drained or not pod.ready or not stays, f"{name} left with what only it held"

    def _stays(self, name: str) -> bool:
        owner = self.objects.get(("StatefulSet", name.rpartition("-")[0]))
        return owner is not None and names.ordinal_of(name) < owner["spec"]["replicas"]


def replaced(pod: Pod, **changes: Any) -> Pod:
    return msgspec.structs.replace(pod, **changes)


def keys() -> Iterator[Key]:
    """Keys, always the same ones."""
    for number in range(1, 1 << 20):
        yield Key(base64.b64encode(number.to_bytes(32, "big")).decode())


def ready_world(**spec: Any) -> World:
    """A swarm that runs and has settled."""
    world = World(swarm_source(**spec))
    world.settle()
    world.actions.clear()
    return world

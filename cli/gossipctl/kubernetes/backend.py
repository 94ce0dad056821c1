"""The life of swarms in a namespace of a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gossipctl import output
from gossipctl.failures import NotConverged, UsageError
from gossipctl.kubernetes import kubeconfig
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.resources import (
    API_VERSION,
    HOOKS_KEY,
    MANAGED_BY_LABEL,
    MANAGER,
    SWARM_LABEL,
    agents_of,
    core,
    custom,
    swarms,
)
from gossipctl.kubernetes.roster import Roster, is_ready, status
from gossipctl.kubernetes.swarm import KubernetesSwarm
from gossipctl.suggest import did_you_mean, listing

DEFAULT_NAME = "gossip"
"""With it the agents have the names of the walkthrough: gossip-us-east-1."""
DEFAULT_REGION = "default"
DELETE_SECONDS = 180.0
KINDS = {
    "GossipSwarm": ("gossipswarms", "swarm"),
    "SwarmConfig": ("swarmconfigs", "swarmconfig"),
    "SwarmPartition": ("swarmpartitions", "swarmpartition"),
}
"""Kinds that ``swarm apply`` takes: plural, and what the CLI calls it."""


class KubernetesBackend:
    """Swarms of one namespace."""

    kind = "kubernetes"

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self.api = Api(kubeconfig.load(context, namespace))
        self.namespace = self.api.access.namespace

    @property
    def place(self) -> str:
        """In words."""
        context = self.api.access.context
        return f"in namespace {self.namespace}" + (f" of context {context}" if context else "")

    # --- choosing ---------------------------------------------------------------------------------

    def _all(self) -> list[Roster]:
        return [
            Roster(source) for source in self.api.get(swarms(self.namespace)).get("items") or []
        ]

    def _meant(self, name: str | None) -> Roster:
        wanted = name or os.environ.get("GOSSIPSWARM_SWARM")
        if wanted:
            found = self.api.find(swarms(self.namespace, wanted))
            if found is not None:
                return Roster(found)
            known = [roster.name for roster in self._all()]
            raise UsageError(
                f"no swarm {wanted!r} {self.place}",
                did_you_mean(
                    wanted, known, otherwise=f"there is {listing(known)}" if known else self._how()
                ),
            )
        known_rosters = self._all()
        if len(known_rosters) == 1:
            return known_rosters[0]
        if not known_rosters:
            raise UsageError(f"there is no swarm {self.place}", self._how())
        raise UsageError(
            f"there are {len(known_rosters)} swarms {self.place}: "
            f"{listing(roster.name for roster in known_rosters)}",
            "name one with --swarm or GOSSIPSWARM_SWARM",
        )

    def _how(self) -> str:
        return "make one with: kubectl gossip swarm init --regions A,B; or name another with --namespace"

    def swarm(self, name: str | None) -> KubernetesSwarm:
        """The swarm of this name, or the only one of the namespace. Raises UsageError."""
        return KubernetesSwarm(self.api, self._meant(name))

    def select(self, name: str | None) -> str:
        """The name of the swarm that is meant; it exists."""
        return self._meant(name).name

    def exists(self, name: str) -> bool:
        """Whether there is such a swarm."""
        return self.api.find(swarms(self.namespace, name)) is not None

    def list_swarms(self) -> list[dict[str, Any]]:
        """Every swarm of the namespace."""
        rosters = self._all()
        wanted = os.environ.get("GOSSIPSWARM_SWARM")
        pods = self._pods_by_swarm() if rosters else {}
        return [
            {
                "name": roster.name,
                "status": status(roster, pods.get(roster.name, []), partitioned=False)["status"],
                "regions": roster.regions,
                "agents": roster.total,
                "created_at": roster.source["metadata"].get("creationTimestamp"),
                "selected": roster.name == wanted if wanted else len(rosters) == 1,
            }
            for roster in rosters
        ]

    def _pods_by_swarm(self) -> dict[str, list[dict[str, Any]]]:
        selector = f"{SWARM_LABEL},{agents_of('').partition(',')[2]}"
        found: dict[str, list[dict[str, Any]]] = {}
        path = core("pods", self.namespace)
        for pod in self.api.get(path, labelSelector=selector).get("items") or []:
            found.setdefault(pod["metadata"]["labels"][SWARM_LABEL], []).append(pod)
        return found

    def namespaces(self) -> list[str]:
        """Names of all namespaces, for completion."""
        found = self.api.get("/api/v1/namespaces").get("items") or []
        return [each["metadata"]["name"] for each in found]

    # --- making -----------------------------------------------------------------------------------

    def init(self, name: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Create a GossipSwarm without agents, unless it is there and as it was asked for; its status.

        Raises:
            UsageError: it is there and differs, or something was asked for that a cluster does not know.
        """
        if "workers" in asked:
            raise UsageError("--workers means nothing in a cluster", "every agent is a pod there")
        name = name or DEFAULT_NAME
        found = self.api.find(swarms(self.namespace, name))
        if found is not None:
            roster = Roster(found)
            self._check_same(roster, asked)
            output.note(f"swarm {name} is there already {self.place}; nothing changed")
        else:
            roster = Roster(self.api.create(swarms(self.namespace), self._manifest(name, asked)))
        pods = self._pods_by_swarm().get(name, [])
        return status(roster, pods, partitioned=False)

    def _check_same(self, roster: Roster, asked: Mapping[str, Any]) -> None:
        there = {
            "regions": roster.regions,
            "max_agents": roster.max_agents,
            "encryption": roster.encrypted,
        }
        for what, value in there.items():
            if asked.get(what, value) != value:
                flag = what.replace("_", "-")
                raise UsageError(
                    f"swarm {roster.name} is there already {self.place}, with {flag} {_shown(value)}",
                    "choose another name with --swarm, or change this one with: gossipctl swarm apply",
                )

    def _manifest(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        regions = asked.get("regions", [DEFAULT_REGION])
        spec: dict[str, Any] = {"regions": [{"name": each, "replicas": 0} for each in regions]}
        if "max_agents" in asked:
            spec["maxAgents"] = asked["max_agents"]
        if asked.get("encryption") is False:
            spec["encryption"] = {"mode": "Disabled"}
        if "hooks" in asked:
            spec["hooks"] = {"configMapName": self._hooks(name, asked["hooks"])}
        return {
            "apiVersion": API_VERSION,
            "kind": "GossipSwarm",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    def _hooks(self, swarm: str, path: str) -> str:
        """The name of a ConfigMap that holds the hooks file at ``path``."""
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 3 ms
                text = file.read()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        name = f"{swarm}-hooks"
        self.api.apply(
            core("configmaps", self.namespace, name),
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": name,
                    "labels": {SWARM_LABEL: swarm, MANAGED_BY_LABEL: MANAGER},
                },
                "data": {HOOKS_KEY: text},
            },
        )
        return name

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make a GossipSwarm, SwarmConfig or SwarmPartition what a manifest says."""
        kind = manifest.get("kind")
        if manifest.get("apiVersion") != API_VERSION or kind not in KINDS:
            raise UsageError(
                f"expected apiVersion {API_VERSION} and kind {listing(KINDS, last='or')}, not "
                f"{manifest.get('apiVersion')!r} and {kind!r}",
                "what else is in the file goes to: kubectl apply",
            )
        metadata = manifest.get("metadata") or {}
        name = metadata.get("name")
        if not isinstance(name, str) or not name:
            raise UsageError(f"the {kind} has no metadata.name")
        namespace = metadata.get("namespace") or self.namespace
        plural, called = KINDS[kind]
        path = custom(plural, namespace, name)
        before = self.api.find(path)
        after = self.api.apply(path, {**manifest, "metadata": {**metadata, "namespace": namespace}})
        changes = [] if before is None else _changes(before, after)
        return {
            "kind": called,
            "name": name,
            "swarm": name if kind == "GossipSwarm" else manifest["spec"]["swarmRef"]["name"],
            "created": before is None,
            "changes": changes,
            "ignored": [],
        }

    # --- down, up, gone ---------------------------------------------------------------------------

    def down(self, name: str) -> bool:
        """Stop every agent; volumes stay if the swarm retains them. False if it was down already."""
        from gossipctl.kubernetes import scaling

        roster = self._meant(name)
        places = scaling.everyone(roster)
        was_up = scaling.take_down(self.api, roster)
        for _ in scaling.until_gone(self.api, roster, places):
            pass
        return was_up

    def up(self, name: str) -> dict[str, Any]:
        """Start the agents that ``down`` stopped, and return when they are ready; the swarm's status."""
        from gossipctl.kubernetes import scaling

        roster = scaling.bring_up(self.api, self._meant(name))
        for _ in scaling.until_active(self.api, roster, scaling.everyone(roster)):
            pass
        pods = self._pods_by_swarm().get(name, [])
        return status(roster, [pod for pod in pods if is_ready(pod)], partitioned=False)

    def delete(self, name: str) -> str:
        """Delete a GossipSwarm with all that it owns, and return when it is gone; what stays, in words."""
        from gossipctl.kubernetes.watching import snapshots

        roster = self._meant(name)
        self.api.delete(swarms(self.namespace, name), propagation="Foreground")
        selector = f"metadata.name={name}"
        for found in snapshots(
            self.api, swarms(self.namespace), DELETE_SECONDS, fieldSelector=selector
        ):
            if name not in found:
                break
        else:
            raise NotConverged(
                f"swarm {name} is still there after {DELETE_SECONDS:g} s",
                f"see what it waits for with: kubectl -n {self.namespace} get gswarm {name} -o yaml",
            )
        storage = roster.spec.get("storage") or {}
        keeps = storage.get("type", "Persistent") == "Persistent" and (
            storage.get("retention", "Retain") == "Retain"
        )
        if not keeps or not roster.total:
            return ""
        return (
            "its volumes stay, as its storage.retention says; delete them with: "
            f"kubectl -n {self.namespace} delete pvc -l {SWARM_LABEL}={name}"
        )


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value).lower()


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Fields of the spec that are others now."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    return [f"spec.{field}" for field in sorted({*old, *new}) if old.get(field) != new.get(field)]

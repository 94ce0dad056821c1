"""A GossipSwarm, typed: its spec with every default filled in, read from the object that the API server gives.

The CRD has validated it already; what is checked here again is what an older CRD, or none, would let pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gossipswarm_operator import parameters
from gossipswarm_operator.quantities import seconds

Json = dict[str, Any]
Switch = Literal["Enabled", "Disabled"]


class InvalidSpec(ValueError):
    """The spec cannot be used; the message names the field and what is wrong with it."""


class _Spec(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A part of a spec. Unknown fields are of a newer version: the API server has pruned mistakes."""


class RegionStorage(_Spec, frozen=True):
    """What a region has of its own about its volumes."""

    size: str | None = None
    storage_class_name: str | None = None


class Placement(_Spec, frozen=True):
    """Where pods may run."""

    node_selector: dict[str, str] = {}
    affinity: Json | None = None
    tolerations: list[Json] = []
    topology_spread_constraints: list[Json] | None = None


class Region(Placement, frozen=True, kw_only=True):
    """One region as the spec has it."""

    name: str
    replicas: int | None = None
    storage: RegionStorage = RegionStorage()


class Image(_Spec, frozen=True):
    """Which image agents run."""

    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    pull_policy: str = "IfNotPresent"
    pull_secrets: list[str | Json] = []

    def reference(self, default: str) -> str:
        """Image as a container names it; whatever is not said comes from ``default``."""
        known, tag, digest = split_image(default)
        repository = self.repository or known
        if self.digest:
            return f"{repository}@{self.digest}"
        if self.tag:
            return f"{repository}:{self.tag}"
        # The tag of the default says nothing about another repository's images, but is the best guess there is.
        return f"{repository}@{digest}" if digest and not self.repository else f"{repository}:{tag}"

    @property
    def secrets(self) -> list[str]:
        """Names of the pull secrets."""
        return [
            secret if isinstance(secret, str) else str(secret["name"])
            for secret in self.pull_secrets
        ]


class ApiService(_Spec, frozen=True):
    """The Service that clients use."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    annotations: dict[str, str] = {}


class Tls(_Spec, frozen=True):
    """Certificate of the agents' API."""

    secret_name: str | None = None


class Api(_Spec, frozen=True):
    """How the agents' API is reached."""

    service: ApiService = ApiService()
    tls: Tls = Tls()


class Hooks(_Spec, frozen=True):
    """What agents do on events."""

    config_map_name: str | None = None


class Storage(_Spec, frozen=True):
    """Where agents keep their journal."""

    type: Literal["Persistent", "Ephemeral"] = "Persistent"
    size: str = "1Gi"
    storage_class_name: str | None = None
    retention: Literal["Retain", "Delete"] = "Retain"


class Update(_Spec, frozen=True):
    """How a change of the pods is rolled out."""

    strategy: Literal["RegionByRegion", "AllRegions", "OnDelete"] = "RegionByRegion"
    min_ready: int | str | None = None
    timeout: str = "10m"


class Rotation(_Spec, frozen=True):
    """Raising ``generation`` rotates the key."""

    generation: int = 0


class Encryption(_Spec, frozen=True):
    """Keys of the gossip."""

    mode: Switch = "Enabled"
    secret_name: str | None = None
    rotation: Rotation = Rotation()


class Budget(_Spec, frozen=True):
    """PodDisruptionBudget of each region."""

    mode: Switch = "Enabled"
    max_unavailable: int | str = 1


class Policy(_Spec, frozen=True):
    """Baseline NetworkPolicy of each region."""

    mode: Switch = "Enabled"


class TemplateMetadata(_Spec, frozen=True):
    """Labels and annotations of pods, beside the operator's own."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(Placement, frozen=True):
    """What pods of all regions have in common."""

    metadata: TemplateMetadata = TemplateMetadata()
    resources: Json | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    env: list[Json] = []
    termination_grace_period_seconds: int = 30


class Spec(_Spec, frozen=True):
    """Spec of a GossipSwarm."""

    regions: list[Region]
    replicas_per_region: int = 3
    max_agents: int | None = None
    image: Image = Image()
    gossip: Json = {}
    api: Api = Api()
    hooks: Hooks = Hooks()
    storage: Storage = Storage()
    durability: Literal["Fsync", "Memory"] | None = None
    update: Update = Update()
    encryption: Encryption = Encryption()
    pdb: Budget = Budget()
    network_policy: Policy = Policy()
    pod_template: PodTemplate = PodTemplate()
    reconciliation: Literal["Active", "Paused"] = "Active"


class Swarm(msgspec.Struct, frozen=True):
    """A GossipSwarm object: who it is, what it wants."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec
    settings: Json
    """Parameters that the spec sets, by the agent's names."""
    source: Json
    """The object as it was read."""

    @property
    def paused(self) -> bool:
        """Nothing is to be changed for it."""
        return self.spec.reconciliation == "Paused"

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of its regions in the order of the spec."""
        return tuple(region.name for region in self.spec.regions)

    def replicas(self, region: str) -> int:
        """Agents that a region is to have; 0 for one that the spec does not name."""
        for found in self.spec.regions:
            if found.name == region:
                count = found.replicas
                return self.spec.replicas_per_region if count is None else count
        return 0

    @property
    def total(self) -> int:
        """Agents that the swarm is to have."""
        return sum(self.replicas(region) for region in self.regions)

    @property
    def encrypted(self) -> bool:
        """Gossip is encrypted and authenticated."""
        return self.spec.encryption.mode == "Enabled"


def parse(source: Mapping[str, Any]) -> Swarm:
    """A GossipSwarm from the object that the API server gives.

    Raises InvalidSpec naming the field.
    """
    metadata = source["metadata"]
    try:
        spec = msgspec.convert(source.get("spec") or {}, Spec)
    except msgspec.ValidationError as error:
        raise InvalidSpec(_message(error)) from None
    _check(spec)
    try:
        settings = parameters.settings(spec.gossip)
    except ValueError as error:
        raise InvalidSpec(f"spec.gossip.{error}") from None
    if spec.durability is not None:
        settings["durability"] = spec.durability.lower()
    if spec.max_agents is not None:
        settings["max_agents"] = spec.max_agents
    return Swarm(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        spec=spec,
        settings=settings,
        source=dict(source),
    )


def _check(spec: Spec) -> None:
    names = [region.name for region in spec.regions]
    if not names:
        raise InvalidSpec("spec.regions: at least one region is needed")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidSpec(f"spec.regions: {', '.join(sorted(twice))} is there twice")
    for region in spec.regions:
        if region.replicas is not None and region.replicas < 0:
            raise InvalidSpec(
                f"spec.regions[{region.name}].replicas: {region.replicas} is negative"
            )
    try:
        seconds(spec.update.timeout)
    except ValueError as error:
        raise InvalidSpec(f"spec.update.timeout: {error}") from None


def _message(error: msgspec.ValidationError) -> str:
    """``Expected `int`, got `str` - at `$.regions[0].replicas``` to ``spec.regions[0].replicas: expected ...``."""
    reason, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`")
    return f"spec{path}: {reason[:1].lower()}{reason[1:]}"


def split_image(reference: str) -> tuple[str, str, str | None]:
    """Repository, tag (``latest`` if none) and digest of an image reference."""
    rest, _, digest = reference.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = rest, "latest"
    return repository, tag, digest or None

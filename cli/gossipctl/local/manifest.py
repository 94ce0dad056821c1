"""The GossipSwarm manifest, as the local backend reads it: the same YAML that Kubernetes takes.

What only means something in a cluster (storage classes, affinity, images) is accepted, and named in the
answer, so that one file serves both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gossipctl import spelling
from gossipctl.local.errors import USAGE, LocalError, suggestion
from gossipctl.local.layout import check_label

API_VERSION: Final = "gossipswarm.io/v1alpha1"
KIND: Final = "GossipSwarm"
DEFAULT_REPLICAS: Final = 3
"""Agents of a region for which neither the region nor replicasPerRegion says how many."""
REPLICAS_LIMIT: Final = 10_000

_SPEC_FIELDS: Final = {
    "regions",
    "replicasPerRegion",
    "maxAgents",
    "gossip",
    "encryption",
    "durability",
}
_CLUSTER_FIELDS: Final = {
    "affinity",
    "api",
    "hooks",
    "image",
    "networkPolicy",
    "nodeSelector",
    "pdb",
    "podTemplate",
    "reconciliation",
    "storage",
    "tolerations",
    "topologySpreadConstraints",
    "update",
}
_REGION_FIELDS: Final = {"name", "replicas"}
_ENCRYPTION_FIELDS: Final = {"mode", "rotation", "secretName"}
_TOP_FIELDS: Final = {"apiVersion", "kind", "metadata", "spec", "status"}


@dataclass(frozen=True)
class Desired:
    """A swarm as a manifest wants it. None = the manifest leaves that as it is."""

    name: str
    regions: dict[str, int]
    """Replicas by region."""
    settings: dict[str, Any] = field(default_factory=dict)
    max_agents: int | None = None
    encryption: bool | None = None
    ignored: tuple[str, ...] = ()

    def creation(self) -> dict[str, Any]:
        """Arguments for making this swarm, still without agents."""
        arguments: dict[str, Any] = {
            "name": self.name,
            "regions": list(self.regions),
            "settings": self.settings,
        }
        if self.max_agents is not None:
            arguments["max_agents"] = self.max_agents
        if self.encryption is not None:
            arguments["encryption"] = self.encryption
        return arguments


def parse(manifest: Any) -> Desired:
    """What the manifest wants.

    Raises:
        LocalError: naming the field, what it holds and what was expected (exit 2).
    """
    top = _object(manifest, "the manifest")
    if top.get("apiVersion") != API_VERSION or top.get("kind") != KIND:
        raise _refused(
            f"expected apiVersion {API_VERSION} and kind {KIND}, not "
            f"{top.get('apiVersion')!r} and {top.get('kind')!r}"
        )
    _known(top, _TOP_FIELDS, "")
    name = check_label("swarm", _object(top.get("metadata", {}), "metadata").get("name", ""))
    spec = _object(top.get("spec"), "spec")
    _known(spec, _SPEC_FIELDS | _CLUSTER_FIELDS, "spec.")
    ignored = [f"spec.{name}" for name in spec if name in _CLUSTER_FIELDS]
    replicas = _count(spec.get("replicasPerRegion", DEFAULT_REPLICAS), "spec.replicasPerRegion")
    regions = _regions(spec.get("regions"), replicas, ignored)
    maximum = spec.get("maxAgents")
    if maximum is not None:
        maximum = _count(maximum, "spec.maxAgents", least=1)
        if sum(regions.values()) > maximum:
            raise _refused(
                f"the regions have {sum(regions.values())} replicas, but spec.maxAgents is {maximum}"
            )
    encryption = _encryption(spec.get("encryption"), ignored)
    return Desired(name, regions, _settings(spec), maximum, encryption, tuple(ignored))


def _regions(value: Any, default: int, ignored: list[str]) -> dict[str, int]:
    if not isinstance(value, list) or not value:
        raise _refused("spec.regions must be a list of at least one region, each with a name")
    regions: dict[str, int] = {}
    for index, entry in enumerate(value):
        where = f"spec.regions[{index}]"
        region = _object(entry, where)
        _known(region, _REGION_FIELDS | _CLUSTER_FIELDS, f"{where}.")
        ignored += [f"{where}.{name}" for name in region if name in _CLUSTER_FIELDS]
        name = check_label("region", region.get("name", ""))
        if name in regions:
            raise _refused(f"{where}.name: region {name} is there twice")
        regions[name] = _count(region.get("replicas", default), f"{where}.replicas")
    return regions


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by the agents' names. Their ranges are the agents' to judge: a worker validates them."""
    _object(spec.get("gossip", {}), "spec.gossip")
    try:
        settings = spelling.read(spec)
    except spelling.Misspelt as error:
        raise LocalError(
            "invalid-manifest", str(error), error.hint or "see docs/parameters.md", USAGE
        ) from None
    settings.pop("max_agents", None)
    return settings


def _encryption(value: Any, ignored: list[str]) -> bool | None:
    """On unless ``mode`` is Disabled; None if the manifest does not say."""
    if value is None:
        return None
    given = _object(value, "spec.encryption")
    _known(given, _ENCRYPTION_FIELDS, "spec.encryption.")
    ignored += [f"spec.encryption.{name}" for name in given if name != "mode"]
    mode = given.get("mode", "Enabled")
    if mode not in ("Enabled", "Disabled"):
        raise _refused(f"spec.encryption.mode: expected Enabled or Disabled, not {mode!r}")
    return bool(mode == "Enabled")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(f"{where} must be an object, not {_kind(value)}")
    return value


def _count(value: Any, where: str, least: int = 0) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not least <= value <= REPLICAS_LIMIT
    ):
        raise _refused(
            f"{where} must be an integer from {least} to {REPLICAS_LIMIT}, not {value!r}"
        )
    return value


def _known(value: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for name in value:
        if name not in known:
            raise LocalError(
                "invalid-manifest",
                f"unknown field {prefix}{name}",
                suggestion(str(name), known, "field"),
                USAGE,
            )


def _kind(value: Any) -> str:
    names = {type(None): "nothing", list: "a list", str: "a string", int: "a number"}
    return names.get(type(value), type(value).__name__)


def _refused(message: str) -> LocalError:
    return LocalError("invalid-manifest", message, "see examples/ for a manifest that works", USAGE)

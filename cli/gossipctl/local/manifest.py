"""The GossipSwarm manifest, as the local backend reads it: the same YAML that Kubernetes takes.

What only means something in a cluster (storage classes, affinity, images) is accepted, and named in the
answer, so that one file serves both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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
    "paused",
    "pdb",
    "podTemplate",
    "storage",
    "tolerations",
    "topologySpreadConstraints",
    "update",
}
_REGION_FIELDS: Final = {"name", "replicas"}
_TOP_FIELDS: Final = {"apiVersion", "kind", "metadata", "spec", "status"}

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


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
    settings = _settings(_object(spec.get("gossip", {}), "spec.gossip"))
    if "durability" in spec:
        settings["durability"] = str(spec["durability"]).lower()
    return Desired(
        name, regions, settings, maximum, _encryption(spec.get("encryption")), tuple(ignored)
    )


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


def _settings(gossip: Mapping[str, Any]) -> dict[str, Any]:
    """camelCase to the agent's names, and what a CRD must write as strings back to numbers.

    Names and ranges are the agent's to judge: a worker validates them.
    """
    return {_snake(name): _plain(value) for name, value in gossip.items()}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), str(name))


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    duration = _DURATION.fullmatch(value)
    return round(float(duration[1]) * _UNIT_MS[duration[2]]) if duration else value


def _encryption(value: Any) -> bool | None:
    """On unless it says otherwise: ``encryption: Disabled`` or ``encryption: {mode: Disabled}``."""
    mode = value.get("mode", "Enabled") if isinstance(value, Mapping) else value
    if mode is None:
        return None
    text = str(mode).lower()
    if text in ("enabled", "on", "true"):
        return True
    if text in ("disabled", "off", "false"):
        return False
    raise _refused(f"spec.encryption: expected mode Enabled or Disabled, not {mode!r}")


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

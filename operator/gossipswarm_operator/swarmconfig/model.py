"""A SwarmConfig, typed: its spec with every default filled in, and what its status remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator.quantities import seconds
from gossipswarm_operator.swarmconfig import keys

Json = dict[str, Any]
SourceKind = Literal["ConfigMap", "Secret"]

DEFAULT_TIMEOUT: Final = "5m"
DEFAULT_SOAK: Final = "30s"


class InvalidConfig(ValueError):
    """The spec cannot be used. ``reason`` stands in the condition, the message names the field."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Spec(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A part of a spec. Unknown fields are of a newer version: the API server has pruned mistakes."""


class _SwarmRef(_Spec, frozen=True):
    name: str


class _KeyRef(_Spec, frozen=True):
    name: str
    key: str | None = None
    optional: Literal["True", "False"] = "False"


class _ValuesFrom(_Spec, frozen=True):
    config_map_ref: _KeyRef | None = None
    secret_ref: _KeyRef | None = None
    path: str | None = None


class _Rollout(_Spec, frozen=True):
    canary_regions: tuple[str, ...] = ()
    timeout: str = DEFAULT_TIMEOUT
    soak: str = DEFAULT_SOAK


class _ConfigSpec(_Spec, frozen=True):
    swarm_ref: _SwarmRef
    prefix: str
    data: Json | None = None
    values_from: tuple[_ValuesFrom, ...] = ()
    conflict_policy: Literal["Override", "KeepLive"] = "Override"
    prune: Literal["Enabled", "Disabled"] = "Enabled"
    rollout: _Rollout | None = None


class SourceRef(msgspec.Struct, frozen=True):
    """A ConfigMap or Secret in the namespace of the SwarmConfig."""

    kind: SourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


class Source(msgspec.Struct, frozen=True):
    """One entry of ``valuesFrom``: a whole object (``key`` None) or one key of it, put at ``path``."""

    ref: SourceRef
    key: str | None = None
    optional: bool = False
    path: str = ""
    """Relative to the prefix; empty: the prefix itself."""


class RolloutPolicy(msgspec.Struct, frozen=True):
    """Regions that try a version first, and for how long. In seconds."""

    regions: tuple[str, ...] = ()
    timeout: float = 300.0
    """From the start until the last of the canary regions has kept the version well for ``soak``."""
    soak: float = 30.0


class SwarmConfig(msgspec.Struct, frozen=True):
    """A SwarmConfig object: who it is, what it wants."""

    name: str
    namespace: str
    uid: str
    generation: int
    swarm: str
    prefix: str
    data: Json
    sources: tuple[Source, ...]
    override: bool
    """Values that somebody else changed are set back."""
    prune: bool
    """Keys that are no longer wanted are deleted."""
    rollout: RolloutPolicy


def parse(source: Mapping[str, Any]) -> SwarmConfig:
    """A SwarmConfig from the object that the API server gives.

    Raises InvalidConfig naming the field.
    """
    metadata = source["metadata"]
    try:
        spec = msgspec.convert(source.get("spec") or {}, _ConfigSpec)
    except msgspec.ValidationError as error:
        raise InvalidConfig("InvalidSpec", _message(error)) from None
    try:
        prefix = keys.prefix(spec.prefix)
    except keys.InvalidKey as error:
        raise InvalidConfig("InvalidPrefix", f"spec.prefix: {error}") from None
    return SwarmConfig(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        swarm=spec.swarm_ref.name,
        prefix=prefix,
        data=spec.data or {},
        sources=tuple(_source(number, entry) for number, entry in enumerate(spec.values_from)),
        override=spec.conflict_policy == "Override",
        prune=spec.prune == "Enabled",
        rollout=_rollout(spec.rollout),
    )


def _source(number: int, entry: _ValuesFrom) -> Source:
    field = f"spec.valuesFrom[{number}]"
    if (entry.config_map_ref is None) == (entry.secret_ref is None):
        raise InvalidConfig("InvalidSpec", f"{field}: give configMapRef or secretRef, one of both")
    kind: SourceKind = "ConfigMap" if entry.config_map_ref is not None else "Secret"
    ref = entry.config_map_ref or entry.secret_ref
    assert ref is not None
    path = ""
    if entry.path:
        try:
            path = keys.canonical(entry.path)
        except keys.InvalidKey as error:
            raise InvalidConfig("InvalidSpec", f"{field}.path: {error}") from None
    return Source(SourceRef(kind, ref.name), ref.key, ref.optional == "True", path)


def _rollout(spec: _Rollout | None) -> RolloutPolicy:
    if spec is None:
        return RolloutPolicy()
    found = {}
    for field in ("timeout", "soak"):
        try:
            found[field] = seconds(getattr(spec, field))
        except ValueError as error:
            raise InvalidConfig("InvalidSpec", f"spec.rollout.{field}: {error}") from None
    # A canary that must be well for longer than it may take could never succeed.
    soak = min(found["soak"], found["timeout"])
    return RolloutPolicy(tuple(sorted(set(spec.canary_regions))), found["timeout"], soak)


def _message(error: msgspec.ValidationError) -> str:
    reason, _, where = str(error).partition(" - at `$")
    return f"spec{where.rstrip('`')}: {reason[:1].lower()}{reason[1:]}"

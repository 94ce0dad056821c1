"""A SwarmPartition, typed: what it wants, and what its status says became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator import conditions
from gossipswarm_operator.names import GROUP
from gossipswarm_operator.quantities import seconds

Json = dict[str, Any]
Mechanism = Literal["Auto", "NetworkPolicy", "Agent"]
OnUnenforced = Literal["Fail", "Warn", "Fallback"]

FINALIZER: Final = f"{GROUP}/partition"
"""Holds the object until its cut is undone."""
GIVEN_UP: Final = ("NotEnforced", "OverriddenByPolicy")
"""Reasons of Applied=False with which a cut was made and given up."""


class InvalidPartition(ValueError):
    """The spec cannot be used; the message names the field."""


class _Spec(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A part of a spec. Unknown fields are of a newer version: the API server has pruned mistakes."""


class _SwarmRef(_Spec, frozen=True):
    name: str


class _PartitionSpec(_Spec, frozen=True):
    swarm_ref: _SwarmRef
    groups: tuple[tuple[str, ...], ...]
    duration: str | None = None
    transit: Literal["Enabled", "Disabled"] = "Disabled"
    mechanism: Mechanism = "Auto"
    on_unenforced: OnUnenforced = "Fallback"


class SwarmPartition(msgspec.Struct, frozen=True):
    """A SwarmPartition object: who it is, what it wants, how far it is."""

    name: str
    namespace: str
    uid: str
    generation: int
    swarm: str
    groups: tuple[tuple[str, ...], ...]
    duration: float | None
    """Seconds from the application on; None = until it is deleted."""
    transit: bool
    """Regions of no group hear all groups, rather than being a group of their own."""
    mechanism: Mechanism
    on_unenforced: OnUnenforced
    by_agents: bool
    """Agents make the cut, from the start or since the network turned out not to."""
    applied_at: datetime | None
    healed_at: datetime | None
    given_up: bool
    deleting_since: datetime | None
    held: bool
    """The finalizer is there."""
    source: Json

    @property
    def expires_at(self) -> datetime | None:
        """When it ends by itself; None if it does not, or was not applied yet."""
        if self.applied_at is None or self.duration is None:
            return None
        return self.applied_at + timedelta(seconds=self.duration)

    def is_expired(self, now: datetime) -> bool:
        """Its time is over."""
        ends = self.expires_at
        return ends is not None and ends <= now

    def is_live(self, now: datetime) -> bool:
        """The cut is to be in force."""
        return (
            self.applied_at is not None
            and self.healed_at is None
            and self.deleting_since is None
            and not self.given_up
            and not self.is_expired(now)
        )

    @property
    def by_network(self) -> bool:
        """NetworkPolicies are made for it, whether they are enforced or not."""
        return self.mechanism != "Agent"


def parse(source: Mapping[str, Any]) -> SwarmPartition:
    """A SwarmPartition from the object that the API server gives.

    Raises InvalidPartition naming the field.
    """
    metadata, status = source["metadata"], source.get("status") or {}
    try:
        spec = msgspec.convert(source.get("spec") or {}, _PartitionSpec)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise InvalidPartition(
            f"spec{where.rstrip('`')}: {reason[:1].lower()}{reason[1:]}"
        ) from None
    applied = conditions.find(status, "Applied") or {}
    return SwarmPartition(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        swarm=spec.swarm_ref.name,
        groups=spec.groups,
        duration=_duration(spec.duration),
        transit=spec.transit == "Enabled",
        mechanism=spec.mechanism,
        on_unenforced=spec.on_unenforced,
        by_agents=spec.mechanism == "Agent" or status.get("mechanism") == "Agent",
        applied_at=_time(status.get("appliedAt")),
        healed_at=_time(status.get("healedAt")),
        given_up=applied.get("status") == "False" and applied.get("reason") in GIVEN_UP,
        deleting_since=_time(metadata.get("deletionTimestamp")),
        held=FINALIZER in (metadata.get("finalizers") or ()),
        source=dict(source),
    )


def swarm_of(source: Mapping[str, Any]) -> str | None:
    """Name of the swarm that an object is about, however broken the rest of it."""
    reference = (source.get("spec") or {}).get("swarmRef")
    name = reference.get("name") if isinstance(reference, Mapping) else None
    return name if isinstance(name, str) else None


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: a cut of one second must not lose most of it to rounding."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _duration(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return seconds(text)
    except ValueError as error:
        raise InvalidPartition(f"spec.duration: {error}") from None


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except (TypeError, ValueError):
        return None

"""The one writer of status conditions: every type is there from the start, and times change only with the status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

Status = Literal["True", "False", "Unknown"]

NOT_SEEN: Final = "NotSeenYet"
_MESSAGE_LIMIT: Final = 1024
"""Characters; the API allows 32 KiB, nobody reads them."""

SWARM_CONDITIONS: Final = (
    "Ready",
    "Available",
    "Progressing",
    "Converged",
    "KeyringInSync",
    "NetworkPolicyEnforced",
    "Partitioned",
    "Paused",
)
CONFIG_CONDITIONS: Final = ("Synced", "Converged", "Drifted")
PARTITION_CONDITIONS: Final = ("Applied", "Enforced", "Detected", "Healed")


class Condition(msgspec.Struct, frozen=True):
    """What is to be said about one type. ``reason`` is CamelCase for programs, ``message`` for people."""

    type: str
    status: Status
    reason: str
    message: str = ""


class Transition(msgspec.Struct, frozen=True):
    """A condition whose status or reason changed; worth an event."""

    before: Status
    now: Condition


def true(kind: str, reason: str, message: str = "") -> Condition:
    """Shorthand for a condition that holds."""
    return Condition(kind, "True", reason, message)


def false(kind: str, reason: str, message: str = "") -> Condition:
    """Shorthand for a condition that does not hold."""
    return Condition(kind, "False", reason, message)


def unknown(kind: str, reason: str, message: str = "") -> Condition:
    """Shorthand for a condition of which nothing is known."""
    return Condition(kind, "Unknown", reason, message)


def merge(
    types: Sequence[str],
    current: Iterable[Mapping[str, Any]] | None,
    wanted: Iterable[Condition],
    *,
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """The conditions to store: one for each of ``types`` in that order, and nothing else.

    A type that ``wanted`` does not name keeps what ``current`` says, or is Unknown. ``lastTransitionTime`` moves
    only if the status does, so equal input gives equal output.
    """
    held = {str(found.get("type")): found for found in current or ()}
    named = {condition.type: condition for condition in wanted}
    unexpected = named.keys() - set(types)
    if unexpected:
        raise ValueError(f"no condition of this kind: {', '.join(sorted(unexpected))}")
    merged = []
    for kind in types:
        before = held.get(kind)
        condition = named.get(kind)
        if condition is None:
            merged.append(
                dict(before)
                if before is not None
                else _stored(unknown(kind, NOT_SEEN), generation, timestamp(now))
            )
            continue
        kept = before is not None and before.get("status") == condition.status
        since = before.get("lastTransitionTime") if before is not None and kept else None
        merged.append(_stored(condition, generation, since or timestamp(now)))
    return merged


def _stored(condition: Condition, generation: int, since: str) -> dict[str, Any]:
    message = condition.message
    if len(message) > _MESSAGE_LIMIT:
        message = message[: _MESSAGE_LIMIT - 3] + "..."
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def transitions(
    before: Iterable[Mapping[str, Any]] | None, after: Iterable[Mapping[str, Any]]
) -> list[Transition]:
    """Conditions whose status or reason differ. What was never seen counts as Unknown."""
    held = {str(found.get("type")): found for found in before or ()}
    changed = []
    for found in after:
        old = held.get(found["type"])
        if old is None and found["reason"] == NOT_SEEN:
            continue
        if old is None or (old.get("status"), old.get("reason")) != (
            found["status"],
            found["reason"],
        ):
            now = Condition(found["type"], found["status"], found["reason"], found["message"])
            changed.append(Transition(_status(old), now))
    return changed


def _status(found: Mapping[str, Any] | None) -> Status:
    status = None if found is None else found.get("status")
    return status if status in ("True", "False") else "Unknown"


def find(status: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any] | None:
    """The condition of this type in an object's ``status``."""
    for found in (status or {}).get("conditions") or ():
        if found.get("type") == kind:
            return dict(found)
    return None


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

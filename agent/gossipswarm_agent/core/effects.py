"""What the core asks of whoever drives it. Effects are data; nothing happens until they are carried out."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from gossipswarm_agent.core.frames import Address, Frame


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a frame to each address. ``hop`` and ``tree`` travel outside the seal."""

    targets: tuple[Address, ...]
    frame: Frame
    hop: int
    tree: int


class Append(msgspec.Struct, frozen=True, gc=False):
    """Append a record to the journal. With a ``token``, answer with ``Durable(token)`` once it is fsynced."""

    record: bytes
    token: int | None = None
    whole: bool = False
    """``JournalFailed(token)`` unless the journal also holds everything that came before."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Finish the request with this token: with a result, or with the error."""

    token: int
    result: Any = None
    error: Exception | None = None


class Changed(msgspec.Struct, frozen=True, gc=False):
    """Leaves whose visible value changed, for watchers and for the settings."""

    keys: tuple[str, ...]


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Something hooks, logs and metrics want to know.

    Names: partition-detected, partition-healed, convergence-reached, conflict, member-up, member-down,
    region-cut, region-healed, clock-skew, degraded, settings.
    """

    event: str
    detail: dict[str, Any]


Effect: TypeAlias = Send | Append | Reply | Changed | Notify

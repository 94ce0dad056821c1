"""What the core answers to those who read and write."""

from __future__ import annotations

from typing import Any

import msgspec


class Reading(msgspec.Struct, frozen=True):
    """The visible value of a key, assembled from its leaves."""

    key: str
    value: Any
    version: int
    """Causal updates of the key so far."""
    etag: str
    updated_ms: int
    origin: str
    """Agent whose write is the newest below the key."""
    conflict: bool
    """Concurrent writes were decided by policy and nobody has written since."""
    dot: str
    """``origin:sequence`` of the newest write that is visible below the key."""


class WriteResult(msgspec.Struct, frozen=True):
    """One acknowledged mutation."""

    key: str
    version: int
    etag: str
    dot: str
    """``origin:sequence``; empty when nothing changed."""
    clock_ms: int
    changed: int
    """Leaves written or deleted."""


class Change(msgspec.Struct, frozen=True):
    """A leaf's visible value changed."""

    id: str
    key: str
    value: Any
    deleted: bool
    version: int
    updated_ms: int
    origin: str


class Reset(msgspec.Struct, frozen=True):
    """The watcher's last id is too old to resume from: the full state follows as changes."""

    id: str

"""What happens to an agent. The driver turns sockets, disks, clocks and callers into these."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from gossipswarm_agent.core.frames import Address, Inbound


class Received(msgspec.Struct, frozen=True, gc=False):
    """Frames drained from the network in one go."""

    frames: list[Inbound]


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The node's deadline came."""


class Mutation(msgspec.Struct, frozen=True, gc=False):
    """One change of one key.

    ``op``: ``put`` replaces the subtree, ``merge`` is an RFC 7396 merge patch, ``delete`` removes it,
    ``leaf`` stores the value whole, as one leaf. ``if_match``: the etag that must still hold
    (``"*"`` = must exist, ``""`` = must not).
    """

    op: str
    key: str
    value: Any = None
    if_match: str | None = None


class LocalWrite(msgspec.Struct, frozen=True, gc=False):
    """A caller writes. Each mutation becomes one dot; one ``Reply(token, list[WriteResult])`` for all, when durable."""

    token: int
    mutations: tuple[Mutation, ...]
    traced: bool = False
    system: bool = False
    """Allowed under ``$`` and in degraded mode."""


class Durable(msgspec.Struct, frozen=True, gc=False):
    """The journal has fsynced up to this token."""

    token: int


class JournalFailed(msgspec.Struct, frozen=True, gc=False):
    """The append for this token was refused; the write must fail with this error."""

    token: int
    error: Exception


class PeerList(msgspec.Struct, frozen=True, gc=False):
    """Where to look for the swarm, and who belongs to it as declared (None = not known)."""

    seeds: tuple[Address, ...]
    declared: dict[str, str] | None = None
    """Name to region of every member that ought to exist."""


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Say goodbye to everyone."""


class Compare(msgspec.Struct, frozen=True, gc=False):
    """Run anti-entropy now with one random peer (or the named one); ``Reply(token, report)`` when done."""

    token: int
    peer: str | None = None


class HandOver(msgspec.Struct, frozen=True, gc=False):
    """Make sure that others hold all that this agent has; ``Reply(token, names of those that do)``.

    Done when ``copies`` peers have confirmed, or all of them where they are fewer. Those in ``leaving`` do not count.
    """

    token: int
    copies: int = 2
    leaving: tuple[str, ...] = ()


class AwaitConvergence(msgspec.Struct, frozen=True, gc=False):
    """``Reply(token, Convergence)`` once this share of the agents holds the dot (None: the threshold in force)."""

    token: int
    dot: tuple[str, int]
    threshold: float | None = None


class Release(msgspec.Struct, frozen=True, gc=False):
    """Let the regions merge that wait for an operator; ``Reply(token, their names)``."""

    token: int


class Degrade(msgspec.Struct, frozen=True, gc=False):
    """Make this agent alone read-only, or writable again."""

    enabled: bool


Event: TypeAlias = (
    Received | Tick | LocalWrite | Durable | JournalFailed | PeerList | Leave | Compare | AwaitConvergence
    | Release | Degrade | HandOver
)  # fmt: skip

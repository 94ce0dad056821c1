"""Changing how an agent and its swarm behave."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gossipswarm_agent.api.times import Duration
from gossipswarm_agent.api.types.base import Body, Count, Timestamp


class DegradedMode(Body, frozen=True):
    """Read-only on or off, at this agent or in the whole swarm."""

    enabled: bool
    scope: Literal["swarm", "agent"] = "swarm"


class AntiEntropy(Body, frozen=True):
    """Compare everything with one peer now."""

    peer: Annotated[str | None, Meta(description="name of a live member; null: a random one")] = (
        None
    )
    timeout: Duration = "30s"


class AntiEntropyReport(Body, frozen=True):
    """What a full comparison found and repaired."""

    peer: str
    buckets_compared: Count
    buckets_different: Count
    rows_received: Count
    rows_sent: Count
    dropped: Count
    duration_ms: float


class KeyringAction(Body, frozen=True):
    """One step of a key rotation: `install` a key everywhere, `use` it, `remove` the old one."""

    action: Literal["list", "install", "use", "remove"] = "list"
    key: Annotated[str | None, Meta(description="32 bytes in base64, to install")] = None
    id: Annotated[str | None, Meta(description="of the key to use or remove")] = None


class Keyring(Body, frozen=True):
    """Ids of the keys this agent holds, the primary first: it seals with that. Without encryption there are none."""

    keys: list[str]
    primary: str | None


class Drain(Body, frozen=True):
    """Take no more writes, and make sure that others hold everything this agent has, on their disks.

    Nothing has to be undone: `hold` after the answer the agent takes writes again, unless it was asked again by then.
    """

    timeout: Duration = "30s"
    copies: Annotated[
        int, Meta(ge=1, le=1000, description="peers that must confirm, where there are as many")
    ] = 2
    leaving: Annotated[
        list[str], Meta(description="peers that do not count because they are to leave as well")
    ] = msgspec.field(default_factory=list)
    hold: Annotated[
        Duration, Meta(description="how long no writes are taken after the answer; `0` ends it now")
    ] = "1m"


class Drained(Body, frozen=True):
    """Peers that hold everything this agent has; it takes no writes `until` then (null: it does)."""

    holders: list[str]
    duration_ms: float
    until: Timestamp | None


class ResetPeers(Body, frozen=True):
    """Connections given up, so that a changed network policy takes hold."""

    closed: Count


class DropList(Body, frozen=True):
    """Regions whose packets this agent drops, for tests and drills. `until` null: for good."""

    inbound: list[str]
    outbound: list[str]
    until: Timestamp | None
    by: Annotated[str | None, Meta(description="who asked for it")]


class DropRequest(Body, frozen=True):
    """Replaces the drop list; two empty lists end it."""

    inbound: list[str] = msgspec.field(default_factory=list)
    outbound: list[str] = msgspec.field(default_factory=list)
    duration_ms: Annotated[int, Meta(ge=1, le=86_400_000)] | None = None
    by: (
        Annotated[str, Meta(max_length=63, description="who asks, for those who find it later")]
        | None
    ) = None


class ProbeRequest(Body, frozen=True):
    """Try to get packets to another agent's gossip address, `host:port`."""

    address: Annotated[
        str, Meta(max_length=64, description="numeric: 10.0.1.7:7600, [fd00::7]:7600")
    ]


class ProbedFlow(Body, frozen=True):
    """One way to the address: new, or the one that gossip has at the moment. A way that there is not is not open."""

    kind: Literal["udp", "tcp"]
    age: Literal["fresh", "live"]
    open: bool
    rtt_ms: Annotated[float | None, Meta(description="of a probe that was answered")]


class Probed(Body, frozen=True):
    """Ways to a gossip address, and whether packets get there and back."""

    address: str
    flows: list[ProbedFlow]


class Released(Body, frozen=True):
    """Regions that waited for an operator and are being merged with now."""

    regions: list[str]


class Nothing(Body, frozen=True):
    """No field at all."""


class HookOutcome(Body, frozen=True):
    """How one action of a hook ended."""

    event: str
    action: str
    status: Literal["done", "failed"]
    message: Annotated[str, Meta(description="what it said, or why it failed")]
    duration_ms: float
    at: Timestamp


class Hooks(Body, frozen=True):
    """Actions by event, in their order, and how the last ones ended, oldest first."""

    events: dict[str, list[str]]
    outcomes: list[HookOutcome]


class HookCall(Body, frozen=True):
    """Say that an event has happened: its actions are carried out now, at this agent."""

    event: str
    detail: Annotated[dict[str, Any], Meta(description="what the event tells its actions")] = (
        msgspec.field(default_factory=dict)
    )


class HookOutcomes(Body, frozen=True):
    """How each action of the event ended, in their order."""

    outcomes: list[HookOutcome]

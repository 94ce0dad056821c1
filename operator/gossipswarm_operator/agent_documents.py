"""What goes to the agents' HTTP API and comes back: the parts of its documents that the operator looks at."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator import names

CUT_BY: Final = "gossipswarm-operator"
OURS: Final = (CUT_BY, "configuration")
"""Who an agent says has cut it off where it was us: told to, or born into it."""


class AgentAddress(msgspec.Struct, frozen=True):
    """One agent and what it takes to ask it. ``ca`` is the PEM bundle that its certificate must chain to."""

    name: str
    region: str
    url: str
    """``http://host:port`` or https."""
    token: str | None = None
    ca: str | None = None


def agent_url(host: str | None, *, tls: bool) -> str:
    """Base URL of the agent on a pod's address."""
    shown = f"[{host}]" if ":" in str(host) else host
    return f"{'https' if tls else 'http'}://{shown}:{names.API_PORT}"


class AgentError(Exception):
    """An agent did not do what it was asked."""

    def __init__(self, agent: str, detail: str) -> None:
        super().__init__(f"{agent}: {detail}")
        self.agent = agent
        self.detail = detail


class AgentUnreachable(AgentError):
    """No answer: refused, timed out, cut off in the middle, or not an agent."""


class AgentRefused(AgentError):
    """The agent answered with a problem. ``reason`` is its stable slug; ``retry_after`` is in seconds."""

    def __init__(
        self, agent: str, status: int, reason: str, detail: str, retry_after: float | None = None
    ) -> None:
        super().__init__(agent, f"{detail} ({status} {reason})")
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class Journal(msgspec.Struct, frozen=True):
    """The part of an agent's journal status that the operator looks at."""

    bytes: int
    trouble: str | None


class Trace(msgspec.Struct, frozen=True):
    """A traced write, of which ``receipts`` tells more."""

    dot: str
    started_at: str


class AgentInfo(msgspec.Struct, frozen=True):
    """GET /v1/agent."""

    name: str
    region: str
    swarm: str
    ready: bool
    state_hash: str
    vector_hash: str
    sequence: int
    leaves: int
    members_alive: int
    degraded: bool
    settings_version: int
    version: str
    journal: Journal
    started_at: str
    groups: list[list[str]]
    """Regions that hear each other; several while cut."""
    newest_trace: Trace | None = None
    """The newest traced write of somebody at this agent."""
    cut_by: str | None = None
    """Who had it drop what other regions send; None = it drops nothing."""


class Member(msgspec.Struct, frozen=True):
    """One row of GET /v1/members."""

    name: str
    region: str
    status: Literal["alive", "suspect", "dead", "left", "unreachable"]
    incarnation: int
    gossip: str
    api: str


class Region(msgspec.Struct, frozen=True):
    """One row of GET /v1/regions."""

    name: str
    agents: int
    alive: int
    unreachable: int
    reachable: bool
    links: dict[str, str]


class Cut(msgspec.Struct, frozen=True):
    """Two regions that cannot hear each other."""

    a: str
    b: str
    since: str
    detection_ms: float | None = None


class Partition(msgspec.Struct, frozen=True):
    """GET /v1/partition, without its history."""

    status: Literal["healthy", "partitioned", "detection-off"]
    groups: list[list[str]]
    cuts: list[Cut]


class Flow(msgspec.Struct, frozen=True):
    """One way of reaching a gossip address."""

    kind: Literal["udp", "tcp"]
    age: Literal["fresh", "live"]
    """Opened for the probe, or what the agent's gossip uses at the moment."""
    open: bool


class Flows(msgspec.Struct, frozen=True):
    """POST /v1/admin/probe. A way that the agent does not have, such as a stream to this peer, is not open."""

    flows: list[Flow]


class Config(msgspec.Struct, frozen=True):
    """GET /v1/config: the swarm's parameters by name, as this agent applies them."""

    version: int
    settings: dict[str, Any]


class Value(msgspec.Struct, frozen=True):
    """GET /v1/state/{key}."""

    key: str
    value: Any
    version: int
    etag: str


class Written(msgspec.Struct, frozen=True):
    """The acknowledgement of a single write. ``dot`` is empty where nothing changed."""

    etag: str
    dot: str
    changed: int


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a batch. ``if_match``: the etag that must hold; "" = the key must not exist."""

    key: str
    op: Literal["put", "merge", "delete", "leaf"]
    value: Any = msgspec.UNSET
    trace: bool = False
    if_match: str | None = None


class LineProblem(msgspec.Struct, frozen=True):
    """Why a line of a batch was refused."""

    status: int
    reason: str
    detail: str


class Ack(msgspec.Struct, frozen=True):
    """What became of one line of a batch: ``dot``, or ``error``."""

    dot: str | None = None
    version: int | None = None
    error: LineProblem | None = None


class Receipts(msgspec.Struct, frozen=True):
    """GET /v1/convergence/{dot}: how many of the agents said that they hold a traced write."""

    agents: int
    received: int
    missing: list[str]
    full_ms: float | None = None
    """How long it took until every agent had it; None = not every agent has."""


class Comparison(msgspec.Struct, frozen=True):
    """What a full comparison with one peer found and repaired."""

    peer: str
    buckets_different: int
    rows_received: int
    rows_sent: int


class Drained(msgspec.Struct, frozen=True):
    """Who holds everything that a drained agent has; it takes no writes ``until`` then."""

    holders: list[str]
    until: str | None

"""What the API takes and gives. These types decode requests, encode responses and generate the OpenAPI document.

Times are RFC 3339 in UTC with milliseconds; durations are milliseconds and end in ``_ms``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gossipswarm_agent.api.limits import MAX_LISTED_KEYS
from gossipswarm_agent.api.times import Duration
from gossipswarm_agent.core.settings import Settings

Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0, description="a share of the agents")]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Timestamp: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="RFC 3339, UTC, milliseconds",
    ),
]
Dot: TypeAlias = Annotated[
    str, Meta(description="identity of one write: `origin:sequence`; empty when nothing changed")
]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of what is decoded and encoded: an unknown field is an error."""


# State


class Value(Body, frozen=True):
    """The visible value of a key at this agent."""

    key: str
    value: Any
    version: Annotated[int, Meta(description="causal updates of the key so far")]
    etag: str
    last_updated: Timestamp
    origin: Annotated[str, Meta(description="the agent whose write is the newest below the key")]
    conflict: Annotated[
        bool, Meta(description="concurrent writes were decided by policy and nobody wrote since")
    ]
    region: str
    agent: str
    degraded: Annotated[bool, Meta(description="the agent is read-only at the moment")]


class Keys(Body, frozen=True):
    """A page of keys in order. ``next`` goes into ``after`` to get the rest; null at the end."""

    keys: list[str]
    next: str | None


class Round(Body, frozen=True):
    """How far a write had come by one round of the spread; counts are cumulative."""

    round: Count
    agents: Count
    share: Share
    duration_ms: Annotated[float, Meta(description="from the write to the last receipt so far")]


class Convergence(Body, frozen=True):
    """How far one write has come."""

    dot: Dot
    key: str
    origin: str
    started_at: Timestamp
    agents: Annotated[int, Meta(description="agents that ought to have it")]
    received: Annotated[int, Meta(description="agents that said they have it, with the origin")]
    share: Share
    threshold: Share
    converged: bool
    duration_ms: Annotated[
        float | None, Meta(description="from the write until the threshold was reached")
    ]
    full_ms: Annotated[float | None, Meta(description="from the write until every agent had it")]
    mode: str
    rounds: list[Round]
    missing: Annotated[list[str], Meta(description="agents that have not confirmed; at most 20")]


class Written(Body, frozen=True, omit_defaults=True):
    """An acknowledged write: it is durable at this agent and on its way to the others."""

    key: str
    version: int
    etag: str
    dot: Dot
    last_updated: Timestamp
    changed: Annotated[int, Meta(description="leaves written or deleted")]
    agent: str
    region: str
    convergence: Convergence | UnsetType = UNSET


class Changed(Body, frozen=True):
    """Data of a `change` event: a leaf's visible value is another one now."""

    key: str
    value: Any
    deleted: bool
    version: int
    last_updated: Timestamp
    origin: str


class ReadParameters(Body, frozen=True):
    """Query of a read."""

    keys: Annotated[bool, Meta(description="list the keys below, not their values")] = False
    limit: Annotated[int, Meta(ge=1, le=MAX_LISTED_KEYS, description="keys of one page")] = 1000
    after: Annotated[str, Meta(description="list from behind this key")] = ""
    watch: Annotated[
        bool, Meta(description="stream changes of the key and all below it as Server-Sent Events")
    ] = False
    since: Annotated[
        str | None,
        Meta(description="resume a watch behind this id; the header Last-Event-ID does the same"),
    ] = None


class WriteParameters(Body, frozen=True):
    """Query of a write."""

    trace: Annotated[bool, Meta(description="ask every agent for a receipt of this write")] = False
    wait: Annotated[
        Literal["converged"] | None,
        Meta(description="answer only when the threshold has it; implies `trace`"),
    ] = None
    threshold: Annotated[
        Share | None, Meta(description="share to wait for; default: the swarm's threshold")
    ] = None
    timeout: Annotated[Duration, Meta(description="how long to wait; 504 beyond")] = "30s"


class PutParameters(WriteParameters, frozen=True):
    """Query of a replacing write."""

    op: Annotated[
        Literal["put", "leaf"],
        Meta(description="`leaf` keeps an object whole instead of one leaf a member"),
    ] = "put"


class BatchLine(Body, frozen=True):
    """One line of a batch."""

    key: str
    op: Literal["put", "merge", "delete", "leaf"] = "put"
    value: Any = UNSET
    trace: bool = False
    id: Annotated[
        str | int | None, Meta(description="returned with the acknowledgement; anything")
    ] = None
    if_match: Annotated[
        str | None,
        Meta(
            description="the etag that must hold; `*`: the key must exist; empty: it must not exist"
        ),
    ] = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem. `reason` is a stable slug; further members depend on it."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    retry_after_ms: int | None = None
    line: int | None = None
    column: int | None = None
    position: Annotated[int | None, Meta(description="bytes from the start of the body")] = None
    field: str | None = None
    key: str | None = None
    suggestions: list[str] | None = None
    allowed: list[str] | None = None
    written: Annotated[Written | None, Meta(description="the write that stands in spite of it")] = (
        None
    )
    convergence: Convergence | None = None


class BatchAck(Body, frozen=True, omit_defaults=True):
    """What became of one line of a batch: `dot` and `version`, or `error`."""

    id: str | int | None = None
    dot: Dot | None = None
    version: int | None = None
    error: Problem | None = None


# The agent and its swarm


class JournalInfo(Body, frozen=True):
    """The agent's journal on disk."""

    bytes: Count
    fsync_p99_ms: float
    records: Annotated[int, Meta(description="appended since the start")]
    trouble: Annotated[
        str | None, Meta(description="why it does not hold everything at the moment")
    ]


class AgentInfo(Body, frozen=True):
    """What one agent says of itself."""

    name: str
    region: str
    swarm: str
    status: str
    ready: bool
    incarnation: Count
    origin: str
    gossip: str
    api: str
    state_hash: Annotated[
        str, Meta(description="16 hex digits; equal at two agents that hold the same")
    ]
    losses_hash: str
    vector_hash: str
    leaves: Count
    tombstones: Count
    held: Annotated[int, Meta(description="rows kept aside because their clock is ahead")]
    sequence: Count
    members_alive: Annotated[int, Meta(description="this agent included")]
    degraded: bool
    settings_version: Count
    started_at: Timestamp
    labels: dict[str, str]
    version: str
    pid: int
    clock_skew_ms: float
    loop_lag_ms: float
    journal: JournalInfo


class MemberInfo(Body, frozen=True):
    """One member as this agent knows it."""

    name: str
    region: str
    status: Literal["alive", "suspect", "dead", "left", "unreachable"]
    incarnation: Count
    gossip: str
    api: str
    labels: dict[str, str]
    since: Timestamp


class Members(Body, frozen=True):
    """Everyone this agent knows, itself included, by name."""

    members: list[MemberInfo]


class RegionInfo(Body, frozen=True):
    """One region as this agent knows it."""

    name: str
    agents: Count
    alive: Count
    unreachable: Count
    relays: list[str]
    reachable: bool
    links: dict[str, Literal["up", "down"]]


class Regions(Body, frozen=True):
    """Every region this agent knows."""

    regions: list[RegionInfo]


class Cut(Body, frozen=True):
    """Two regions that cannot reach each other directly."""

    a: str
    b: str
    since: Timestamp
    detection_ms: float


class PastPartition(Body, frozen=True):
    """A partition that was, or still is while ``partition_end`` is null."""

    partition_start: Timestamp
    partition_end: Timestamp | None
    affected_regions: list[str]
    groups: list[list[str]]
    conflicts_resolved: Count
    healing_time_ms: float | None
    detection_ms: float | None


class Partition(Body, frozen=True):
    """Which regions hear each other, by this agent's knowledge."""

    status: Literal["healthy", "partitioned", "detection-off"]
    groups: list[list[str]]
    cuts: list[Cut]
    history: list[PastPartition]


class ConvergenceList(Body, frozen=True):
    """Traced writes of this agent, latest first."""

    writes: list[Convergence]


class ConvergenceStats(Body, frozen=True):
    """Convergence times over this agent's recent traced writes; null without any."""

    samples: Count
    avg_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class ConvergenceParameters(Body, frozen=True):
    """Query of one write's convergence."""

    wait: Annotated[bool, Meta(description="answer when the threshold is reached")] = False
    threshold: Share | None = None
    timeout: Annotated[Duration, Meta(description="how long to wait; 504 beyond")] = "30s"


class ConflictParameters(Body, frozen=True):
    """Query of the conflicts."""

    limit: Annotated[int, Meta(ge=1, le=10_000, description="of each list, latest first")] = 1000


class Conflict(Body, frozen=True):
    """A concurrent write that lost, and what beat it."""

    key: str
    conflict_detected: Literal[True]
    resolution_strategy: str
    winning_value: Any
    winning_timestamp: Timestamp
    winning_origin: str
    losing_value: Any
    losing_timestamp: Timestamp
    losing_origin: str
    affected_agents: Count


class Conflicts(Body, frozen=True):
    """`open`: nobody has written the key since."""

    open: list[Conflict]
    history: list[Conflict]


class Config(Body, frozen=True):
    """The swarm's parameters as this agent applies them."""

    version: Count
    settings: Settings


# Administration


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
    """Ids of the keys this agent holds; it seals with the first."""

    keys: list[str]


class ResetPeers(Body, frozen=True):
    """Connections given up, so that a changed network policy takes hold."""

    closed: Count


class DropList(Body, frozen=True):
    """Regions whose packets this agent drops, for tests and drills. `until` null: for good."""

    inbound: list[str]
    outbound: list[str]
    until: Timestamp | None


class DropRequest(Body, frozen=True):
    """Replaces the drop list; two empty lists end it."""

    inbound: list[str] = []
    outbound: list[str] = []
    duration_ms: Annotated[int, Meta(ge=1, le=86_400_000)] | None = None


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
    detail: Annotated[dict[str, Any], Meta(description="what the event tells its actions")] = {}


class HookOutcomes(Body, frozen=True):
    """How each action of the event ended, in their order."""

    outcomes: list[HookOutcome]


class Health(Body, frozen=True):
    """`reason` says what is missing while not ready."""

    status: Literal["ok", "ready"]

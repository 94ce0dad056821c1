"""What an agent knows of itself and its swarm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from gossipswarm_agent.api.types.base import Body, Count, Timestamp
from gossipswarm_agent.api.types.edges import Upstream
from gossipswarm_agent.core.settings import Settings


class JournalInfo(Body, frozen=True):
    """The agent's journal on disk."""

    bytes: Count
    fsync_p99_ms: float
    records: Annotated[int, Meta(description="appended since the start")]
    trouble: Annotated[
        str | None, Meta(description="why it does not hold everything at the moment")
    ]


class NewestTrace(Body, frozen=True):
    """The newest traced write of an agent, the swarm's own left aside."""

    dot: str
    key: str
    started_at: Timestamp


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
    groups: Annotated[
        list[list[str]], Meta(description="regions that hear each other; several while cut")
    ]
    cut_by: Annotated[
        str | None,
        Meta(description="who had it drop what other regions send; null: it drops nothing"),
    ]
    degraded: bool
    settings_version: Count
    newest_trace: NewestTrace | None
    started_at: Timestamp
    labels: dict[str, str]
    version: str
    pid: int
    clock_skew_ms: float
    loop_lag_ms: float
    journal: JournalInfo
    role: Literal["agent", "edge"] = "agent"
    upstream: Annotated[
        Upstream | None, Meta(description="of an edge: the agent that it has its state from")
    ] = None


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


class Health(Body, frozen=True, omit_defaults=True):
    """`reason` says what is missing while not ready."""

    status: Literal["ok", "ready"]
    trouble: Annotated[
        str,
        Meta(description="what does not work, although the agent is ready; left out if all does"),
    ] = ""

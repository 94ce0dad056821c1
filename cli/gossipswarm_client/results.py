"""What calls return: the agent's JSON with names that type checkers know.

A result keeps the document it came from in ``raw``, so nothing that a newer agent adds is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Document:
    """A JSON object whose members are attributes. Immutable; equal when the JSON is."""

    __slots__ = ("raw",)

    raw: Mapping[str, Any]

    def __init__(self, raw: Mapping[str, Any]) -> None:
        object.__setattr__(self, "raw", raw)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.raw[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return type(self) is type(other) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={value!r}" for name, value in self.raw.items())
        return f"{type(self).__name__}({members})"

    def __reduce__(self) -> tuple[type[Document], tuple[Mapping[str, Any]]]:
        return type(self), (self.raw,)


class Value(Document):
    """The visible value of a key at one agent."""

    __slots__ = ()
    key: str
    value: Any
    version: int
    """Causal updates of the key so far."""
    etag: str
    last_updated: str
    origin: str
    conflict: bool
    region: str
    agent: str
    degraded: bool


class Convergence(Document):
    """How far one write has come."""

    __slots__ = ()
    dot: str
    key: str
    origin: str
    started_at: str
    agents: int
    received: int
    share: float
    threshold: float
    converged: bool
    duration_ms: float | None
    """Until the threshold was reached."""
    full_ms: float | None
    """Until every agent had it."""
    mode: str
    rounds: list[dict[str, Any]]
    missing: list[str]


class Written(Document):
    """An acknowledged write."""

    __slots__ = ()
    key: str
    version: int
    etag: str
    dot: str
    """Identity of the write; empty when nothing changed."""
    last_updated: str
    changed: int
    """Leaves written or deleted."""
    agent: str
    region: str

    @property
    def convergence(self) -> Convergence | None:
        """How far it had come, when it was written with ``wait``."""
        found = self.raw.get("convergence")
        return Convergence(found) if found is not None else None


class Ack(Document):
    """What became of one line of a batch, in the order of the lines."""

    __slots__ = ()

    @property
    def ok(self) -> bool:
        """The line was written."""
        return "error" not in self.raw

    @property
    def id(self) -> str | int | None:
        """The line's own id, if it had one."""
        return self.raw.get("id")

    @property
    def dot(self) -> str:
        """Identity of the write; empty when nothing changed or it was refused."""
        return str(self.raw.get("dot", ""))

    @property
    def version(self) -> int:
        """The key's version; 0 when it was refused."""
        return int(self.raw.get("version", 0))

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The problem document of a line that was refused."""
        return self.raw.get("error")


class Change(Document):
    """A leaf's visible value is another one now."""

    __slots__ = ()
    id: str
    """Resumes a watch behind this change."""
    key: str
    value: Any
    deleted: bool
    version: int
    last_updated: str
    origin: str


class Reset(Document):
    """The watch could not be resumed without a gap: the full state follows as changes."""

    __slots__ = ()
    id: str


class AgentInfo(Document):
    """What one agent says of itself."""

    __slots__ = ()
    name: str
    region: str
    swarm: str
    status: str
    ready: bool
    incarnation: int
    origin: str
    gossip: str
    api: str
    state_hash: str
    losses_hash: str
    vector_hash: str
    leaves: int
    tombstones: int
    held: int
    sequence: int
    members_alive: int
    groups: list[list[str]]
    cut_by: str | None
    """Who had it drop what other regions send; None = it drops nothing."""
    degraded: bool
    settings_version: int
    newest_trace: dict[str, str] | None
    started_at: str
    labels: dict[str, str]
    version: str
    pid: int
    clock_skew_ms: float
    loop_lag_ms: float
    journal: dict[str, Any] | None


class Member(Document):
    """One member as the agent knows it."""

    __slots__ = ()
    name: str
    region: str
    status: str
    """alive, suspect, dead, left or unreachable"""
    incarnation: int
    gossip: str
    api: str
    labels: dict[str, str]
    since: str


class Region(Document):
    """One region as the agent knows it."""

    __slots__ = ()
    name: str
    agents: int
    alive: int
    unreachable: int
    relays: list[str]
    reachable: bool
    links: dict[str, str]


class Partition(Document):
    """Which regions hear each other."""

    __slots__ = ()
    status: str
    """healthy, partitioned or detection-off"""
    groups: list[list[str]]
    cuts: list[dict[str, Any]]
    history: list[dict[str, Any]]


class ConvergenceStats(Document):
    """Convergence times over the agent's recent traced writes."""

    __slots__ = ()
    samples: int
    avg_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Conflict(Document):
    """A concurrent write that lost, and what beat it."""

    __slots__ = ()
    key: str
    conflict_detected: bool
    resolution_strategy: str
    winning_value: Any
    winning_timestamp: str
    winning_origin: str
    losing_value: Any
    losing_timestamp: str
    losing_origin: str
    affected_agents: int


class Conflicts(Document):
    """Conflicts that nobody has written over yet, and all that are remembered."""

    __slots__ = ()

    @property
    def open(self) -> list[Conflict]:
        """Nobody has written the key since."""
        return [Conflict(each) for each in self.raw["open"]]

    @property
    def history(self) -> list[Conflict]:
        """All that are remembered."""
        return [Conflict(each) for each in self.raw["history"]]


class Config(Document):
    """The swarm's parameters as the agent applies them."""

    __slots__ = ()
    version: int
    settings: dict[str, Any]


class AntiEntropyReport(Document):
    """What a full comparison with one peer found and repaired."""

    __slots__ = ()
    peer: str
    buckets_compared: int
    buckets_different: int
    rows_received: int
    rows_sent: int
    dropped: int
    duration_ms: float


class HookOutcome(Document):
    """How one action of a hook ended."""

    __slots__ = ()
    event: str
    action: str
    status: str
    """done or failed"""
    message: str
    duration_ms: float
    at: str


class Hooks(Document):
    """Actions that follow events at one agent."""

    __slots__ = ()
    events: dict[str, list[str]]
    outcomes: list[dict[str, Any]]


class DropList(Document):
    """Regions whose packets the agent drops."""

    __slots__ = ()
    inbound: list[str]
    outbound: list[str]
    until: str | None
    by: str | None
    """Who asked for it; None = nobody said."""

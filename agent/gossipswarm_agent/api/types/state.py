"""Keys, values and writes, and the problem that any request may end in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gossipswarm_agent.api.limits import MAX_LISTED_KEYS
from gossipswarm_agent.api.times import Duration
from gossipswarm_agent.api.types.base import Body, Dot, Share, Timestamp
from gossipswarm_agent.api.types.convergence import Convergence


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


Key = Annotated[
    str,
    Meta(
        description="the key, where the path does not name it: no proxy on the way can tidy up its slashes"
    ),
]


class ReadParameters(Body, frozen=True):
    """Query of a read."""

    key: Key = ""
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

    key: Key = ""
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

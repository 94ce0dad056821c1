"""How far writes have come."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gossipswarm_agent.api.times import Duration
from gossipswarm_agent.api.types.base import Body, Count, Dot, Share, Timestamp


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

"""Edges: who follows an agent's state, and what an edge says of itself."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gossipswarm_agent.api.types.base import Body, Count, Timestamp


class ReplicaParameters(Body, frozen=True):
    """Query of an edge."""

    swarm: Annotated[str, Meta(description="unique id of the swarm that the edge belongs to")] = ""
    version: Annotated[int, Meta(description="version of the frames that it speaks")] = 1


class EdgeInfo(Body, frozen=True):
    """One edge as its agent knows it."""

    name: str
    region: str
    labels: dict[str, str]
    prefixes: Annotated[
        list[str] | None, Meta(description="keys that it holds with all below; null = everything")
    ]
    since: Timestamp
    level: Annotated[bool, Meta(description="it was sent all that there is")]
    lag_ms: Annotated[
        float,
        Meta(description="age of the oldest change that it does not say it has applied; 0 = none"),
    ]
    report: Annotated[Any, Meta(description="what it says of those that use it; null = nothing")]


class Edges(Body, frozen=True):
    """Edges that are connected to this agent, by name."""

    edges: list[EdgeInfo]


class Upstream(Body, frozen=True):
    """Where an edge has its state from."""

    agent: Annotated[str | None, Meta(description="null while there is none")]
    api: str | None
    connected: bool
    last_contact: Annotated[
        Timestamp | None, Meta(description="when an agent was last heard; null = never yet")
    ]
    age_ms: Annotated[float | None, Meta(description="how long ago that is")]
    failovers: Annotated[int, Meta(description="times that an agent was lost or left for another")]
    trouble: Annotated[str | None, Meta(description="why there is none, if there is none")]
    prefixes: list[str] | None
    known: Count
    """Agents that it may turn to."""

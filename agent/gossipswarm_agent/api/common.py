"""What agents and edges offer alike: who asks need not know which of them answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from gossipswarm_agent.api import types
from gossipswarm_agent.api.operations import JSON, Handler, Operation, Table

_Add: TypeAlias = Callable[..., None]

NDJSON: Final = "application/x-ndjson"
_EVENTS: Final = "text/event-stream"
_WRITE_PROBLEMS: Final = (400, 412, 413, 415, 422, 429, 503, 504, 507)
_WRITE_HEADERS: Final = ("If-Match", "If-None-Match", "X-Request-Id")


def add_common(table: Table, handlers: Mapping[tuple[str, str], Handler]) -> None:
    """Add all that agents and edges have in common; a handler of ``/v1/state`` also has the keys below it."""

    def add(method: str, path: str, scope: Any, tag: str, summary: str, **more: Any) -> None:
        handler = handlers[method, path.removesuffix("/{key}")]
        table.add(Operation(method, path, handler, scope, summary, tag, **more))

    _add_state(add)
    _add_swarm(add)
    _add_discovery(add)


def _add_state(add: _Add) -> None:
    written = partial(add, scope="write", tag="state", answers={JSON: types.Written})
    for path in ("/v1/state", "/v1/state/{key}"):
        add(
            "GET",
            path,
            "read",
            "state",
            "Read a value, list keys, or watch",
            query=types.ReadParameters,
            headers=("If-None-Match", "Last-Event-ID"),
            answers={JSON: types.Value | types.Keys, _EVENTS: types.Changed},
            problems=(304, 400, 404, 422, 429),
        )
        written(
            "PUT",
            path,
            summary="Replace the subtree at a key",
            query=types.PutParameters,
            body=object,
            headers=_WRITE_HEADERS,
            problems=_WRITE_PROBLEMS,
        )
        written(
            "PATCH",
            path,
            summary="Merge into the subtree at a key (RFC 7396)",
            query=types.WriteParameters,
            body=object,
            headers=_WRITE_HEADERS,
            problems=_WRITE_PROBLEMS,
        )
        written(
            "DELETE",
            path,
            summary="Delete a key and all below it",
            query=types.WriteParameters,
            headers=_WRITE_HEADERS,
            problems=_WRITE_PROBLEMS,
        )

    add(
        "POST",
        "/v1/batch",
        "write",
        "state",
        "Write many lines over one request, each acknowledged in order",
        body=types.BatchLine,
        body_media=NDJSON,
        answers={NDJSON: types.BatchAck},
        problems=(417,),
    )


def _add_swarm(add: _Add) -> None:
    read = partial(add, scope="read", tag="swarm")
    read(
        "GET",
        "/v1/agent",
        summary="What this agent says of itself",
        answers={JSON: types.AgentInfo},
    )
    read(
        "GET",
        "/v1/members",
        summary="Everyone this agent knows",
        answers={JSON: types.Members},
    )
    read(
        "GET",
        "/v1/regions",
        summary="Every region this agent knows, its relays and links",
        answers={JSON: types.Regions},
    )
    read(
        "GET",
        "/v1/partition",
        summary="Which regions hear each other, now and in the past",
        answers={JSON: types.Partition},
    )
    read(
        "GET",
        "/v1/convergence",
        summary="Traced writes of this agent, latest first",
        answers={JSON: types.ConvergenceList},
    )
    read(
        "GET",
        "/v1/convergence/{dot}",
        summary="How far a traced write has come, or wait until it has come far enough",
        query=types.ConvergenceParameters,
        answers={JSON: types.Convergence},
        problems=(400, 404, 504),
    )
    read(
        "GET",
        "/v1/convergence-stats",
        summary="Convergence times over the recent traced writes",
        answers={JSON: types.ConvergenceStats},
    )
    read(
        "GET",
        "/v1/conflicts",
        summary="Concurrent writes that lost, and what beat them",
        query=types.ConflictParameters,
        answers={JSON: types.Conflicts},
    )
    read(
        "GET",
        "/v1/config",
        summary="The swarm's parameters",
        answers={JSON: types.Config},
    )

    read(
        "GET",
        "/v1/projections",
        summary="Parts of the state that this agent keeps as files, and what of them is on disk",
        answers={JSON: types.Projections},
    )


def _add_discovery(add: _Add) -> None:
    open_to_all = partial(add, scope="open", tag="discovery")
    open_to_all(
        "GET",
        "/healthz",
        summary="Is the process alive",
        answers={JSON: types.Health},
    )
    open_to_all(
        "GET",
        "/readyz",
        summary="Has the agent joined and caught up",
        answers={JSON: types.Health},
        problems=(503,),
    )
    add(
        "GET",
        "/metrics",
        "read",
        "discovery",
        "Metrics for Prometheus",
        answers={"text/plain": None},
    )
    open_to_all("GET", "/openapi.json", summary="This document", answers={JSON: dict})

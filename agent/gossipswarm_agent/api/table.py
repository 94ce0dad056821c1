"""Every operation of the API."""

from __future__ import annotations

from typing import Final

from gossipswarm_agent.api import batch, discovery, state
from gossipswarm_agent.api import types as t
from gossipswarm_agent.api.operations import JSON, Operation, Table

TABLE: Final = Table()

_EVENTS: Final = "text/event-stream"
_WRITE_PROBLEMS: Final = (400, 412, 413, 415, 422, 429, 503, 504, 507)
_WRITE_HEADERS: Final = ("If-Match", "If-None-Match", "X-Request-Id")

for _path in ("/v1/state", "/v1/state/{key}"):
    TABLE.add(
        Operation(
            "GET",
            _path,
            state.read,
            "read",
            "Read a value, list keys, or watch",
            "state",
            query=t.ReadParameters,
            headers=("If-None-Match", "Last-Event-ID"),
            answers={JSON: t.Value | t.Keys, _EVENTS: t.Changed},
            problems=(304, 400, 404, 422),
        )
    )
TABLE.add(
    Operation(
        "PUT",
        "/v1/state/{key}",
        state.put,
        "write",
        "Replace the subtree at a key",
        "state",
        query=t.PutParameters,
        body=object,
        headers=_WRITE_HEADERS,
        answers={JSON: t.Written},
        problems=_WRITE_PROBLEMS,
    )
)
TABLE.add(
    Operation(
        "PATCH",
        "/v1/state/{key}",
        state.patch,
        "write",
        "Merge into the subtree at a key (RFC 7396)",
        "state",
        query=t.WriteParameters,
        body=object,
        headers=_WRITE_HEADERS,
        answers={JSON: t.Written},
        problems=_WRITE_PROBLEMS,
    )
)
TABLE.add(
    Operation(
        "DELETE",
        "/v1/state/{key}",
        state.delete,
        "write",
        "Delete a key and all below it",
        "state",
        query=t.WriteParameters,
        headers=_WRITE_HEADERS,
        answers={JSON: t.Written},
        problems=_WRITE_PROBLEMS,
    )
)
TABLE.add(
    Operation(
        "POST",
        "/v1/batch",
        batch.write_batch,
        "write",
        "Write many lines over one request, each acknowledged in order",
        "state",
        body=t.BatchLine,
        body_media=batch.NDJSON,
        answers={batch.NDJSON: t.BatchAck},
    )
)
TABLE.add(
    Operation(
        "GET",
        "/healthz",
        discovery.healthz,
        "open",
        "Is the process alive",
        "discovery",
        answers={JSON: t.Health},
    )
)
TABLE.add(
    Operation(
        "GET",
        "/readyz",
        discovery.readyz,
        "open",
        "Has the agent joined and caught up",
        "discovery",
        answers={JSON: t.Health},
        problems=(503,),
    )
)
TABLE.add(
    Operation(
        "GET",
        "/metrics",
        discovery.metrics,
        "read",
        "Metrics for Prometheus",
        "discovery",
        answers={"text/plain": None},
    )
)
TABLE.add(
    Operation(
        "GET",
        "/openapi.json",
        discovery.openapi,
        "open",
        "This document",
        "discovery",
        answers={JSON: dict},
    )
)

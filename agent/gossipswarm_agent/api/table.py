"""Every operation of the API."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gossipswarm_agent.api import admin, batch, discovery, hooks, queries, state, types
from gossipswarm_agent.api.operations import JSON, Handler, Operation, Table
from gossipswarm_agent.core.settings import Settings

TABLE: Final = Table()

_EVENTS: Final = "text/event-stream"
_WRITE_PROBLEMS: Final = (400, 412, 413, 415, 422, 429, 503, 504, 507)
_WRITE_HEADERS: Final = ("If-Match", "If-None-Match", "X-Request-Id")
_ADMIN_PROBLEMS: Final = (400, 413, 415, 422, 429, 503)


def _add(
    method: str, path: str, handler: Handler, scope: Any, tag: str, summary: str, **more: Any
) -> None:
    TABLE.add(Operation(method, path, handler, scope, summary, tag, **more))


_state = partial(_add, scope="write", tag="state", answers={JSON: types.Written})
_swarm = partial(_add, scope="read", tag="swarm")
_discovery = partial(_add, scope="open", tag="discovery")

for _path in ("/v1/state", "/v1/state/{key}"):
    _add(
        "GET",
        _path,
        state.read,
        "read",
        "state",
        "Read a value, list keys, or watch",
        query=types.ReadParameters,
        headers=("If-None-Match", "Last-Event-ID"),
        answers={JSON: types.Value | types.Keys, _EVENTS: types.Changed},
        problems=(304, 400, 404, 422, 429),
    )
    _state(
        "PUT",
        _path,
        state.put,
        summary="Replace the subtree at a key",
        query=types.PutParameters,
        body=object,
        headers=_WRITE_HEADERS,
        problems=_WRITE_PROBLEMS,
    )
    _state(
        "PATCH",
        _path,
        state.patch,
        summary="Merge into the subtree at a key (RFC 7396)",
        query=types.WriteParameters,
        body=object,
        headers=_WRITE_HEADERS,
        problems=_WRITE_PROBLEMS,
    )
    _state(
        "DELETE",
        _path,
        state.delete,
        summary="Delete a key and all below it",
        query=types.WriteParameters,
        headers=_WRITE_HEADERS,
        problems=_WRITE_PROBLEMS,
    )

_add(
    "POST",
    "/v1/batch",
    batch.write_batch,
    "write",
    "state",
    "Write many lines over one request, each acknowledged in order",
    body=types.BatchLine,
    body_media=batch.NDJSON,
    answers={batch.NDJSON: types.BatchAck},
    problems=(417,),
)

_swarm(
    "GET",
    "/v1/agent",
    queries.agent,
    summary="What this agent says of itself",
    answers={JSON: types.AgentInfo},
)
_swarm(
    "GET",
    "/v1/members",
    queries.members,
    summary="Everyone this agent knows",
    answers={JSON: types.Members},
)
_swarm(
    "GET",
    "/v1/regions",
    queries.regions,
    summary="Every region this agent knows, its relays and links",
    answers={JSON: types.Regions},
)
_swarm(
    "GET",
    "/v1/partition",
    queries.partition,
    summary="Which regions hear each other, now and in the past",
    answers={JSON: types.Partition},
)
_swarm(
    "GET",
    "/v1/convergence",
    queries.recent_convergence,
    summary="Traced writes of this agent, latest first",
    answers={JSON: types.ConvergenceList},
)
_swarm(
    "GET",
    "/v1/convergence/{dot}",
    queries.convergence,
    summary="How far a traced write has come, or wait until it has come far enough",
    query=types.ConvergenceParameters,
    answers={JSON: types.Convergence},
    problems=(400, 404, 504),
)
_swarm(
    "GET",
    "/v1/convergence-stats",
    queries.convergence_stats,
    summary="Convergence times over the recent traced writes",
    answers={JSON: types.ConvergenceStats},
)
_swarm(
    "GET",
    "/v1/conflicts",
    queries.conflicts,
    summary="Concurrent writes that lost, and what beat them",
    query=types.ConflictParameters,
    answers={JSON: types.Conflicts},
)
_swarm(
    "GET",
    "/v1/config",
    admin.read_config,
    summary="The swarm's parameters",
    answers={JSON: types.Config},
)

_admin = partial(_add, scope="write", tag="administration", problems=_ADMIN_PROBLEMS)
_admin(
    "PATCH",
    "/v1/config",
    admin.change_config,
    summary="Change parameters of the swarm, whole or not at all",
    body=Settings,
    answers={JSON: types.Config},
)
_admin(
    "POST",
    "/v1/admin/degraded-mode",
    admin.degraded_mode,
    summary="Make the swarm or this agent read-only, or writable again",
    body=types.DegradedMode,
    answers={JSON: types.DegradedMode},
)
_admin(
    "POST",
    "/v1/admin/anti-entropy",
    admin.anti_entropy,
    summary="Compare everything with one peer now, and repair what differs",
    body=types.AntiEntropy,
    body_required=False,
    answers={JSON: types.AntiEntropyReport},
    problems=(*_ADMIN_PROBLEMS, 404, 504),
)
_admin(
    "GET",
    "/v1/admin/keyring",
    admin.read_keyring,
    summary="Ids of the keys this agent holds",
    answers={JSON: types.Keyring},
    problems=(),
)
_admin(
    "POST",
    "/v1/admin/keyring",
    admin.keyring,
    summary="List, install, use or remove a key of this agent",
    body=types.KeyringAction,
    body_required=False,
    answers={JSON: types.Keyring},
)
_admin(
    "POST",
    "/v1/admin/drain",
    admin.drain,
    summary="Take no more writes, and make sure that others hold everything this agent has",
    body=types.Drain,
    body_required=False,
    answers={JSON: types.Drained},
    problems=(*_ADMIN_PROBLEMS, 504),
)
_admin(
    "POST",
    "/v1/admin/reset-peers",
    admin.reset_peers,
    summary="Give up connections to peers, so that a changed network policy takes hold",
    body=types.Nothing,
    body_required=False,
    answers={JSON: types.ResetPeers},
)
_admin(
    "GET",
    "/v1/admin/drop-list",
    admin.read_drop_list,
    summary="Regions whose packets this agent drops",
    answers={JSON: types.DropList},
    problems=(),
)
_admin(
    "POST",
    "/v1/admin/drop-list",
    admin.set_drop_list,
    summary="Replace the drop list",
    body=types.DropRequest,
    body_required=False,
    answers={JSON: types.DropList},
)
_admin(
    "POST",
    "/v1/admin/release",
    admin.release,
    summary="Let regions merge that wait for an operator",
    body=types.Nothing,
    body_required=False,
    answers={JSON: types.Released},
)
_swarm(
    "GET",
    "/v1/hooks",
    hooks.read_hooks,
    summary="Actions that follow events at this agent, and how the last ones ended",
    answers={JSON: types.Hooks},
)
_admin(
    "POST",
    "/v1/admin/hooks",
    hooks.call_hooks,
    summary="Carry out the actions of an event now",
    body=types.HookCall,
    answers={JSON: types.HookOutcomes},
    problems=(*_ADMIN_PROBLEMS, 404),
)

_discovery(
    "GET",
    "/healthz",
    discovery.healthz,
    summary="Is the process alive",
    answers={JSON: types.Health},
)
_discovery(
    "GET",
    "/readyz",
    discovery.readyz,
    summary="Has the agent joined and caught up",
    answers={JSON: types.Health},
    problems=(503,),
)
_add(
    "GET",
    "/metrics",
    discovery.metrics,
    "read",
    "discovery",
    "Metrics for Prometheus",
    answers={"text/plain": None},
)
_discovery("GET", "/openapi.json", discovery.openapi, summary="This document", answers={JSON: dict})

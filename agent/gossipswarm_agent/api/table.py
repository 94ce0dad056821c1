"""Every operation of the API."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gossipswarm_agent.api import (
    admin,
    batch,
    discovery,
    edges,
    hooks,
    projections,
    queries,
    state,
    types,
)
from gossipswarm_agent.api.common import add_common
from gossipswarm_agent.api.operations import JSON, Handler, Operation, Table
from gossipswarm_agent.core.settings import Settings

TABLE: Final = Table()

_ADMIN_PROBLEMS: Final = (400, 413, 415, 422, 429, 503)


def _add(
    method: str, path: str, handler: Handler, scope: Any, tag: str, summary: str, **more: Any
) -> None:
    TABLE.add(Operation(method, path, handler, scope, summary, tag, **more))


_swarm = partial(_add, scope="read", tag="swarm")

add_common(
    TABLE,
    {
        ("GET", "/v1/state"): state.read,
        ("PUT", "/v1/state"): state.put,
        ("PATCH", "/v1/state"): state.patch,
        ("DELETE", "/v1/state"): state.delete,
        ("POST", "/v1/batch"): batch.write_batch,
        ("GET", "/v1/agent"): queries.agent,
        ("GET", "/v1/members"): queries.members,
        ("GET", "/v1/regions"): queries.regions,
        ("GET", "/v1/partition"): queries.partition,
        ("GET", "/v1/convergence"): queries.recent_convergence,
        ("GET", "/v1/convergence/{dot}"): queries.convergence,
        ("GET", "/v1/convergence-stats"): queries.convergence_stats,
        ("GET", "/v1/conflicts"): queries.conflicts,
        ("GET", "/v1/config"): admin.read_config,
        ("GET", "/v1/projections"): projections.read_projections,
        ("GET", "/healthz"): discovery.healthz,
        ("GET", "/readyz"): discovery.readyz,
        ("GET", "/metrics"): discovery.metrics,
        ("GET", "/openapi.json"): discovery.openapi,
    },
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
    "/v1/admin/probe",
    admin.probe,
    summary="Try to get packets to another agent's gossip address, by new flows and those in use",
    body=types.ProbeRequest,
    answers={JSON: types.Probed},
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

_swarm(
    "GET",
    "/v1/replica",
    edges.replica,
    summary="Follow the state as an edge does, over a WebSocket",
    query=types.ReplicaParameters,
    answers={edges.FRAMES: None},
    problems=(400, 409, 426, 503),
)
_swarm(
    "GET",
    "/v1/edges",
    edges.list_edges,
    summary="Edges that are connected to this agent, and how far each of them is",
    answers={JSON: types.Edges},
)

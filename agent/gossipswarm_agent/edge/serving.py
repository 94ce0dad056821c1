"""The HTTP API of an edge: the agents' own, where reads and watches are answered here and the rest by an agent."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import TYPE_CHECKING, Final, cast

import msgspec
from aiohttp import hdrs, web

from gossipswarm_agent.api import discovery, projections, state, types
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.common import add_common
from gossipswarm_agent.api.operations import Table
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.runtime.metrics import program_version

if TYPE_CHECKING:
    from gossipswarm_agent.edge.edge import Edge

_NO_HASH: Final = f"{0:016x}"


def _edge(call: Call) -> Edge:
    return cast("Edge", call.holder)


async def read(call: Call) -> web.StreamResponse:
    """GET: as at an agent. Raises Problem 404 for keys that this edge does not hold."""
    edge = _edge(call)
    wanted = call.parameters(types.ReadParameters)
    key = wanted.key or call.key()
    if key and not edge.replica.holds(key):
        held = ", ".join(edge.config.prefixes or ())
        raise Problem(404, "not-held", f"this edge holds {held} and what is below, not {key!r}")
    return await state.read(call)


async def write(call: Call) -> web.StreamResponse:
    """PUT, PATCH, DELETE: the agent's answer."""
    has_body = call.request.method != hdrs.METH_DELETE
    return await _edge(call).writes.write(call, await call.body() if has_body else None)


async def write_batch(call: Call) -> web.StreamResponse:
    """POST: the agent's acknowledgements."""
    return await _edge(call).writes.batch(call)


async def ask(call: Call) -> web.StreamResponse:
    """GET: the agent's answer."""
    return await _edge(call).writes.forward(call)


async def agent(call: Call) -> web.StreamResponse:
    """GET: this edge, in the shape in which agents speak of themselves."""
    edge = _edge(call)
    replica, held = edge.replica, edge.replica.state
    info = types.AgentInfo(
        name=edge.config.name,
        region=edge.config.region,
        swarm=edge.config.swarm,
        status="alive",
        ready=edge.unreadiness is None,
        incarnation=0,
        origin="",
        gossip="",
        api=edge.config.api,
        state_hash=f"{held.state_hash:016x}",
        losses_hash=_NO_HASH,
        vector_hash=f"{held.vector.hash:016x}",
        leaves=held.leaf_count,
        tombstones=held.tombstone_count,
        held=0,
        sequence=0,
        members_alive=0,
        groups=[],
        cut_by=None,
        degraded=edge.degraded,
        settings_version=replica.settings_version,
        newest_trace=None,
        started_at=timestamp(edge.started_ms),
        labels=dict(edge.config.labels),
        version=program_version(),
        pid=os.getpid(),
        clock_skew_ms=0.0,
        loop_lag_ms=0.0,
        journal=types.JournalInfo(bytes=0, fsync_p99_ms=0.0, records=0, trouble=None),
        role="edge",
        upstream=_upstream(edge),
    )
    return _json(info)


def _upstream(edge: Edge) -> types.Upstream:
    upstream = edge.upstream
    current, silence = upstream.current, upstream.silence_seconds()
    return types.Upstream(
        agent=None if current is None else current.agent,
        api=None if current is None else current.url,
        connected=current is not None,
        last_contact=None if silence is None else timestamp(upstream.contact_at()),
        age_ms=None if silence is None else round(silence * 1000, 3),
        failovers=upstream.failovers,
        trouble=upstream.trouble,
        prefixes=edge.config.prefixes,
        known=upstream.known,
    )


async def openapi(call: Call) -> web.StreamResponse:
    """GET: the OpenAPI document of this API."""
    del call
    body = await asyncio.to_thread(_openapi_body)
    return web.Response(body=body, content_type="application/json")


@cache
def _openapi_body() -> bytes:
    from gossipswarm_agent.api.openapi import document  # noqa: PLC0415 - hardly anybody asks

    return msgspec.json.encode(document(table())) + b"\n"


@cache
def table() -> Table:
    """The operations of edges; administration is the agents' own."""
    made = Table()
    passed_on = ("members", "regions", "partition", "convergence", "convergence/{dot}",
                 "convergence-stats", "conflicts", "config")  # fmt: skip
    add_common(
        made,
        {
            ("GET", "/v1/state"): read,
            ("PUT", "/v1/state"): write,
            ("PATCH", "/v1/state"): write,
            ("DELETE", "/v1/state"): write,
            ("POST", "/v1/batch"): write_batch,
            ("GET", "/v1/agent"): agent,
            **{("GET", f"/v1/{name}"): ask for name in passed_on},
            ("GET", "/v1/projections"): projections.read_projections,
            ("GET", "/healthz"): discovery.healthz,
            ("GET", "/readyz"): discovery.readyz,
            ("GET", "/metrics"): discovery.metrics,
            ("GET", "/openapi.json"): openapi,
        },
    )
    return made


def _json(value: object) -> web.Response:
    return web.Response(body=encode_json(value), content_type="application/json")

"""Edges: how they follow this agent's state, and how far each of them is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from gossipswarm_agent.api import types
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.edge import frames

if TYPE_CHECKING:
    from gossipswarm_agent.edge.hub import Edges

FRAMES: Final = "application/msgpack"
HELLO_SECONDS: Final = 5.0
"""An edge that has not said who it is by then is disconnected."""
_CLOSE_SECONDS: Final = 1.0
_HELLO_BYTES: Final = 4 << 20
"""The version vector of an edge may have a thousand origins; anything larger is none."""


async def replica(call: Call) -> web.StreamResponse:
    """GET: the state, and what becomes of it, over a WebSocket.

    Raises:
        Problem: 409 another swarm or protocol, 426 no WebSocket, 503 this agent serves no (further) edges now.
    """
    agent = call.agent
    wanted = call.parameters(types.ReplicaParameters)
    if wanted.swarm != agent.config.swarm:
        detail = f"this agent is of swarm {agent.config.swarm!r}, not of {wanted.swarm!r}"
        raise Problem(409, "another-swarm", detail)
    if wanted.version != frames.VERSION:
        detail = f"version {wanted.version} is not spoken here, but {frames.VERSION}"
        raise Problem(409, "another-version", detail)
    if agent.edges is None:
        from gossipswarm_agent.edge.hub import Edges  # noqa: PLC0415 - only agents that have edges pay for it

        agent.edges = Edges(agent)
        agent.watchers.follow(agent.edges.wake)
    why = agent.unreadiness or ("it has as many edges as it takes" if agent.edges.full else None)
    if why is not None:
        raise Problem(503, "no-edges", f"ask another agent: {why}")
    socket = web.WebSocketResponse(
        timeout=_CLOSE_SECONDS, max_msg_size=_HELLO_BYTES, compress=False
    )
    if not socket.can_prepare(call.request):
        raise Problem(
            426, "no-websocket", "edges speak over a WebSocket", headers={hdrs.UPGRADE: "websocket"}
        )
    await socket.prepare(call.request)
    attending = asyncio.ensure_future(_attend(call, agent.edges, socket))
    try:
        await asyncio.wait((attending, call.closing), return_when=asyncio.FIRST_COMPLETED)
        if attending.done():
            attending.result()
    finally:
        attending.cancel()
        await asyncio.wait((attending,))
    await socket.close(code=WSCloseCode.GOING_AWAY)
    return socket


async def _attend(call: Call, edges: Edges, socket: web.WebSocketResponse) -> None:
    transport = call.request.transport
    try:
        message = await socket.receive(timeout=HELLO_SECONDS)
        if message.type is not WSMsgType.BINARY or transport is None:
            return
        hello = frames.decode_from_edge(message.data)
    except TimeoutError:
        return
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:100].encode()
        await socket.close(code=WSCloseCode.PROTOCOL_ERROR, message=reason)
        return
    if isinstance(hello, frames.Hello):
        await edges.attend(hello, socket, transport)


async def list_edges(call: Call) -> web.StreamResponse:
    """GET: edges that are connected, by name."""
    known = call.agent.edges
    found = [] if known is None else [
        types.EdgeInfo(
            name=edge.name,
            region=edge.region,
            labels=edge.labels,
            prefixes=None if edge.prefixes is None else list(edge.prefixes),
            since=timestamp(edge.since_ms),
            level=edge.vector is None,
            lag_ms=round(known.lag_seconds(edge) * 1000, 3),
            report=_report(edge.report),
        )
        for edge in known
    ]  # fmt: skip
    return web.Response(body=encode_json(types.Edges(edges=found)), content_type="application/json")


def _report(said: str | None) -> Any:
    """What an edge says, if it is JSON: whoever may read can be an edge, and must not spoil the list."""
    try:
        return None if said is None else msgspec.json.decode(said)
    except msgspec.DecodeError:
        return None

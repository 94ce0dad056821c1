"""What programs and probes ask first: is it alive, is it ready, what can it do, how is it doing."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Final

import msgspec
from aiohttp import web

from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.types import Health

_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


async def healthz(call: Call) -> web.StreamResponse:
    """GET: the process answers."""
    del call
    return _json(Health(status="ok"))


async def readyz(call: Call) -> web.StreamResponse:
    """GET: the agent is in its swarm and has caught up. Raises Problem 503 until then, and once it leaves."""
    why = call.holder.unreadiness
    if why is not None:
        raise Problem(503, "not-ready", why)
    return _json(Health(status="ready", trouble=call.holder.projector.trouble or ""))


async def metrics(call: Call) -> web.StreamResponse:
    """GET: everything that Prometheus scrapes."""
    body = call.holder.metrics.render()
    return web.Response(body=body, headers={"Content-Type": _METRICS})


async def openapi(call: Call) -> web.StreamResponse:
    """GET: the OpenAPI document of this API."""
    del call
    # Made once a process, off the event loop: it takes tens of milliseconds.
    body = await asyncio.to_thread(_openapi_body)
    return web.Response(body=body, content_type="application/json")


@cache
def _openapi_body() -> bytes:
    from gossipswarm_agent.api.openapi import document  # noqa: PLC0415 - it needs the table

    return msgspec.json.encode(document()) + b"\n"


def _json(value: object) -> web.Response:
    return web.Response(body=encode_json(value), content_type="application/json")

"""Health, readiness and metrics over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp import web

from gossipswarm_operator.metrics import Metrics


def bind(port: int) -> socket.socket:
    """A socket that listens on every address, of IPv4 and IPv6 alike, with one port; any that is free where it is 0. Raises
    OSError if the port is taken.
    """
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=both)


async def serve(
    metrics: Metrics, port: int, ready: Callable[[], bool] = lambda: True
) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics on every address; ``cleanup`` the result to stop. A replica that stands by is
    ready too: it is ready to take over, and ``ready`` to serve the webhook. Raises OSError if the port is taken.
    """

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def prepared(_: web.Request) -> web.Response:
        if ready():
            return web.json_response({"status": "ok"})
        return web.json_response({"status": "the webhook has no certificate yet"}, status=503)

    async def measured(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    application = web.Application()
    application.router.add_get("/healthz", healthy)
    application.router.add_get("/readyz", prepared)
    application.router.add_get("/metrics", measured)
    listening = bind(port)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    return runner

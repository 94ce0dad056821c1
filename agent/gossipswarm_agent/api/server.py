"""Serves an agent over HTTP.

A process may host a hundred agents, so an agent costs a listener and a few small objects: the table of
operations is shared and idle listeners do nothing at all. This is aiohttp's low-level server: 1.3 KiB an
agent, where an application and its runner cost 30.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from socket import AF_UNIX, socket
from typing import Any, Final

from aiohttp import web

from gossipswarm_agent.api.access import Gate
from gossipswarm_agent.api.call import Call, parse_parameters
from gossipswarm_agent.api.holder import Holder
from gossipswarm_agent.api.limits import CLOSE_SECONDS, MAX_CONNECTIONS
from gossipswarm_agent.api.operations import Table
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.types import Nothing
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.runtime.config import Tokens

log: Final = logging.getLogger(__name__)
KEEPALIVE_SECONDS: Final = 75.0
LINGER_SECONDS: Final = 2.0
"""How long a body that is refused is read and thrown away, so that its sender gets to see the answer."""


class _Connection(web.RequestHandler):
    """One connection. Its own errors are problem documents, too."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        assert isinstance(manager, _Listener)
        super().connection_made(transport)
        if len(manager.connections) > MAX_CONNECTIONS:
            manager.refused += 1
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last resort: what is not HTTP, and faults of ours."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response had begun")
        if status < 500:
            detail = " ".join((message or str(exc) or "the request is not HTTP/1.1").split())
            problem = Problem(status, "malformed-request", detail[:200], close=True)
        else:
            log.error("%s %s failed", request.method, request.path, exc_info=exc)
            problem = Problem(
                500, "internal-error", "a fault in the agent; its log says more", close=True
            )
        return problem.response()


class _Listener(web.Server):
    """The connections of one agent."""

    def __init__(self, holder: Holder, table: Table, gate: Gate, **options: Any) -> None:
        super().__init__(self._serve, handler_cancellation=True, **options)
        self.refused = 0
        """Connections beyond the limit."""
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holder = holder
        self._table = table
        self.gate = gate
        """Who may ask."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            path, _, query = request.path_qs.partition("?")
            operation, tail = self._table.find(request.method, path)
            self.gate.admit(request, operation.scope)
            if query and operation.query is None:
                parse_parameters(query, Nothing)
            call = Call(self._holder, request, tail, query, self.closing)
            return await operation.handler(call)
        except Problem as problem:
            return problem.response()
        except WriteRefused as refused:
            return Problem.of_refusal(refused).response()


class Server:
    """An agent's listeners. Made by ``serve``."""

    def __init__(self, listener: _Listener, servers: Sequence[asyncio.Server]) -> None:
        self._listener = listener
        self._servers = servers

    @property
    def addresses(self) -> list[str]:
        """``host:port`` of each TCP listener."""
        return [
            _address(listening.getsockname())
            for server in self._servers
            for listening in server.sockets
            if listening.family != AF_UNIX
        ]

    def set_tokens(self, tokens: Tokens | None) -> None:
        """Ask for these tokens from the next request on."""
        self._listener.gate = Gate(tokens, local_only=self._listener.gate.local_only)

    @property
    def refused_connections(self) -> int:
        """Connections closed at once because there were too many."""
        return self._listener.refused

    async def close(self) -> None:
        """Stop listening, end streams, let requests in flight finish for a few seconds."""
        for server in self._servers:
            server.close()
        if not self._listener.closing.done():
            self._listener.closing.set_result(None)
        self._listener.pre_shutdown()
        await self._listener.shutdown(CLOSE_SECONDS)
        for server in self._servers:
            await server.wait_closed()


async def serve(
    holder: Holder,
    *,
    sockets: Sequence[socket],
    table: Table | None = None,
    tokens: Tokens | None = None,
    tls: ssl.SSLContext | None = None,
    access_log: logging.Logger | None = None,
) -> Server:
    """Serve an agent, or with a table of its own an edge, on sockets that are bound already; they are closed with the server.

    ``tokens`` None asks nobody for a credential. Call it twice for listeners of different trust. A
    listener on loopback only takes requests that name it by a local name.
    """
    gate = Gate(tokens, local_only=all(_is_loopback(bound) for bound in sockets))
    options = {
        "access_log": access_log,
        "keepalive_timeout": KEEPALIVE_SECONDS,
        "lingering_time": LINGER_SECONDS,
    }
    listener = _Listener(holder, table or _of_agents(), gate, **options)
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    try:
        for bound in sockets:
            servers.append(await loop.create_server(listener, sock=bound, ssl=tls, backlog=256))  # noqa: PERF401 - those made are closed when one fails
    except BaseException:
        for server in servers:
            server.close()
        raise
    return Server(listener, servers)


def _of_agents() -> Table:
    from gossipswarm_agent.api.table import TABLE  # noqa: PLC0415 - an edge has no use for all of it

    return TABLE


def _is_loopback(bound: socket) -> bool:
    if bound.family == AF_UNIX:
        return True
    return ip_address(bound.getsockname()[0]).is_loopback


def _address(name: tuple[Any, ...]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

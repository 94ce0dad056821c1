"""A proxy in front of a real API server that makes some requests fail, as clusters do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

import aiohttp
from aiohttp import web

Fault = int | asyncio.Event | Literal["timeout", "cut"] | None
"""Status to answer with; or to answer never, or to close the connection; or to let it through but keep back the answer
until the event is set; None = let it through.
"""
Choose = Callable[[str, str], Fault]
"""From method and path to a fault."""
_REASONS: Final = {409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}


class Proxy:
    """What came by. ``choose`` may be exchanged at any time."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.choose: Choose = lambda method, path: None
        self.requests: list[tuple[str, str, Fault]] = []
        self.watches: list[str] = []
        """Paths of all watches, in the order in which they were begun."""
        self.pending = 0
        """Requests that have not been answered; watches do not count."""
        self.url = ""
        self._streams: set[web.StreamResponse] = set()
        self._server = server
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Let a request through, or not."""
        counts = request.query.get("watch") != "true"
        self.pending += counts
        try:
            return await self._handle(request)
        finally:
            self.pending -= counts

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self.choose(request.method, request.path)
        self.requests.append((request.method, request.path, fault))
        if fault == "timeout":
            await asyncio.sleep(3600)
        if fault == "cut":
            return _gone(request)
        if isinstance(fault, int):
            reason = _REASONS.get(fault, "InternalError")
            body = {"kind": "Status", "code": fault, "reason": reason, "message": "on purpose"}
            return web.json_response(body, status=fault)
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type", "Accept")
            if name in request.headers
        }
        try:
            async with self._session.request(
                request.method,
                self._server + request.path_qs,
                headers=headers,
                data=await request.read() or None,
            ) as answer:
                kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
                if request.query.get("watch") == "true":
                    return await self._stream(request, answer, kept)
                found = await answer.read()
                if isinstance(fault, asyncio.Event):
                    await fault.wait()
                return web.Response(status=answer.status, body=found, headers=kept)
        except aiohttp.ClientError:
            return _gone(request)  # as the API server behind it

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        self.watches.append(request.path)
        await response.prepare(request)
        self._streams.add(response)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        finally:
            self._streams.discard(response)
        return response

    @property
    def open_watches(self) -> int:
        """Watches that go on now."""
        return len(self._streams)

    def cut_watches(self) -> int:
        """Break every watch that is open, as a network does; how many there were."""
        streams, self._streams = self._streams, set()
        for stream in streams:
            _gone(stream._req)
        return len(streams)

    def told(self, text: str) -> int:
        """Requests whose path holds the text."""
        return sum(text in path for _, path, _ in self.requests)


def _gone(request: web.BaseRequest | None) -> web.Response:
    """Close the connection of a request; what is answered then reaches nobody."""
    if request is not None and request.transport is not None:
        request.transport.close()
    return web.Response(status=502)


@contextlib.asynccontextmanager
async def proxying(server: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port of loopback; ``url`` is where."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        proxy = Proxy(server, session)
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        proxy.url = f"http://{host}:{port}"
        try:
            yield proxy
        finally:
            await runner.cleanup()


def every(count: int, fault: Fault, methods: tuple[str, ...] = ()) -> Choose:
    """Let each ``count``-th request of these methods (none = all) fail."""
    seen = 0

    def choose(method: str, path: str) -> Fault:
        nonlocal seen
        if methods and method not in methods:
            return None
        seen += 1
        return fault if seen % count == 0 else None

    return choose


__all__ = ["Choose", "Fault", "Proxy", "every", "proxying"]

"""Changes as Server-Sent Events, resumable from any id that was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web

from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.limits import HEARTBEAT_SECONDS, STALLED_SECONDS
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.api.types import Changed
from gossipswarm_agent.core.results import Change, Reset

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # proxies in nginx's manner would collect events otherwise
}
_HEARTBEAT: Final = b": alive\n\n"
_HELLO: Final = b"retry: 1000\n: watching\n\n"


async def stream_changes(call: Call, prefix: str, since: str | None) -> web.StreamResponse:
    """Send every change at or below ``prefix`` until the client leaves, lags or the server closes.

    A client that reads too slowly gets an ``event: dropped`` if it still reads at all, and is
    disconnected; it resumes from the last id that it saw.
    """
    last_id = call.request.headers.get("Last-Event-ID") or since
    watcher = call.agent.watch(prefix, last_id)
    try:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(call.request)
        await _send(response, _HELLO)
        await _follow(call, response, aiter(watcher))
        if watcher.dropped:
            await _send(response, b"event: dropped\ndata: {}\n\n")
    except TimeoutError:
        call.request.protocol.force_close()
    finally:
        await watcher.aclose()
    return response


async def _follow(
    call: Call, response: web.StreamResponse, events: AsyncIterator[Change | Reset]
) -> None:
    upcoming: asyncio.Future[Change | Reset] | None = None
    try:
        while not call.closing.done():
            if upcoming is None:
                upcoming = asyncio.ensure_future(anext(events))
            await asyncio.wait(
                (upcoming, call.closing),
                timeout=HEARTBEAT_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not upcoming.done():
                await _send(response, _HEARTBEAT)
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            await _send(response, encode_event(event))
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait((upcoming,))


async def _send(response: web.StreamResponse, data: bytes) -> None:
    """Raises TimeoutError when the client takes nothing for too long."""
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(data)


def encode_event(event: Change | Reset) -> bytes:
    """One Server-Sent Event."""
    if isinstance(event, Reset):
        return b"id: %b\nevent: reset\ndata: {}\n\n" % event.id.encode()
    data = encode_json(
        Changed(
            key=event.key,
            value=event.value,
            deleted=event.deleted,
            version=event.version,
            last_updated=timestamp(event.updated_ms),
            origin=event.origin,
        )
    )
    return b"id: %b\nevent: change\ndata: %b\n\n" % (event.id.encode(), data)

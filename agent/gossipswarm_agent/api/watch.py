"""Changes as Server-Sent Events, resumable from any id that was sent."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import hdrs, web

from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.limits import HEARTBEAT_SECONDS, STALLED_SECONDS
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.api.types import Changed
from gossipswarm_agent.core.results import Change, Reset
from gossipswarm_agent.runtime.watch import Watcher

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # proxies in nginx's manner would collect events otherwise
}
_RETRY: Final = b"retry: 1000\n"
_DROPPED: Final = b"event: dropped\ndata: {}\n\n"
_GATHERED_BYTES: Final = 64 << 10
"""Events that are ready are sent together up to this size."""


async def stream_changes(call: Call, prefix: str, since: str | None) -> web.StreamResponse:
    """Send every change at or below ``prefix`` until the client leaves, lags or the server closes.

    A client that reads too slowly gets an ``event: dropped`` if it still reads at all, and is
    disconnected; it resumes from the last id that it saw.
    """
    last_id = call.request.headers.get("Last-Event-ID") or since
    watcher = call.holder.watch(prefix, last_id)
    try:
        response = web.StreamResponse(headers=_HEADERS)
        # A stream ends with its connection, as event sources expect; kept alive it would look merely quiet.
        response.force_close()
        await response.prepare(call.request)
        await _send(response, _RETRY + _heartbeat(watcher))
        await _follow(call, response, watcher)
        if watcher.dropped:
            await _send(response, _DROPPED)
    except TimeoutError:
        call.request.protocol.force_close()
    finally:
        await watcher.aclose()
    return response


async def _follow(call: Call, response: web.StreamResponse, watcher: Watcher) -> None:
    upcoming: asyncio.Future[Change | Reset] | None = None
    try:
        while not call.closing.done():
            if upcoming is None:
                upcoming = asyncio.ensure_future(anext(watcher))
            await asyncio.wait(
                (upcoming, call.closing),
                timeout=HEARTBEAT_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not upcoming.done():
                await _send(response, _heartbeat(watcher))
                continue
            taken, upcoming = upcoming, None
            events, ended = await _gather(watcher, taken)
            if events:
                await _send(response, events)
            if ended:
                return
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait((upcoming,))


async def _gather(watcher: Watcher, first: asyncio.Future[Change | Reset]) -> tuple[bytes, bool]:
    """The first event and those that are ready behind it; whether the watcher has ended."""
    events = b""
    try:
        events = encode_event(first.result())
        # A position is there once nothing waits: until then the next event does not either.
        while watcher.position is None and len(events) < _GATHERED_BYTES:
            events += encode_event(await anext(watcher))
    except StopAsyncIteration:
        return events, True
    return events, False


def _heartbeat(watcher: Watcher) -> bytes:
    """A comment, and where to resume from: a watch of quiet keys must not fall behind the history."""
    position = watcher.position
    return b": alive\n\n" if position is None else b": alive\nid: %b\n\n" % position.encode()


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

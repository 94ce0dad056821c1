"""Frames too large for a datagram, over TCP: one connection a peer and direction, made on demand.

On the wire: records of length (4, big-endian, of what follows), hop (1), tree (1) and a sealed frame. The
first record is a hello whose body is the sender's listening address: it tells the receiver whose stream
this is, before it reads anything large.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Final

import msgspec

from gossipswarm_agent.core.frames import Address

LARGEST_FRAME: Final = 64 << 20
"""Bytes of a sealed frame on a stream."""
QUEUE_BYTES: Final = 16 << 20
"""Bytes that wait for one peer; a frame beyond that is dropped, unless it would wait alone."""
IDLE_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
HELLO_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 30.0
"""A peer that cannot be connected to for this long loses what waits for it; repair makes up for it."""
BACKOFF_SECONDS: Final = (0.05, 5.0)
INBOUND_LIMIT: Final = 4096

_HELLO_BYTES: Final = 512
_LENGTH_BYTES: Final = 4

_encode_hello = msgspec.msgpack.Encoder().encode
_decode_hello = msgspec.msgpack.Decoder(tuple[str, int]).decode


def record(data: bytes) -> bytes:
    """Prefix and sealed frame as they go down a stream."""
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


class _Outgoing(asyncio.Protocol):
    """Our end of a connection that we made: nothing is read, only its end is noticed."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()
        self.writable = True
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set()
        self.changed.set()


class _PeerStream:
    """What waits for one peer, and the task that brings it there."""

    def __init__(self, peer: Address, streams: Streams) -> None:
        self.peer = peer
        self._streams = streams
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._link: _Outgoing | None = None
        self.task = asyncio.create_task(self._run(), name=f"stream to {peer[0]}:{peer[1]}")

    def offer(self, data: bytes) -> bool:
        """Queue ``data``; False if the peer's queue is full."""
        if self._queue and self._queued_bytes + len(data) > QUEUE_BYTES:
            return False
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._wake.set()
        return True

    def disconnect(self) -> None:
        """Close the connection now; what waits goes over the next one."""
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abort()

    def discard(self) -> int:
        """Forget what waits; how many frames that was."""
        count = len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        return count

    async def _run(self) -> None:
        try:
            while self._queue:
                self._link = await self._connect()
                if self._link is None:
                    self._streams.counters.drop("unreachable", self.discard())
                    return
                await self._feed(self._link)
        finally:
            self.disconnect()
            self._streams.forget(self)

    async def _connect(self) -> _Outgoing | None:
        """A connection that has said hello, or None once the peer is given up."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + GIVE_UP_SECONDS
        pause, longest = BACKOFF_SECONDS
        while self._queue:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, link = await loop.create_connection(
                        _Outgoing, *self.peer, local_addr=(self._streams.host, 0)
                    )
            except OSError:  # includes TimeoutError
                if loop.time() + pause > give_up:
                    return None
                # Jitter: many peers lose the same agent at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, longest)
                continue
            assert link.transport is not None
            link.transport.write(self._streams.hello())
            return link
        return None

    async def _feed(self, link: _Outgoing) -> None:
        """Write what waits, and what comes, until the connection is lost or has been idle for long."""
        transport = link.transport
        assert transport is not None
        counters = self._streams.counters
        while not link.lost.is_set():
            while self._queue and link.writable and not transport.is_closing():
                data = self._queue.popleft()
                self._queued_bytes -= len(data)
                transport.write(data)
                counters.stream_frames_out += 1
                counters.bytes_out += len(data)
            link.changed.clear()
            self._wake = link.changed
            if self._queue and link.writable:
                continue
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await link.changed.wait()
            except TimeoutError:
                # Idle, or the peer has read nothing for as long: either way this connection is over.
                transport.abort()
                return

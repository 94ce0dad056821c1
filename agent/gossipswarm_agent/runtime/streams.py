"""Frames too large for a datagram, over TCP: one connection a peer and direction, made on demand.

On the wire: records of length (4, big-endian, of what follows), hop (1), tree (1) and a sealed frame. The
first record is a hello whose body is the sender's listening address: it tells the receiver whose stream
this is, before it reads anything large.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.runtime.admission import PREFIX_BYTES
from gossipswarm_agent.runtime.counters import Counters
from gossipswarm_agent.runtime.keyring import Keyring

LARGEST_FRAME: Final = 64 << 20
"""Bytes of a sealed frame on a stream."""
QUEUE_BYTES: Final = 16 << 20
"""Bytes that wait for one peer; a frame beyond that is dropped, unless it would wait alone."""
IDLE_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 30.0
"""A peer that cannot be connected to for this long loses what waits for it; repair makes up for it."""
BACKOFF_SECONDS: Final = (0.05, 5.0)

LENGTH_BYTES: Final = 4

_encode_hello = msgspec.msgpack.Encoder().encode


def record(data: bytes) -> bytes:
    """Prefix and sealed frame as they go down a stream."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class _Outgoing(asyncio.Protocol):
    """Our end of a connection that we made: nothing is read, only its end is noticed."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self.lost = False
        self.writable = True
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self._changed.set()

    def write(self, data: bytes) -> bool:
        """Hand ``data`` to the kernel; False if it takes nothing now, or never again."""
        transport = self.transport
        if self.lost or not self.writable or transport is None or transport.is_closing():
            return False
        transport.write(data)
        return True

    def abort(self) -> None:
        """Close the connection now, whatever was not sent."""
        if self.transport is not None:
            self.transport.abort()


class _PeerStream:
    """What waits for one peer, and the task that brings it there."""

    def __init__(self, peer: Address, streams: Streams) -> None:
        self.peer = peer
        self.queued_bytes = 0
        self.connected = False
        self._streams = streams
        self._queue: deque[bytes] = deque()
        self._changed = asyncio.Event()
        """Set when there may be something to do: a frame came, the kernel takes more, the link is lost."""
        self.task = asyncio.create_task(self._run(), name=f"stream to {peer[0]}:{peer[1]}")

    def offer(self, data: bytes) -> bool:
        """Queue ``data``; False if the peer's queue is full."""
        if self._queue and self.queued_bytes + len(data) > QUEUE_BYTES:
            return False
        self._queue.append(data)
        self.queued_bytes += len(data)
        self._changed.set()
        return True

    def discard(self) -> int:
        """Forget what waits; how many frames that were."""
        count = len(self._queue)
        self._queue.clear()
        self.queued_bytes = 0
        return count

    async def _run(self) -> None:
        try:
            while self._queue:
                link = await self._connect()
                if link is None:
                    self._streams.counters.drop("unreachable", self.discard())
                    return
                self.connected = True
                try:
                    await self._feed(link)
                finally:
                    self.connected = False
                    link.abort()
        finally:
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
                        lambda: _Outgoing(self._changed),
                        *self.peer,
                        local_addr=(self._streams.host, 0),
                    )
            except (OSError, OverflowError, ValueError):  # TimeoutError is an OSError
                if loop.time() + pause > give_up:
                    return None
                # Jitter: many peers lose the same agent at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, longest)
                continue
            link.write(self._streams.hello())
            return link
        return None

    async def _feed(self, link: _Outgoing) -> None:
        """Write what waits, and what comes, until the connection is lost or has been idle for long."""
        counters = self._streams.counters
        while not link.lost:
            self._changed.clear()
            while self._queue and link.write(self._queue[0]):
                size = len(self._queue.popleft())
                self.queued_bytes -= size
                counters.stream_frames_out += 1
                counters.bytes_out += size
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return  # idle, or the peer has read nothing for as long: either way it is over


class Streams:
    """Every connection that this agent has made, by the peer's address.

    ``local`` is the address that this agent listens on, which each stream starts by saying.
    """

    def __init__(self, local: Address, host: str, keyring: Keyring, counters: Counters) -> None:
        self.host = host
        """Connections are made from this interface."""
        self.counters = counters
        self._local = local
        self._keyring = keyring
        self._peers: dict[Address, _PeerStream] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def queued_bytes(self) -> int:
        """What waits for all peers together."""
        return sum(stream.queued_bytes for stream in self._peers.values())

    def send(self, targets: Iterable[Address], data: bytes) -> None:
        """Queue prefix and sealed frame for each target, connecting where there is no stream yet."""
        if len(data) > LARGEST_FRAME + PREFIX_BYTES:
            self.counters.drop("oversized", len(tuple(targets)))
            return
        whole = record(data)
        for target in targets:
            stream = self._peers.get(target)
            if stream is None:
                stream = self._peers[target] = _PeerStream(target, self)
            if not stream.offer(whole):
                self.counters.drop("stream_queue")

    def is_connected(self, peer: Address) -> bool:
        """Whether there is a connection to this peer that is not known to be lost."""
        stream = self._peers.get(peer)
        return stream is not None and stream.connected

    def hello(self) -> bytes:
        """The record that a connection starts with: sealed anew each time, so that none can be replayed."""
        return record(bytes(PREFIX_BYTES) + self._keyring.seal(_encode_hello(self._local)))

    def forget(self, stream: _PeerStream) -> None:
        """A peer's task is over: the next frame for that peer starts another."""
        if self._peers.get(stream.peer) is stream:
            del self._peers[stream.peer]

    def disconnect(self, to: Callable[[Address], bool] = lambda _: True) -> int:
        """Close the connections to these peers and drop what waits for them; how many peers that were."""
        streams = [stream for peer, stream in self._peers.items() if to(peer)]
        for stream in streams:
            self.counters.drop("disconnected", stream.discard())
            self.forget(stream)
            stream.task.cancel()
            self._ending.add(stream.task)
            stream.task.add_done_callback(self._ending.discard)
        return len(streams)

    async def close(self) -> None:
        """Close every connection and await the tasks that kept them."""
        self.disconnect()
        if self._ending:
            await asyncio.wait(self._ending)

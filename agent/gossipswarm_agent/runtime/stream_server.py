"""The receiving end of streams: nothing large is read before the peer has said who it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import msgspec

from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.runtime.admission import PREFIX_BYTES, Admission
from gossipswarm_agent.runtime.counters import Counters
from gossipswarm_agent.runtime.keyring import Rejected
from gossipswarm_agent.runtime.streams import IDLE_SECONDS, LARGEST_FRAME, LENGTH_BYTES, record

INBOUND_LIMIT: Final = 4096
"""Connections at a time; one more is closed at once."""
HELLO_SECONDS: Final = 5.0
HELLO_BYTES: Final = 512

_decode_hello = msgspec.msgpack.Decoder(tuple[str, int]).decode


class _Incoming(asyncio.Protocol):
    """One connection that a peer made. What it sends is never answered here."""

    def __init__(self, server: StreamServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        self.peer: Address | None = None
        """Listening address of who is at the other end, once that is known."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.enter(self):
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HELLO_SECONDS, self._refuse, "hello_timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self._buffer = bytearray()
        self._server.leave(self)

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, reason: str) -> None:
        self._server.counters.drop(reason)
        self.abort()

    def _check_idle(self) -> None:
        # The maker of a connection closes it when idle; this is for makers that vanished.
        if not self._heard:
            self.abort()
            return
        self._heard = False
        self._timer = asyncio.get_running_loop().call_later(3 * IDLE_SECONDS, self._check_idle)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._heard = True
        buffer = self._buffer
        buffer += data
        start = 0
        inbound: list[Inbound] = []
        while len(buffer) - start >= LENGTH_BYTES:
            length = int.from_bytes(buffer[start : start + LENGTH_BYTES], "big")
            largest = HELLO_BYTES if self.peer is None else LARGEST_FRAME + PREFIX_BYTES
            if not PREFIX_BYTES <= length <= largest:
                # The boundaries of all that follows are lost.
                self._refuse("oversized" if length > largest else "truncated")
                break
            end = start + LENGTH_BYTES + length
            if len(buffer) < end:
                break
            frame = bytes(buffer[start + LENGTH_BYTES : end])
            start = end
            if self.peer is None:
                if not self._greet(frame):
                    break
            else:
                self._take(frame, inbound)
        del buffer[:start]
        if inbound:
            self._server.deliver(inbound)

    def _greet(self, frame: bytes) -> bool:
        assert self._transport is not None
        source = self._transport.get_extra_info("peername")[:2]
        try:
            # Not "ordered": a hello has no excuse for being old.
            hello = self._server.admission.admit(frame, source)
            answer = self._server.answer(hello)
            if answer is not None:
                self._transport.write(record(answer))
                return True  # a probe: it closes the connection, or the timer does
            self.peer = _decode_hello(hello.frame.body)
        except Rejected as rejected:
            self._refuse(rejected.reason)
            return False
        except msgspec.MsgspecError:
            self._refuse("hello")
            return False
        if self._server.refuses_peer(self.peer):
            self._refuse("region")
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._check_idle()
        return True

    def _take(self, frame: bytes, inbound: list[Inbound]) -> None:
        assert self.peer is not None
        counters = self._server.counters
        counters.stream_frames_in += 1
        counters.bytes_in += len(frame)
        try:
            inbound.append(self._server.admission.admit(frame, self.peer, ordered=True))
        except Rejected as rejected:
            counters.drop(rejected.reason)


class StreamServer:
    """Listens on a bound TCP socket, which belongs to this from ``start`` on."""

    def __init__(
        self,
        admission: Admission,
        deliver: Callable[[list[Inbound]], None],
        counters: Counters,
    ) -> None:
        self.admission = admission
        self.deliver = deliver
        self.counters = counters
        self.refuses_peer: Callable[[Address], bool] = lambda _: False
        """Whether a peer is beyond a cut that was made on purpose."""
        self.answer: Callable[[Inbound], bytes | None] = lambda _: None
        """What to send back to a first record that is no hello."""
        self._connections: set[_Incoming] = set()
        self._server: asyncio.Server | None = None

    def __len__(self) -> int:
        return len(self._connections)

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Incoming(self), sock=listening)

    def enter(self, connection: _Incoming) -> bool:
        """Whether there is room for one more connection."""
        if len(self._connections) >= INBOUND_LIMIT:
            self.counters.drop("connections")
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: _Incoming) -> None:
        """A connection is over."""
        self._connections.discard(connection)

    def disconnect(self, of: Callable[[Address], bool] = lambda _: True) -> int:
        """Close the connections of these peers; how many that were. Who has not said hello yet goes too."""
        chosen = [one for one in self._connections if one.peer is None or of(one.peer)]
        for connection in chosen:
            connection.abort()
        return len(chosen)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        self.disconnect()
        if self._server is not None:
            await self._server.wait_closed()

"""Whether packets get to another agent's gossip port, by asking it to answer: how a cut is shown to hold, or not to.

A probe travels like gossip, sealed, but with the hop 0 that gossip never has, and the core never sees it. It is answered on
the flow that it came by: whatever let it in lets the answer out, so each probe tells of one direction. Both ends keep to their
drop lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.runtime.admission import PREFIX_BYTES
from gossipswarm_agent.runtime.datagrams import Datagrams
from gossipswarm_agent.runtime.keyring import Keyring, Rejected
from gossipswarm_agent.runtime.sockets import family_of
from gossipswarm_agent.runtime.streams import LENGTH_BYTES, Streams, record

PROBE_SECONDS: Final = 0.8
SENDS: Final = 3
"""A datagram is sent so often before the probe counts as lost."""
_LARGEST_ANSWER: Final = 1024


class Knock(msgspec.Struct, array_like=True, frozen=True, tag=120):
    """Are you there? Laid out like a message, so that drop lists find the sender."""

    sender: str
    nonce: bytes
    region: str


class Here(msgspec.Struct, array_like=True, frozen=True, tag=121):
    """I am."""

    sender: str
    nonce: bytes


class Flow(msgspec.Struct, frozen=True):
    """One way to a gossip address, and whether packets get there and back."""

    kind: Literal["udp", "tcp"]
    age: Literal["fresh", "live"]
    """Opened for the probe, or what gossip uses at the moment."""
    open: bool
    rtt_ms: float | None = None
    """Of a probe that was answered."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_knock: Final = msgspec.msgpack.Decoder(Knock).decode
_decode_here: Final = msgspec.msgpack.Decoder(Here).decode


class Reaching:
    """Probes of one agent, and its answers to those of others. ``name`` and ``region`` are its own."""

    def __init__(
        self,
        keyring: Keyring,
        host: str,
        datagrams: Datagrams,
        streams: Streams,
        refuses: Callable[[str], bool],
        is_cut: Callable[[Address], bool],
    ) -> None:
        """``refuses`` a region whose packets are dropped; ``is_cut`` an address that nothing is sent to."""
        self.name = ""
        self.region = ""
        self._keyring = keyring
        self._host = host
        self._datagrams = datagrams
        self._streams = streams
        self._refuses = refuses
        self._is_cut = is_cut
        # One at a time: all of them read from the socket that gossip leaves from.
        self._turn = asyncio.Lock()

    # --- answering --------------------------------------------------------------------------------

    def answer(self, inbound: Inbound) -> bytes | None:
        """What to send back to an authenticated frame of hop 0; None if it is no probe, or from beyond a cut."""
        try:
            knock = _decode_knock(inbound.frame.body)
        except msgspec.MsgspecError:
            return None
        if self._refuses(knock.region):
            return None
        return self._framed(_encode(Here(self.name, knock.nonce)))

    def _framed(self, body: bytes) -> bytes:
        return bytes(PREFIX_BYTES) + self._keyring.seal(body)

    # --- asking -----------------------------------------------------------------------------------

    async def probe(self, target: Address) -> list[Flow]:
        """Try a numeric address by new flows, and by those that gossip has."""
        if self._is_cut(target):
            return [Flow(kind, age, False) for age in ("fresh", "live") for kind in ("udp", "tcp")]
        async with self._turn:
            fresh, live, stream = await asyncio.gather(
                self._udp(target, None), self._udp(target, self._datagrams), self._tcp(target)
            )
        return [
            Flow("udp", "fresh", fresh is not None, fresh),
            Flow("tcp", "fresh", stream is not None, stream),
            Flow("udp", "live", live is not None, live),
            Flow("tcp", "live", self._streams.is_connected(target)),
        ]

    async def _udp(self, target: Address, datagrams: Datagrams | None) -> float | None:
        """Milliseconds until a datagram was answered; None if none was. From a socket of its own, or gossip's."""
        try:
            sock = self._new_socket() if datagrams is None else datagrams.duplicate()
        except OSError:
            return None
        loop = asyncio.get_running_loop()
        nonce = secrets.token_bytes(8)
        arrived = asyncio.Event()
        loop.add_reader(sock.fileno(), self._take, sock, nonce, arrived)
        begun = time.monotonic()
        try:
            for _ in range(SENDS):
                with contextlib.suppress(OSError, OverflowError, ValueError):
                    sock.sendto(self._knock(nonce), target)
                try:
                    async with asyncio.timeout(PROBE_SECONDS / SENDS):
                        await arrived.wait()
                except TimeoutError:
                    continue
                return _passed(begun)
            return None
        finally:
            loop.remove_reader(sock.fileno())
            sock.close()

    def _new_socket(self) -> socket.socket:
        sock = socket.socket(family_of(self._host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind((self._host, 0))
        except OSError:
            sock.close()
            raise
        return sock

    def _knock(self, nonce: bytes) -> bytes:
        # Sealed anew each time: one that comes twice is taken for a replay.
        return self._framed(_encode(Knock(self.name, nonce, self.region)))

    def _take(self, sock: socket.socket, nonce: bytes, arrived: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while True:
                if self._is_answer(sock.recv(_LARGEST_ANSWER), nonce):
                    arrived.set()

    def _is_answer(self, data: bytes, nonce: bytes) -> bool:
        try:
            body, _, _ = self._keyring.open(data[PREFIX_BYTES:])
            return _decode_here(body).nonce == nonce
        except (Rejected, msgspec.MsgspecError):
            return False

    async def _tcp(self, target: Address) -> float | None:
        """Milliseconds until a new connection was answered; None if it was not."""
        nonce, begun = secrets.token_bytes(8), time.monotonic()
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                reader, writer = await asyncio.open_connection(*target, local_addr=(self._host, 0))
                writer.write(record(self._knock(nonce)))
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                data = await reader.readexactly(min(length, _LARGEST_ANSWER))
        except (OSError, asyncio.IncompleteReadError, OverflowError, ValueError):
            return None  # TimeoutError is an OSError
        finally:
            if writer is not None:
                writer.transport.abort()
        return _passed(begun) if self._is_answer(data, nonce) else None


def _passed(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)

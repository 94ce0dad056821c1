"""UDP as gossip uses it: one socket that only listens, one that only sends and is replaced now and then.

Most CNIs let the packets of a flow through that was live before a NetworkPolicy. So nothing is ever sent
from the listening socket, whose port is known, and the sending socket's ephemeral port changes.

asyncio's DatagramProtocol costs 25 us a datagram; a socket drained by hand when it becomes readable
costs about 5, and hands over all that came together in one call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final

from gossipswarm_agent.core.frames import Address, Frame, Inbound
from gossipswarm_agent.runtime.keyring import Keyring, Rejected

PREFIX_BYTES: Final = 2
"""Hop and tree, in front of the sealed frame because every relay changes them."""
LARGEST_DATAGRAM: Final = 65_507
DRAIN_LIMIT: Final = 256
"""Datagrams taken in one go, so that a flood leaves the event loop its turns."""

_BUFFER_WISH: Final = 64 << 20


class Counters:
    """What the transport did since it was opened; ``dropped`` by reason. Bytes are those of payloads."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
        "dropped",
        "stream_frames_in",
        "stream_frames_out",
    )

    def __init__(self) -> None:
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.stream_frames_in = 0
        self.stream_frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames that will never be handed over, or never leave."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


def family_of(host: str) -> socket.AddressFamily:
    """Address family of a numeric host; names are resolved before they come here."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def grow_buffer(sock: socket.socket, forced: int, ordinary: int) -> None:
    """Take as large a kernel buffer as we may: beyond the system's limit if privileged, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_WISH)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, ordinary, _BUFFER_WISH)


# Linux numbers that the socket module does not name.
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33


class Datagrams:
    """The two UDP sockets of an agent. ``listening`` is bound already and belongs to this from now on."""

    __slots__ = (
        "_counters",
        "_deliver",
        "_host",
        "_keyring",
        "_listening",
        "_loop",
        "_sending",
    )

    def __init__(
        self,
        listening: socket.socket,
        host: str,
        keyring: Keyring,
        deliver: Callable[[list[Inbound]], None],
        counters: Counters,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._keyring = keyring
        self._deliver = deliver
        self._counters = counters
        self._listening = listening
        grow_buffer(listening, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        self._sending = self._new_sending_socket()
        self._loop.add_reader(listening.fileno(), self._drain)

    def _new_sending_socket(self) -> socket.socket:
        sock = socket.socket(family_of(self._host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            grow_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF)
            sock.bind((self._host, 0))
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def source_port(self) -> int:
        """The ephemeral port that datagrams leave from at the moment."""
        port: int = self._sending.getsockname()[1]
        return port

    def rotate(self) -> None:
        """Send from a new ephemeral port from now on."""
        try:
            replacement = self._new_sending_socket()
        except OSError:
            # Out of ports or descriptors: the old port is better than none.
            self._counters.drop("rotation")
            return
        self._sending.close()
        self._sending = replacement

    def send(self, targets: Iterable[Address], datagram: bytes) -> None:
        """Hand ``datagram`` to the kernel once a target; what it does not take now is lost and counted."""
        sendto = self._sending.sendto
        sent = 0
        for target in targets:
            try:
                sendto(datagram, target)
                sent += 1
            except BlockingIOError:
                self._counters.drop("send_buffer")
            except OSError as error:
                self._drop_unsent(error)
        self._counters.datagrams_out += sent
        self._counters.bytes_out += sent * len(datagram)

    def _drop_unsent(self, error: OSError) -> None:
        if isinstance(error, ConnectionRefusedError):
            return  # somebody's earlier datagram met a closed port; says nothing about this one
        self._counters.drop("send_buffer" if error.errno == 105 else "unreachable")

    def _drain(self) -> None:
        """Open everything that waits in the socket, and hand it over in one call."""
        receive = self._listening.recvfrom
        open_frame = self._keyring.open
        counters = self._counters
        inbound: list[Inbound] = []
        taken = size = 0
        try:
            while taken < DRAIN_LIMIT:
                data, source = receive(65_536)
                taken += 1
                size += len(data)
                sealed = data[PREFIX_BYTES:]
                try:
                    body, session, counter = open_frame(sealed)
                except Rejected as rejected:
                    counters.drop(rejected.reason)
                    continue
                inbound.append(
                    Inbound(Frame(body, sealed), data[0], data[1], source, session, counter)
                )
        except BlockingIOError:
            pass
        except OSError:
            counters.drop("receive_error")
        counters.datagrams_in += taken
        counters.bytes_in += size
        if inbound:
            self._deliver(inbound)

    def close(self) -> None:
        """Stop receiving and sending."""
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        self._sending.close()

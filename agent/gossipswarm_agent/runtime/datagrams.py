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

from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.runtime.admission import Admission
from gossipswarm_agent.runtime.counters import Counters
from gossipswarm_agent.runtime.keyring import Rejected
from gossipswarm_agent.runtime.sockets import SO_SNDBUFFORCE, family_of, grow_buffer

LARGEST_DATAGRAM: Final = 65_507
DRAIN_LIMIT: Final = 256
"""Datagrams taken in one go, so that a flood leaves the event loop its turns."""


class Datagrams:
    """The two UDP sockets of an agent. ``listening`` is bound already and belongs to this from now on."""

    __slots__ = (
        "_admission",
        "_counters",
        "_deliver",
        "_host",
        "_listening",
        "_loop",
        "_sending",
        "answer",
    )

    def __init__(
        self,
        listening: socket.socket,
        host: str,
        admission: Admission,
        deliver: Callable[[list[Inbound]], None],
        counters: Counters,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.answer: Callable[[Inbound], bytes | None] = lambda _: None
        """What to send back to a frame of hop 0, which is no gossip."""
        self._host = host
        self._admission = admission
        self._deliver = deliver
        self._counters = counters
        self._listening = listening
        self._sending = self._new_sending_socket()
        self._loop.add_reader(listening.fileno(), self.drain)

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

    def duplicate(self) -> socket.socket:
        """The socket that datagrams leave from, to be closed by the caller. Raises OSError."""
        return self._sending.dup()

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
            except (OverflowError, ValueError):
                self._counters.drop("unreachable")  # what a peer claims to be its address is none
        self._counters.datagrams_out += sent
        self._counters.bytes_out += sent * len(datagram)

    def _drop_unsent(self, error: OSError) -> None:
        if isinstance(error, ConnectionRefusedError):
            return  # somebody's earlier datagram met a closed port; says nothing about this one
        self._counters.drop("send_buffer" if error.errno == 105 else "unreachable")

    def drain(self) -> bool:
        """Hand over what waits in the socket, in one call; True if more than one call's worth waited."""
        receive = self._listening.recvfrom
        admit = self._admission.admit
        counters = self._counters
        inbound: list[Inbound] = []
        taken = size = 0
        try:
            while taken < DRAIN_LIMIT:
                data, source = receive(65_536)
                taken += 1
                size += len(data)
                try:
                    found = admit(data, source)
                except Rejected as rejected:
                    counters.drop(rejected.reason)
                    continue
                if found.hop:
                    inbound.append(found)
                else:
                    self._reply(found)
        except BlockingIOError:
            pass
        except OSError:
            counters.drop("receive_error")
        counters.datagrams_in += taken
        counters.bytes_in += size
        if inbound:
            self._deliver(inbound)
        return taken == DRAIN_LIMIT

    def _reply(self, found: Inbound) -> None:
        """On the flow that it came by: no gossip is ever sent this way, so nothing but the answer can use that flow."""
        answer = self.answer(found)
        if answer is None:
            self._counters.drop("probe")
            return
        try:
            self._listening.sendto(answer, found.source)
        except OSError:
            self._counters.drop("probe")

    def close(self) -> None:
        """Stop receiving and sending."""
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        self._sending.close()

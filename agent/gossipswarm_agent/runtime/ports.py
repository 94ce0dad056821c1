"""Listening sockets: UDP and TCP on one port number, so that one address names an agent."""

from __future__ import annotations

import errno
import socket
from typing import Final, NamedTuple

from gossipswarm_agent.runtime.sockets import SO_RCVBUFFORCE, family_of, grow_buffer

_ATTEMPTS: Final = 64
"""An ephemeral TCP port whose UDP twin is taken is rare; this many in a row do not happen."""
_BACKLOG: Final = 512
_BUFFER_SHARE: Final = 32
_SMALLEST_LIMIT: Final = 1400


class PortInUse(OSError):
    """Somebody else listens on the address; the message names it."""


class GossipSockets(NamedTuple):
    """Both sockets of an agent, bound and not yet read from."""

    udp: socket.socket
    tcp: socket.socket
    port: int

    def largest_datagram(self, wanted: int) -> int:
        """``wanted``, or less where the kernel grants so small a buffer that a few of that size would fill it.

        Without privileges that is 208 KiB by default on Linux: three datagrams of what loopback could carry.
        """
        granted = self.udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return min(wanted, max(_SMALLEST_LIMIT, granted // _BUFFER_SHARE))

    def close(self) -> None:
        """Give the port back."""
        self.udp.close()
        self.tcp.close()


def bind_gossip(host: str, port: int = 0) -> GossipSockets:
    """Bind UDP and TCP of ``host`` (numeric) to ``port``, or to a free port if it is 0.

    Raises:
        PortInUse: the port is taken, for either of the two.
        OSError: the host is not an address of this machine, or the port is not ours to take.
    """
    for _ in range(_ATTEMPTS):
        tcp = _bind(socket.SOCK_STREAM, host, port)
        chosen: int = tcp.getsockname()[1]
        try:
            udp = _bind(socket.SOCK_DGRAM, host, chosen)
        except PortInUse:
            tcp.close()
            if port:
                raise
            continue
        except BaseException:
            tcp.close()
            raise
        tcp.listen(_BACKLOG)
        grow_buffer(udp, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        return GossipSockets(udp, tcp, chosen)
    raise PortInUse(errno.EADDRINUSE, f"no port of {host} is free for both UDP and TCP")


def bind_api(host: str, port: int = 0) -> socket.socket:
    """A listening TCP socket for the HTTP API; raises as ``bind_gossip``."""
    sock = _bind(socket.SOCK_STREAM, host, port)
    sock.listen(_BACKLOG)
    return sock


def _bind(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    sock = socket.socket(family_of(host), kind | socket.SOCK_NONBLOCK)
    try:
        if kind is socket.SOCK_STREAM:
            # Connections of a predecessor in TIME_WAIT must not keep its successor from starting.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        protocol = "TCP" if kind is socket.SOCK_STREAM else "UDP"
        where = f"{protocol} {host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(error.errno, f"{where} is in use by another process") from None
        raise OSError(error.errno, f"cannot bind {where}: {error.strerror}") from None
    return sock

"""What sockets of all kinds need: their family, and room in the kernel."""

from __future__ import annotations

import socket
from typing import Final

_BUFFER_WISH: Final = 64 << 20

# Linux numbers that the socket module does not name.
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33


def family_of(host: str) -> socket.AddressFamily:
    """Address family of a numeric host; names are resolved before they come here."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def grow_buffer(sock: socket.socket, forced: int, ordinary: int) -> None:
    """Take as large a kernel buffer as we may: beyond the system's limit if privileged, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_WISH)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, ordinary, _BUFFER_WISH)

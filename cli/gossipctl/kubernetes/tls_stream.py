"""TLS over a byte stream that is no socket, such as a port-forward."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from gossipswarm_client.http1 import Stream

CHUNK = 64 << 10
Result = TypeVar("Result")


class TlsStream:
    """The client's end of TLS over ``stream``, which is closed with it.

    Certificates are not checked: that this is the agent is the word of the API server, which is believed about the
    port-forward as it is about its proxy, and which checks no certificates of pods either.

    Raises:
        OSError: the handshake fails.
    """

    def __init__(self, stream: Stream, name: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream = stream
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=name)
        self._through(self._tls.do_handshake)

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound the calls that follow."""
        self._stream.settimeout(seconds)

    def close(self) -> None:
        """Give it up."""
        self._stream.close()

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._through(partial(self._tls.write, rest)) :]

    def recv(self, limit: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        try:
            return self._through(partial(self._tls.read, limit))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # said goodbye or not: whether an answer is whole is for HTTP to say

    def _through(self, step: Callable[[], Result]) -> Result:
        """Carry a step out, with as much sending and receiving as it takes."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._stream.recv(CHUNK)
                if data:
                    self._received.write(data)
                else:
                    self._received.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._to_send.pending:
            self._stream.sendall(self._to_send.read())

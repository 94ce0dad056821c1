"""As much HTTP/1.1 as a client of agents needs, over a blocking socket.

The standard library's client takes some 40 ms of CPU to import, for mail headers mostly, which is a third
of what one call of the CLI may cost.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple, Protocol, TypeAlias

from gossipswarm_client.errors import ProtocolError, TimedOut, Unreachable

MAX_HEAD_BYTES = 64 << 10
CHUNK = 64 << 10


class Endpoint(NamedTuple):
    """Where an agent listens."""

    host: str
    port: int
    tls: bool
    base: str
    """Prefix of every path, without a slash at its end."""

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def endpoint(url: str) -> Endpoint:
    """The endpoint of an ``http://`` or ``https://`` URL; a bare ``host:port`` is plain HTTP.

    Raises:
        ValueError: naming what is wrong.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    if scheme not in ("http", "https"):
        raise ValueError(f"{url!r}: the scheme is {scheme!r}; http or https was expected")
    authority, _, path = rest.partition("/")
    if authority.startswith("["):
        host, _, port_text = authority[1:].partition("]")
        port_text = port_text.removeprefix(":")
    else:
        host, _, port_text = authority.partition(":")
    if not host or "@" in authority or any(mark in rest for mark in "?# "):
        raise ValueError(f"{url!r} is not the URL of an agent; expected http://host:port")
    try:
        port = int(port_text) if port_text else {"http": 80, "https": 443}[scheme]
        if not 0 < port < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"{url!r}: {port_text!r} is not a port") from None
    base = f"/{path.rstrip('/')}" if path.rstrip("/") else ""
    return Endpoint(host, port, scheme == "https", base)


class Stream(Protocol):
    """What a connection needs of its socket. Times are seconds; failures are OSErrors."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def recv(self, limit: int, /) -> bytes:
        """Up to so many bytes; none at the end."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound the calls that follow."""

    def close(self) -> None:
        """Give it up."""


Headers: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""Of a request: a name with several values goes out once for each."""

Dial: TypeAlias = Callable[[Endpoint, float], Stream]
"""Connects to an endpoint within so many seconds, TLS included, or raises OSError."""


class Response(NamedTuple):
    """The head of an answer; its body is still to be read from the connection."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""


class Connection:
    """One connection, one request at a time. ``deadline`` (monotonic seconds) bounds every wait."""

    def __init__(
        self, where: Endpoint, ca_file: str | None = None, dial: Dial | None = None
    ) -> None:
        self._where = where
        self._ca_file = ca_file
        self._dial = dial or self._open
        self._socket: Stream | None = None
        self._buffer = b""
        self._left = 0
        self._framing = "none"
        self._keeps = True
        self.deadline = 0.0
        self.reused = False
        """The connection had answered a request before: if it breaks now, it had probably gone stale."""

    @property
    def is_open(self) -> bool:
        """A connection is there, as far as is known."""
        return self._socket is not None

    def close(self) -> None:
        """Give the connection up. The next request makes a new one."""
        found, self._socket = self._socket, None
        self._buffer = b""
        self._framing = "none"
        self.reused = False
        if found is not None:
            found.close()

    def send(self, method: str, target: str, headers: Headers, body: bytes | None) -> None:
        """Send a request whole, connecting if need be."""
        length = {"Content-Length": str(len(body))} if body is not None else {}
        self.write(self.head(method, target, {**headers, **length}) + (body or b""))

    def head(self, method: str, target: str, headers: Headers) -> bytes:
        """The head of a request. Raises ValueError for a header that would break out of its line."""
        lines = [f"{method} {self._where.base}{target} HTTP/1.1", f"Host: {self._where.authority}"]
        for name, values in headers.items():
            for value in (values,) if isinstance(values, str) else values:
                if "\r" in value or "\n" in value:
                    raise ValueError(f"the header {name} has a line break")
                lines.append(f"{name}: {value}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send bytes of a request."""
        if self._socket is None:
            self._connect()
        connected = self._waiting()
        try:
            connected.sendall(data)
        except TimeoutError:
            self.close()
            raise TimedOut(f"{self._where.authority} takes no more of the request") from None
        except OSError as error:
            self.close()
            raise Unreachable(f"{self._where.authority}: {error}") from None

    def _connect(self) -> None:
        where = self._where
        try:
            self._socket = self._dial(where, self._remaining())
        except TimeoutError:
            raise TimedOut(f"{where.authority} does not answer") from None
        except OSError as error:
            raise Unreachable(f"{where.authority}: {error.strerror or error}") from None

    def _open(self, where: Endpoint, seconds: float) -> Stream:
        made = socket.create_connection((where.host, where.port), seconds)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._encrypt(made) if where.tls else made

    def _encrypt(self, plain: socket.socket) -> Stream:
        import ssl  # noqa: PLC0415 - 17 ms that plain HTTP need not pay

        context = ssl.create_default_context(cafile=self._ca_file)
        try:
            return context.wrap_socket(plain, server_hostname=self._where.host)
        except OSError as error:
            plain.close()
            raise Unreachable(f"{self._where.authority}: no TLS: {error}") from None

    def receive(self, *, has_body: bool = True) -> Response:
        """The head of the answer. ``has_body`` False: to a HEAD request."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise self._nonsense("the head of its answer does not end")
            data = self._read()
            if not data:
                self.close()
                raise Unreachable(f"{self._where.authority} closed the connection")
            self._buffer += data
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdigit():
            raise self._nonsense("it does not speak HTTP/1.1")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        response = Response(int(status[:3]), headers)
        if response.status < 200:
            return self.receive(has_body=has_body)
        self._frame(response, has_body)
        return response

    def _frame(self, response: Response, has_body: bool) -> None:
        headers = response.headers
        if not has_body or response.status in (204, 304):
            self._framing = "none"
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._framing, self._left = "chunked", 0
        elif "content-length" in headers:
            if not headers["content-length"].isdigit():
                raise self._nonsense("the length of its answer is not a number")
            self._framing, self._left = "length", int(headers["content-length"])
        else:
            self._framing = "close"
        self._keeps = headers.get("connection", "").lower() != "close" and self._framing != "close"

    def body(self) -> bytes:
        """All of the body; the connection is then free for the next request."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Left half way, close the connection."""
        if self._framing == "chunked":
            yield from self._chunks()
        elif self._framing == "length":
            while self._left:
                data = self._take(self._left)
                self._left -= len(data)
                yield data
        elif self._framing == "close":
            while data := self._buffer or self._read():
                self._buffer = b""
                yield data
        self._framing = "none"
        self.reused = True
        if not self._keeps:
            self.close()

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size_text = self._line().partition(b";")[0].strip()
            try:
                left = int(size_text, 16)
            except ValueError:
                raise self._nonsense("its chunked answer is broken") from None
            if left == 0:
                while self._line():
                    pass
                return
            while left:
                data = self._take(left)
                left -= len(data)
                yield data
            self._line()

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise self._nonsense("its chunked answer is broken")
            self._buffer += self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _take(self, limit: int) -> bytes:
        data = self._buffer or self._more()
        self._buffer = data[limit:]
        return data[:limit]

    def _more(self) -> bytes:
        data = self._read()
        if not data:
            self.close()
            raise Unreachable(f"{self._where.authority} broke off its answer")
        return data

    def _read(self) -> bytes:
        connected = self._waiting()
        try:
            return connected.recv(CHUNK)
        except TimeoutError:
            self.close()
            raise TimedOut(f"{self._where.authority} did not answer in time") from None
        except OSError as error:
            self.close()
            raise Unreachable(f"{self._where.authority}: {error.strerror or error}") from None

    def _waiting(self) -> Stream:
        found = self._socket
        if found is None:
            raise Unreachable(f"the connection to {self._where.authority} is closed")
        found.settimeout(self._remaining())
        return found

    def _remaining(self) -> float:
        left = self.deadline - monotonic()
        if left <= 0:
            self.close()
            raise TimedOut(f"{self._where.authority} did not answer in time")
        return left

    def _nonsense(self, what: str) -> ProtocolError:
        self.close()
        return ProtocolError(f"{self._where.authority}: {what}; is there an agent?")

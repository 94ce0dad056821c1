"""A byte stream to a port of a pod, through the API server: what ``kubectl port-forward`` does.

Over a WebSocket (RFC 6455) with the subprotocol ``v4.channel.k8s.io``: every message begins with a byte that
names its channel, 0 for data and 1 for the error that ends it. The first message of each channel is the
port's number.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode

from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.resources import core
from gossipswarm_client.http1 import Endpoint, Stream

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
PIECE = 32 << 10
"""Bytes of one message; kubelets read them whole."""
CHUNK = 64 << 10
MAX_HEAD_BYTES = 64 << 10
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class Forwarding:
    """Makes connections to one port of one pod: a ``Dial``. ``tls``: what listens there speaks TLS."""

    def __init__(self, api: Api, namespace: str, pod: str, port: int, *, tls: bool = False) -> None:
        self._api = api
        self._pod = pod
        self._tls = tls
        self._path = f"{core('pods', namespace, pod)}/portforward?ports={port}"

    def __call__(self, where: Endpoint, seconds: float) -> Stream:
        """A stream to the port.

        Raises:
            Refusal: the API server does not let us.
            OSError: it does not answer, or the pod does not.
        """
        del where
        connection = self._api.connection()
        head = connection.head(
            "GET",
            self._path,
            {
                **self._api.headers(),
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Protocol": PROTOCOL,
            },
        )
        stream = self._api.open(seconds)
        try:
            stream.settimeout(seconds)
            stream.sendall(head)
            tunnel = Tunnel(stream, _upgraded(stream))
            return self._encrypted(tunnel) if self._tls else tunnel
        except BaseException:
            stream.close()
            raise

    def _encrypted(self, tunnel: Tunnel) -> Stream:
        from gossipctl.kubernetes.tls_stream import TlsStream

        return TlsStream(tunnel, self._pod)


def _upgraded(stream: Stream) -> bytes:
    """What came behind the head of an answer that agrees; raises Refusal for one that does not."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = stream.recv(CHUNK)
        if not piece or len(data) > MAX_HEAD_BYTES:
            raise ConnectionError("the API server broke off the port-forward")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    if status == b"101":
        return rest
    stream.settimeout(1.0)
    while b'"code"' not in rest and len(rest) < MAX_HEAD_BYTES:
        try:
            piece = stream.recv(CHUNK)
        except OSError:
            break
        if not piece:
            break
        rest += piece
    begin, end = rest.find(b"{"), rest.rfind(b"}")
    body = rest[begin : end + 1] if begin >= 0 else rest
    raise Refusal.of(int(status) if status.isdigit() else 0, body)


class Tunnel:
    """The data channel of a port-forward as a socket."""

    def __init__(self, stream: Stream, received: bytes) -> None:
        self._stream = stream
        self._raw = received
        self._data = b""
        self._greeted: set[int] = set()
        self._ended = False

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound the calls that follow."""
        self._stream.settimeout(seconds)

    def close(self) -> None:
        """Give it up."""
        self._stream.close()

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._stream.sendall(frame(_BINARY, bytes((DATA,)) + piece))

    def recv(self, limit: int, /) -> bytes:
        """Up to so many bytes; none at the end. Raises ConnectionError if the pod cannot be reached."""
        while not self._data and not self._ended:
            self._take_frame()
        data, self._data = self._data[:limit], self._data[limit:]
        return data

    def _take_frame(self) -> None:
        opcode, payload = self._frame()
        if opcode == _CLOSE:
            self._ended = True
        elif opcode == _PING:
            self._stream.sendall(frame(_PONG, payload))
        elif payload and opcode in (0, 1, _BINARY):
            channel, content = payload[0], payload[1:]
            if channel not in self._greeted:
                self._greeted.add(channel)
                content = content[2:]
            if channel == DATA:
                self._data += content
            elif content:
                raise ConnectionError(_complaint(content))

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        mask = self._exactly(4) if second & 0x80 else b""
        payload = self._exactly(length)
        return first & 0x0F, _masked(payload, mask) if mask else payload

    def _exactly(self, number: int) -> bytes:
        while len(self._raw) < number:
            piece = self._stream.recv(CHUNK)
            if not piece:
                raise ConnectionError("the API server ended the port-forward")
            self._raw += piece
        found, self._raw = self._raw[:number], self._raw[number:]
        return found


def frame(opcode: int, payload: bytes) -> bytes:
    """One message to the server, masked as a client must."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 1 << 16:
        length = bytes((0x80 | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((0x80 | 127,)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    return bytes((0x80 | opcode,)) + length + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _complaint(content: bytes) -> str:
    text = content.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text

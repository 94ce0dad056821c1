"""TLS through what is no socket."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossipctl.kubernetes.tls_stream import TlsStream
from kube_certificates import Authority


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[socket.socket]:
    """A stream to an end that speaks TLS, sends back the first 300,000 bytes and closes."""
    authority = Authority(tmp_path)
    authority.server("agent", ["127.0.0.1"], ["agent"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.pair("agent"))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True) as peer:
            left = 300_000
            while left:
                data = peer.recv(65_536)
                peer.sendall(data)
                left -= len(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ours.settimeout(20)
    yield ours
    ours.close()
    thread.join(20)


def test_bytes_pass_both_ways_until_the_end(echo):
    stream = TlsStream(echo, "agent")
    sent = bytes(range(256)) * 1172
    received = b""
    for start in range(0, 300_000, 100_000):
        piece = sent[start : start + 100_000]
        stream.sendall(piece)
        got = b""
        while len(got) < len(piece):
            got += stream.recv(1 << 20)
        received += got
    assert received == sent[:300_000]
    assert stream.recv(1) == b""


def test_who_does_not_speak_tls_is_an_error_of_the_connection():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(OSError, match=r"(?i)ssl"):
        TlsStream(ours, "agent")
    ours.close()
    theirs.close()

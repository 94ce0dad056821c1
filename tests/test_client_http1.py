"""The blocking client against servers that answer strangely, late or never."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gossipswarm_client import (
    AgentFault,
    Client,
    Degraded,
    ProtocolError,
    Throttled,
    TimedOut,
    Unavailable,
    Unreachable,
)
from gossipswarm_client.http1 import endpoint

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
VALUE = b'{"key":"a","value":1}'


class Scripted:
    """A server that sends a prepared answer to each request; None closes the connection instead."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.closes = False
        """Close each connection after its first answer."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while request := connection.recv(65536):
                self.requests.append(request)
                answer = self.answers.pop(0) if self.answers else b""
                if answer is None:
                    break
                connection.sendall(answer)
                if self.closes:
                    break
        except OSError:
            pass
        finally:
            connection.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            connection.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    found = Scripted()
    yield found
    found.close()


def _with_length(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _problem(status: int, reason: str, **more: object) -> bytes:
    body = json.dumps({"status": status, "reason": reason, "detail": "why", **more}).encode()
    head = b"HTTP/1.1 %d Nope\r\nContent-Type: application/problem+json\r\n" % status
    return _with_length(body, head)


@pytest.mark.parametrize(
    "answer",
    [
        _with_length(VALUE),
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
        + VALUE[:5]
        + b"\r\n10;x=y\r\n"
        + VALUE[5:]
        + b"\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + _with_length(VALUE),
        b"HTTP/1.0 200 OK\r\ncontent-length:21\r\n\r\n" + VALUE,
    ],
    ids=["length", "chunked", "interim", "http/1.0"],
)
def test_every_framing_is_understood(server, answer):
    server.answers = [answer]
    with Client(server.url, retries=0, timeout=60) as client:
        assert client.get("a").value == 1


def test_an_answer_without_a_length_ends_with_the_connection(server):
    server.answers = [OK + b"Connection: close\r\n\r\n" + VALUE]
    server.closes = True
    with Client(server.url, retries=0, timeout=60) as client:
        assert client.get("a").value == 1


def test_one_connection_serves_many_calls(server):
    server.answers = [_with_length(VALUE)] * 3
    with Client(server.url) as client:
        for _ in range(3):
            client.get("a")

    assert len(server._connections) == 1
    assert server.requests[0].startswith(b"GET /v1/state/a HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ProtocolError, "HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", ProtocolError, "HTTP"),
        (OK + b"Content-Length: ten\r\n\r\n", ProtocolError, "length"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", ProtocolError, "chunked"),
        (_with_length(b"<html>"), ProtocolError, "JSON"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, ProtocolError, "head"),
        (_with_length(b"<html>sorry</html>", b"HTTP/1.1 502 Bad\r\n"), AgentFault, "sorry"),
        (_problem(500, "internal-error"), AgentFault, "why"),
        (None, Unreachable, "closed"),
        (OK + b"Content-Length: 100\r\n\r\nhalf", TimedOut, "in time"),
    ],
    ids=["ssh", "status", "length", "chunk", "json", "head", "proxy", "fault", "closed", "half"],
)
def test_a_strange_answer_is_an_error_that_says_so(server, answer, kind, says):
    server.answers = [answer]
    limit = 0.5 if kind is TimedOut else 60
    with Client(server.url, retries=0, timeout=limit) as client, pytest.raises(kind, match=says):
        client.get("a")


def test_after_a_strange_answer_the_next_call_starts_afresh(server):
    server.answers = [b"nonsense\r\n\r\n", _with_length(VALUE)]
    with Client(server.url, retries=0) as client:
        with pytest.raises(ProtocolError):
            client.get("a")

        assert client.get("a").value == 1


def test_a_call_takes_no_longer_than_it_may(server):
    server.answers = [b"HTTP/1.1 200 OK\r\n"]
    started = time.monotonic()
    with Client(server.url, timeout=60) as client, pytest.raises(TimedOut):
        client.get("a", timeout=0.3)
    assert time.monotonic() - started < 30


def test_a_trickle_does_not_outwit_the_time_limit(server):
    server.answers = [b"HTTP/1.1 200 OK\r\n"]

    def trickle() -> None:
        for _ in range(1200):  # a minute
            time.sleep(0.05)
            try:
                server._connections[0].sendall(b"X: y\r\n")
            except (OSError, IndexError):
                return

    threading.Thread(target=trickle, daemon=True).start()
    started = time.monotonic()
    with Client(server.url, timeout=0.4) as client, pytest.raises(TimedOut):
        client.get("a")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Unavailable)])
def test_what_may_be_tried_again_is(server, status, kind):
    busy = _problem(status, "busy", retry_after_ms=10)
    server.answers = [busy, busy, _with_length(VALUE)]
    with Client(server.url, retries=2) as client:
        assert client.get("a").value == 1

    server.answers = [busy, busy]
    with Client(server.url, retries=1) as client, pytest.raises(kind):
        client.get("a")


def test_retries_stay_within_the_time_limit(server):
    server.answers = [_problem(503, "busy", retry_after_ms=600_000)]
    started = time.monotonic()
    with Client(server.url, retries=5, timeout=60) as client, pytest.raises(Unavailable):
        client.get("a")
    assert time.monotonic() - started < 60


def test_degraded_mode_is_not_waited_out(server):
    server.answers = [_problem(503, "degraded", retry_after_ms=10)]
    with Client(server.url, retries=5) as client, pytest.raises(Degraded):
        client.set("a", 1)

    assert len(server.requests) == 1


def test_a_write_that_is_sent_again_carries_the_same_request_id(server):
    server.answers = [None, _with_length(b'{"key":"a","dot":"x/1:1"}')]
    with Client(server.url, retries=1) as client:
        client.set("a", 1)

    ids = [
        line
        for request in server.requests
        for line in request.split(b"\r\n")
        if line.startswith(b"X-Request-Id: ")
    ]
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_what_must_not_happen_twice_is_not_sent_twice(server):
    server.answers = [None]
    with Client(server.url, retries=3) as client, pytest.raises(Unreachable):
        client.request("POST", "/v1/admin/release", body={})

    assert len(server.requests) == 1


def test_headers_cannot_be_broken_out_of(server):
    with Client(server.url) as client, pytest.raises(ValueError, match="line break"):
        client.set("a", 1, request_id="x\r\nEvil: yes")

    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:1234", ("host", 1234, False, "")),
        ("host:1234", ("host", 1234, False, "")),
        ("https://host", ("host", 443, True, "")),
        ("http://host/", ("host", 80, False, "")),
        ("http://[::1]:99", ("::1", 99, False, "")),
        ("http://h:1/proxy/agent/", ("h", 1, False, "/proxy/agent")),
    ],
)
def test_urls_are_taken_apart(url, expected):
    assert tuple(endpoint(url)) == expected

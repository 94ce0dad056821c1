"""Carries calls out over blocking sockets: time limits, retries, batches and watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic, sleep
from typing import Any, TypeVar

from gossipswarm_client import calls, results
from gossipswarm_client.calls import Call, Line
from gossipswarm_client.errors import (
    ApiError,
    GossipSwarmError,
    ProtocolError,
    Throttled,
    TimedOut,
    Unavailable,
    Unreachable,
    from_problem,
)
from gossipswarm_client.events import EventParser, change_of
from gossipswarm_client.http1 import Connection, Dial, Headers, Response, endpoint
from gossipswarm_client.waiting import (
    SILENCE_SECONDS,
    Backoff,
    group_lines,
    is_worth_retrying,
)

T = TypeVar("T")

GROUPS_IN_FLIGHT = 8


class Exchange:
    """Everything that goes to one agent and comes back. Times are seconds."""

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        retries: int,
        ca_file: str | None,
        headers: Headers | None = None,
        dial: Dial | None = None,
    ) -> None:
        self.timeout = timeout
        self._retries = retries
        self._where = endpoint(url)
        self._ca_file = ca_file
        self._dial = dial
        self._headers: dict[str, str | tuple[str, ...]] = {
            "Accept": "application/json",
            **(headers or {}),
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection = self._connect()

    def _connect(self) -> Connection:
        """A connection of its own; nothing is sent yet."""
        return Connection(self._where, self._ca_file, self._dial)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # --- single calls -----------------------------------------------------------------------------

    def run(self, call: Call[T], timeout: float | None = None, retries: int | None = None) -> T:
        """The result of a call. ``timeout`` and ``retries`` None: the call's own, else the client's."""
        return call.result(calls.decode(self.fetch(call, timeout, retries)))

    def fetch(
        self, call: Call[Any], timeout: float | None = None, retries: int | None = None
    ) -> bytes:
        """The body that answers a call."""
        wanted = timeout if timeout is not None else call.timeout
        ends = monotonic() + (self.timeout if wanted is None else wanted)
        left = self._retries if retries is None else retries
        backoff = Backoff()
        while True:
            stale = self._connection.reused
            try:
                response, body = self._send(call, ends)
            except TimedOut:
                raise
            except Unreachable:
                # A connection that idled for long may have been closed meanwhile: that costs no retry.
                if not call.safe or (left <= 0 and not stale):
                    raise
                left -= 0 if stale else 1
                pause = 0.0 if stale else backoff.next()
                if monotonic() + pause >= ends:
                    raise
            else:
                if response.status < 300:
                    return body
                refusal = _refusal(response, body)
                pause = max(backoff.next(), refusal.retry_after or 0.0)
                if left <= 0 or not is_worth_retrying(refusal) or monotonic() + pause >= ends:
                    raise refusal
                left -= 1
            sleep(pause)

    def _send(self, call: Call[Any], ends: float) -> tuple[Response, bytes]:
        connection = self._connection
        connection.deadline = ends
        headers = {**self._headers, **call.headers}
        if call.body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.send(call.method, call.target, headers, call.body)
            response = connection.receive(has_body=call.method != "HEAD")
            return response, connection.body()
        except GossipSwarmError:
            connection.close()
            raise

    # --- streams ----------------------------------------------------------------------------------

    def batch(
        self, lines: Iterable[Line | Mapping[str, Any]], patience: float
    ) -> Iterator[results.Ack]:
        """Send lines and yield their acknowledgements; ``patience`` bounds the wait for any one."""
        connection = self._connect()
        connection.deadline = monotonic() + patience
        headers = {
            **self._headers,
            "Content-Type": "application/x-ndjson",
            "Transfer-Encoding": "chunked",
        }
        try:
            connection.write(connection.head("POST", "/v1/batch", headers))
            yield from _pump(connection, group_lines(lines), patience)
        finally:
            connection.close()

    def watch(
        self, prefix: str, since: str | None, timeout: float | None
    ) -> Iterator[results.Change | results.Reset]:
        """Changes for as long as they are taken; a stream that breaks is made again and resumed."""
        ends = monotonic() + timeout if timeout is not None else float("inf")
        backoff = Backoff()
        parser = EventParser()
        parser.last_id = since or ""
        was_there = False
        while True:
            connection = self._connect()
            pause = 0.0
            try:
                self._begin_watch(connection, prefix, parser.last_id, ends)
                was_there = True
                for change in _changes(connection, parser, ends):
                    backoff.reset()
                    yield change
            except (Unreachable, Unavailable, Throttled) as error:
                if not was_there:
                    raise
                pause = max(backoff.next(), getattr(error, "retry_after", None) or 0.0)
            finally:
                connection.close()
            if monotonic() + pause >= ends:
                raise TimedOut(f"nothing more changed within {timeout:g} s")
            sleep(pause)
            parser.reconnect()

    def _begin_watch(self, connection: Connection, prefix: str, last_id: str, ends: float) -> None:
        headers = {**self._headers, "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        connection.deadline = min(ends, monotonic() + self.timeout)
        where = calls.state_target(prefix, watch=True)
        connection.send("GET", where, headers, None)
        response = connection.receive()
        if response.status != 200:
            raise _refusal(response, connection.body())


def _changes(
    connection: Connection, parser: EventParser, ends: float
) -> Iterator[results.Change | results.Reset]:
    connection.deadline = min(ends, monotonic() + SILENCE_SECONDS)
    for piece in connection.pieces():
        for event in parser.feed(piece):
            change = change_of(event)
            if change is not None:
                yield change
        connection.deadline = min(ends, monotonic() + SILENCE_SECONDS)
    raise Unreachable("the agent ended the watch")


def _pump(
    connection: Connection, groups: Iterator[tuple[int, bytes]], patience: float
) -> Iterator[results.Ack]:
    unanswered: deque[int] = deque()
    answers: Iterator[results.Ack] | None = None
    more = True
    while more or unanswered:
        while more and len(unanswered) < GROUPS_IN_FLIGHT:
            group = next(groups, None)
            connection.deadline = monotonic() + patience
            if group is None:
                connection.write(b"0\r\n\r\n")
                more = False
                break
            count, data = group
            connection.write(b"%x\r\n%b\r\n" % (len(data), data))
            unanswered.append(count)
        if not unanswered:
            break
        if answers is None:
            answers = _acks(connection, connection.receive())
        for _ in range(unanswered.popleft()):
            connection.deadline = monotonic() + patience
            ack = next(answers, None)
            if ack is None:
                raise Unreachable("the agent ended the batch before acknowledging every line")
            yield ack
    if answers is None:
        response = connection.receive()
        if response.status != 200:
            raise _refusal(response, connection.body())


def _acks(connection: Connection, response: Response) -> Iterator[results.Ack]:
    if response.status != 200:
        raise _refusal(response, connection.body())
    rest = b""
    for piece in connection.pieces():
        *complete, rest = (rest + piece).split(b"\n")
        for line in complete:
            yield results.Ack(calls.decode_object(line))
    if rest.strip():
        raise ProtocolError("the agent broke off an acknowledgement")


def _refusal(response: Response, body: bytes) -> ApiError:
    media = response.headers.get("content-type", "")
    return from_problem(response.status, calls.problem_of(body, media))

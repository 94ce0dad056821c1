"""Server-Sent Events, fed piece by piece (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gossipswarm_client.calls import decode_object
from gossipswarm_client.errors import ProtocolError
from gossipswarm_client.results import Change, Reset

MAX_EVENT_BYTES = 4 << 20
"""Longest line: beyond it the stream is not one of ours."""


class Event(NamedTuple):
    """One event as it was sent."""

    name: str
    id: str
    data: str


class EventParser:
    """Bytes in, events out; half events wait for the rest."""

    def __init__(self) -> None:
        self.last_id = ""
        """The id to resume from: of the last event that came whole."""
        self._id: str | None = None
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def reconnect(self) -> None:
        """Forget half an event; what comes next is a new stream."""
        self._rest = b""
        self._id, self._name, self._data = None, "", []

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events that ``data`` completes. Raises ProtocolError for an endless line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ProtocolError(f"a line of the event stream has over {MAX_EVENT_BYTES} bytes")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if line:
                self._field(line)
                continue
            if self._id is not None:
                self.last_id = self._id
            name, lines_of_data = self._name or "message", self._data
            self._id, self._name, self._data = None, "", []
            if lines_of_data:
                yield Event(name, self.last_id, "\n".join(lines_of_data))

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id":
            self._id = value


def change_of(event: Event) -> Change | Reset | None:
    """What an event of a watch says; None for one that this client need not know."""
    if event.name == "change":
        return Change({"id": event.id, **decode_object(event.data.encode())})
    if event.name == "reset":
        return Reset({"id": event.id})
    return None

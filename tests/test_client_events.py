"""Server-Sent Events, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_client import Change, ProtocolError, Reset
from gossipswarm_client.events import Event, EventParser, change_of

STREAM = (
    b"retry: 1000\n: alive\nid: s-1\n\n"
    b'id: s-2\nevent: change\ndata: {"key":"\xc3\xa4","value":1}\n\n'
    b": alive\nid: s-5\n\n"
    b"event: reset\r\nid: s-reset\r\ndata: {}\r\n\r\n"
    b"data: one\ndata:two\nunknown: field\nnothing\n\n"
    b"event: dropped\ndata: {}\n\n"
)
EVENTS = [
    Event("change", "s-2", '{"key":"ä","value":1}'),
    Event("reset", "s-reset", "{}"),
    Event("message", "s-reset", "one\ntwo"),
    Event("dropped", "s-reset", "{}"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_do_not_depend_on_how_they_arrive(cuts):
    parser = EventParser()
    places = [0, *sorted(cuts), len(STREAM)]

    found = [event for start, end in pairwise(places) for event in parser.feed(STREAM[start:end])]

    assert found == EVENTS


def test_comments_move_the_place_to_resume_from():
    parser = EventParser()

    assert list(parser.feed(b": alive\nid: s-7\n\n")) == []
    assert parser.last_id == "s-7"


def test_half_an_event_is_forgotten_with_its_connection():
    parser = EventParser()
    assert list(parser.feed(b"id: s-1\n\nid: s-2\nevent: change\ndata: {")) == []

    parser.reconnect()

    assert parser.last_id == "s-1"
    assert list(parser.feed(b"data: 1\n\n")) == [Event("message", "s-1", "1")]


def test_an_endless_line_is_refused():
    with pytest.raises(ProtocolError, match="bytes"):
        list(EventParser().feed(b"x" * (5 << 20)))


def test_events_are_told_apart():
    change, reset, *others = map(change_of, EVENTS)

    assert isinstance(change, Change)
    assert (change.id, change.key, change.value) == ("s-2", "ä", 1)
    assert reset == Reset({"id": "s-reset"})
    assert others == [None, None]

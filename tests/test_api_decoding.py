"""Whatever comes in is a value or a problem, never a fault."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.api.call import decode_document, decode_value, parse_parameters
from gossipswarm_agent.api.problems import Problem, suggestion
from gossipswarm_agent.api.times import milliseconds, timestamp
from gossipswarm_agent.api.types import BatchLine, PutParameters, ReadParameters

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
DAMAGE = st.sampled_from([b"", b",", b"}", b'"', b"\x00", b"\xff", b"NaN", b"[", b"1e999", b"\\"])


@given(VALUES, st.data())
def test_damaged_json_is_a_problem_that_points_into_it(value, data):
    body = json.dumps(value).encode()
    at = data.draw(st.integers(0, len(body)))
    until = data.draw(st.integers(at, len(body)))
    damaged = body[:at] + data.draw(DAMAGE) + body[until:]

    try:
        decode_value(damaged)
    except Problem as problem:
        assert problem.status in (400, 422)
        assert msgspec.json.encode(problem.document())
        if problem.reason == "malformed-json" and damaged.strip():
            assert 0 <= problem.extensions["position"] <= len(damaged)
            lines = damaged.split(b"\n")
            assert 1 <= problem.extensions["line"] <= len(lines)
            assert problem.extensions["column"] >= 1


@given(st.binary())
def test_any_bytes_are_a_line_of_a_batch_or_a_problem(body):
    try:
        decode_document(body, msgspec.json.Decoder(BatchLine))
    except Problem as problem:
        assert problem.status in (400, 422)


@given(st.text())
@pytest.mark.parametrize("kind", [ReadParameters, PutParameters])
def test_any_query_is_understood_or_a_problem(kind, query):
    try:
        parse_parameters(query, kind)
    except Problem as problem:
        assert problem.status == 400


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=5))
def test_a_suggestion_is_one_of_the_known_words(word, known):
    assert suggestion(word, known) in [None, *known]


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250", 250), ("250ms", 250), ("1.5s", 1500), ("5m", 300_000), ("1h", 3_600_000), ("0", 0)],
)
def test_durations_are_milliseconds_unless_they_say_otherwise(text, ms):
    assert parse_parameters(f"timeout={text}", PutParameters).timeout == text
    assert milliseconds(text) == ms


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_762_081_260_700, "2025-11-02T11:01:00.700Z"),
        (1 << 60, "9999-12-31T23:59:59.976Z"),
    ],
)
def test_timestamps_are_utc_with_milliseconds(ms, text):
    assert timestamp(ms) == text

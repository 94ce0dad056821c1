"""Conditions: all there from the start, times that mean something, and transitions that are worth an event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gossipswarm_operator import conditions
from gossipswarm_operator.conditions import false, merge, true

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
TYPES = ("Ready", "Converged")


def stored(*wanted, before=None, now=NOON):
    return merge(TYPES, before, wanted, generation=2, now=now)


def test_every_type_is_there_on_first_sight():
    assert [(c["type"], c["status"]) for c in stored()] == [
        ("Ready", "Unknown"),
        ("Converged", "Unknown"),
    ]


def test_the_time_moves_with_the_status_and_with_nothing_else():
    before = stored(true("Ready", "A", "x"))
    same = stored(true("Ready", "B", "y"), before=before, now=LATER)
    assert same[0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    other = stored(false("Ready", "B"), before=before, now=LATER)
    assert other[0]["lastTransitionTime"] == "2026-01-01T13:00:00Z"


def test_equal_input_gives_equal_output():
    before = stored(true("Ready", "A", "x"))
    assert stored(true("Ready", "A", "x"), before=before, now=LATER) == before


def test_a_type_of_no_use_is_refused():
    with pytest.raises(ValueError, match="Reddy"):
        stored(true("Reddy", "A"))


def test_types_that_are_not_known_any_more_go():
    before = [*stored(), {"type": "Gone", "status": "True", "reason": "A"}]
    assert [c["type"] for c in stored(before=before)] == list(TYPES)


def test_a_message_is_cut_to_what_anybody_reads():
    assert len(stored(true("Ready", "A", "x" * 5000))[0]["message"]) == 1024


def test_transitions_are_changes_of_status_or_reason():
    before = stored(true("Ready", "A", "x"), true("Converged", "A"))
    after = stored(true("Ready", "A", "y"), false("Converged", "B"), before=before)
    (found,) = conditions.transitions(before, after)
    assert (found.before, found.now.type, found.now.status) == ("True", "Converged", "False")


def test_what_was_never_seen_is_no_transition_until_something_is_known():
    first = stored()
    assert conditions.transitions(None, first) == []
    assert len(conditions.transitions(first, stored(true("Ready", "A"), before=first))) == 1

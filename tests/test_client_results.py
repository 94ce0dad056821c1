"""What calls return and raise, as objects."""

from __future__ import annotations

import copy
import pickle

import pytest

from gossipswarm_client import Degraded, NotFound, Value, Written
from gossipswarm_client.calls import duration, quote, target
from gossipswarm_client.errors import ApiError, from_problem


def test_members_of_a_result_are_attributes():
    value = Value({"key": "a", "value": {"b": 1}, "new": "from a newer agent"})

    assert value.key == "a"
    assert value.value == {"b": 1}
    assert value.new == "from a newer agent"
    assert value.raw["new"] == "from a newer agent"
    with pytest.raises(AttributeError, match="Value has no 'version'"):
        _ = value.version


def test_results_do_not_change():
    value = Value({"key": "a"})

    with pytest.raises(AttributeError, match="immutable"):
        value.key = "b"
    assert value == Value({"key": "a"})
    assert value != Written({"key": "a"})
    assert repr(value) == "Value(key='a')"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_results_and_errors_can_be_copied_and_sent_elsewhere(copied):
    value = Value({"key": "a", "value": [1]})
    error = NotFound(404, {"reason": "not-found", "detail": "nothing there"})

    assert copied(value) == value
    again = copied(error)
    assert (type(again), again.status, again.reason, str(again)) == (
        NotFound,
        404,
        "not-found",
        "nothing there",
    )


def test_an_error_is_found_by_status_and_reason():
    assert isinstance(from_problem(404, {}), NotFound)
    assert isinstance(from_problem(503, {"reason": "degraded"}), Degraded)
    assert type(from_problem(418, {"title": "Teapot"})) is ApiError
    assert str(from_problem(418, {"title": "Teapot"})) == "Teapot"
    assert from_problem(429, {"retry_after_ms": 1500}).retry_after == 1.5
    assert from_problem(404, {"suggestions": "none"}).suggestions == []


def test_urls_are_put_together():
    assert quote("a b/ä%") == "a%20b%2F%C3%A4%25"
    assert target("/v1/x") == "/v1/x"
    assert target("/v1/x", a=None, b=False, c=True, d="é", e=0.95, f=3) == (
        "/v1/x?c&d=%C3%A9&e=0.95&f=3"
    )
    assert duration(0.0001) == "1ms"
    assert duration(2.5) == "2500ms"

"""Concurrent writes: who wins under which policy, and what the history says of the loser."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core.batch import NIL
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.history import History, identity
from gossipswarm_agent.core.messages import Loss
from gossipswarm_agent.core.resolution import Policies, union
from gossipswarm_agent.core.settings import Settings
from gossipswarm_agent.core.state import State
from state_swarm import (
    START_MS,
    at,
    exchange,
    facts,
    mutate,
    new_state,
    put,
    share_losses,
)


def concurrent(*values: Any, key: str = "k", **settings: Any) -> State:
    """A state in which each of these values was written without knowledge of the others, in this order."""
    observer = new_state(wall=START_MS + 1000, **settings)
    for number, value in enumerate(values):
        writer = new_state(f"w{number}", START_MS + number, **settings)
        if value is DELETED:
            first = new_state("first", START_MS - 100)
            writer.apply(put(first, key, "to be deleted"))
            observer.apply(mutate(writer, Mutation("delete", key)))
        else:
            observer.apply(put(writer, key, value))
    return observer


DELETED = object()


@pytest.mark.parametrize(
    ("policy", "values", "winner"),
    [
        ("vector-clock", (9, 1), 1),
        ("last-write-wins", (9, 1), 1),
        ("max", (9, 1), 9),
        ("max", (1.5, 1), 1.5),
        ("max", ("a", "b", "aa"), "b"),
        ("max", (1, "zzz", [], None), 1),
        ("max", (5, DELETED), 5),
        ("max", (True, "text"), "text"),
        ("max", ([1], [2]), [2]),
        ("min", (1, 9), 1),
        ("min", (1, "0"), 1),
        ("min", (3, DELETED), 3),
        ("union", ([3, "b", 1], [1, "a"]), [1, 3, "a", "b"]),
        ("union", ([1], 5), [1]),
        ("union", ([1], DELETED), [1]),
        ("union", (4, 5), 5),
        ("manual", (9, 1), 1),
    ],
)
def test_the_policy_decides_between_concurrent_writes(
    policy: str, values: tuple[Any, ...], winner: Any
) -> None:
    state = concurrent(*values, conflict_resolution=policy)
    reading = state.read("k")
    assert reading is not None
    assert reading.value == winner
    assert reading.conflict is (policy != "last-write-wins")


def test_manual_shows_the_earliest_write_until_somebody_decides_when_healing_merges() -> None:
    settings = {"conflict_resolution": "manual", "healing_strategy": "merge"}
    state = concurrent("earlier", "later", **settings)
    assert state.read("k").value == "earlier"  # type: ignore[union-attr]
    put(state, "k", "decided")
    reading = state.read("k")
    assert reading is not None
    assert (reading.value, reading.conflict) == ("decided", False)
    assert state.conflicts()[0] == []
    assert len(state.conflicts()[1]) == 1


@pytest.mark.parametrize("later", [0, 5])
def test_with_equal_clocks_the_origin_decides(later: int) -> None:
    one, two = new_state("one"), new_state("two")
    first, second = put(one, "k", 1), put(two, "k", 2)
    one.apply(second)
    two.apply(first)
    assert one.read("k") == two.read("k")
    assert one.read("k").origin == "two"  # type: ignore[union-attr]


def test_a_deletion_that_is_later_wins_over_a_concurrent_write() -> None:
    state = concurrent("kept", DELETED)
    assert state.read("k") is None
    assert state.change("k").deleted
    (open_,), _ = state.conflicts()
    assert (open_.winning_deleted, open_.deleted) == (True, False)
    assert state.leaf_count == 0
    assert state.tombstone_count == 1


def test_the_longest_prefix_has_its_own_policy() -> None:
    prefixes = {"stats": "max", "stats.low": "min", "stats.low.names": "union"}
    policies = Policies(Settings(conflict_resolution_prefixes=prefixes))  # type: ignore[arg-type]
    assert [policies.of(key) for key in ("stats", "stats.high", "statsx", "stats.low.a", "other")] == [
        "max", "max", "vector-clock", "min", "vector-clock",
    ]  # fmt: skip
    assert policies.of("stats.low.names.x") == "union"
    assert (
        concurrent(9, 1, key="stats.n", conflict_resolution_prefixes=prefixes).read("stats.n").value
        == 9
    )  # type: ignore[union-attr]


def test_a_change_of_the_settings_takes_effect_on_what_is_there() -> None:
    state = concurrent(9, 1)
    before = state.state_hash
    assert state.read("k").value == 1  # type: ignore[union-attr]
    state._ctx.settings = msgspec.structs.replace(state._ctx.settings, conflict_resolution="max")
    assert state.read("k").value == 9  # type: ignore[union-attr]
    assert state.state_hash == before


@given(
    st.permutations(range(4)), st.sampled_from(["vector-clock", "max", "min", "union", "manual"])
)
def test_no_policy_depends_on_the_order_of_arrival(order: list[int], policy: str) -> None:
    writers = [new_state(f"w{number}", START_MS + number % 2) for number in range(4)]
    batches = [put(w, "k", v) for w, v in zip(writers, [[2, 1], 7, "x", [1, 3]], strict=True)]
    state = new_state(wall=START_MS + 1000, conflict_resolution=policy)
    reference = new_state(wall=START_MS + 1000, conflict_resolution=policy)
    for index in order:
        state.apply(batches[index])
    for batch in batches:
        reference.apply(batch)
    share_losses(state, reference)
    assert facts(state) == facts(reference)
    assert state.conflicts() == reference.conflicts()


def test_the_loser_is_recorded_once_with_what_beat_it() -> None:
    one, two = new_state("us-east-1"), new_state("us-west-1", START_MS + 5000)
    start = put(one, "app", {"ttl": 3600})
    two.apply(start)
    east, west = put(one, "app.ttl", 7200), put(two, "app.ttl", 1800)
    at(one, START_MS + 9000)
    (loss,) = one.apply(west).losses
    assert two.apply(east).losses == [loss]
    assert one.conflicts() == two.conflicts() == ([loss], [loss])
    assert msgspec.msgpack.decode(loss.winning_value) == 1800
    assert msgspec.msgpack.decode(loss.value) == 7200
    assert (loss.origin, loss.winning_origin) == ("us-east-1/1", "us-west-1/1")
    assert loss.resolution == "last-write-wins"
    assert one.losses_hash == two.losses_hash
    assert one.read("app").conflict  # type: ignore[union-attr]


def test_a_later_winner_replaces_the_one_on_record() -> None:
    writers = [new_state(f"w{number}", START_MS + number) for number in range(3)]
    batches = [put(writer, "k", number) for number, writer in enumerate(writers)]
    state = new_state(wall=START_MS + 100)
    recorded = [state.apply(batch).losses for batch in batches]
    assert [len(losses) for losses in recorded] == [0, 1, 2]
    assert {loss.winning_origin for loss in state.conflicts()[1]} == {"w2/1"}


def test_a_write_that_saw_the_conflict_settles_it_everywhere() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    first, second = put(one, "k", 1), put(two, "k", 2)
    one.apply(second)
    two.apply(first)
    settled = put(one, "k", 3)
    two.apply(settled)
    for state in (one, two):
        reading = state.read("k")
        assert reading is not None
        assert (reading.value, reading.conflict, reading.version) == (3, False, 2)
        assert state.conflicts()[0] == []
        assert len(state.conflicts()[1]) == 1


@pytest.mark.parametrize("object_is_later", [True, False])
def test_a_value_and_an_object_at_one_path_have_a_deterministic_winner(
    object_is_later: bool,
) -> None:
    one, two = new_state("one", START_MS + 5 * object_is_later), new_state("two", START_MS + 3)
    below, scalar = put(one, "app.db", {"host": "h", "port": 1}), put(two, "app.db", "none")
    applied = one.apply(scalar)
    two.apply(below)
    expected = {"host": "h", "port": 1} if object_is_later else "none"
    for state in (one, two):
        assert state.read("app").value == {"db": expected}  # type: ignore[union-attr]
        assert state.read("app").conflict  # type: ignore[union-attr]
        assert state.read("app.db").value == expected  # type: ignore[union-attr]
        assert (state.read("app.db.host") is None) is not object_is_later
        assert {loss.key for loss in state.conflicts()[0]} == (
            {"app.db"} if object_is_later else {"app.db.host", "app.db.port"}
        )
    assert facts(one) == facts(two)
    assert set(applied.changed) == {"app.db", "app.db.host", "app.db.port"}
    for key in applied.changed:
        assert one.change(key).deleted is ((key == "app.db") is object_is_later)


def test_a_write_over_an_overlap_removes_both_sides() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    below, scalar = put(one, "app.db.host", "h"), put(two, "app.db", "none")
    one.apply(scalar)
    two.apply(below)
    two.apply(put(one, "app.db.port", 2))
    assert one.read("app.db").value == {"host": "h", "port": 2}  # type: ignore[union-attr]
    assert two.read("app.db") == one.read("app.db")
    assert one.conflicts()[0] == two.conflicts()[0] == []


def test_an_empty_object_and_a_member_written_concurrently_are_no_conflict() -> None:
    one, two = new_state("one"), new_state("two")
    empty, member = put(one, "app", {}), put(two, "app.x", 1)
    assert one.apply(member).losses == []
    assert two.apply(empty).losses == []
    assert one.read("app").value == {"x": 1}  # type: ignore[union-attr]
    assert one.read("app").conflict is False  # type: ignore[union-attr]
    assert facts(one) == facts(two)


def test_only_visible_changes_are_reported() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    loser, winner = put(one, "k", 1), put(two, "k", 2)
    state = new_state(wall=START_MS + 10)
    assert state.apply(winner).changed == ["k"]
    assert state.apply(loser).changed == []
    state = new_state(wall=START_MS + 10)
    state.apply(loser)
    assert state.apply(winner).changed == ["k"]


def test_deleting_what_a_reader_never_had_is_no_change_to_it() -> None:
    writer, reader = new_state("writer"), new_state()
    put(writer, "k", 1)
    assert reader.apply(mutate(writer, Mutation("delete", "k"))).changed == []
    assert reader.tombstone_count == 1


@given(st.lists(st.lists(st.one_of(st.integers(), st.text(max_size=2), st.booleans()), max_size=4)))
def test_union_is_sorted_complete_and_without_duplicates(arrays: list[list[Any]]) -> None:
    result = union(arrays)
    kinds = [(type(member), member) for member in result]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) == {(type(member), member) for array in arrays for member in array}
    assert union([result]) == result
    assert union(list(reversed(arrays))) == result


def record(number: int, clock: int, winner: int = 10_000) -> Loss:
    return Loss("k", NIL, "w/1", number, clock, False, NIL, "x/1", 1, winner, False, "max")


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_a_bounded_history_is_a_join_too(added: list[tuple[int, int]], rng: random.Random) -> None:
    records = [record(number, 7 * number % 30, 1000 + winner) for number, winner in added]
    one, other = History(limit=10), History(limit=10)
    one.add(records)
    rng.shuffle(records)
    for each in records:
        other.add([each, each])
    assert one.latest_first() == other.latest_first()
    assert one.hash == other.hash
    assert len(one) == min(10, len({identity(each) for each in records}))


def test_the_oldest_records_make_room_and_are_counted() -> None:
    history = History(limit=3)
    assert len(history.add([record(n, n) for n in range(1, 6)])) == 5
    assert [loss.clock for loss in history.latest_first()] == [5, 4, 3]
    assert history.forgotten == 2
    assert history.add([record(1, 1)]) == []


def test_conflict_records_travel_with_repair() -> None:
    one, two, late = (
        new_state("one"),
        new_state("two", START_MS + 5),
        new_state("late", START_MS + 50),
    )
    one.apply(put(two, "k", 2))
    first = put(new_state("zero", START_MS - 5), "k", 0)
    one.apply(first)
    put(one, "k", 3)
    exchange(one, late)
    assert late.conflicts()[1] == one.conflicts()[1] != []

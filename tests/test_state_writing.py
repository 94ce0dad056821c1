"""Local writes: JSON semantics, preconditions, limits, and nothing half done."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core.errors import InvalidKey, WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.mutation import MAX_NESTING
from gossipswarm_agent.core.state import State
from state_swarm import (
    KEYS,
    at,
    exchange,
    facts,
    held_rows,
    mutate,
    mutations,
    new_state,
    put,
    values,
)

OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c.d"]), values, max_size=3)


def value(state: State, key: str) -> Any:
    reading = state.read(key)
    return None if reading is None else reading.value


@given(OBJECTS, OBJECTS)
def test_put_reads_back_as_written_and_replaces_what_was_there(before: Any, after: Any) -> None:
    state = new_state()
    for written in (before, after):
        state.write([Mutation("put", "k", written)])
        assert value(state, "k") == written


@given(values, values)
@settings(max_examples=300)
def test_merge_is_an_rfc_7396_patch(target: Any, patch: Any) -> None:
    state = new_state()
    state.write([Mutation("put", "k", target)])
    state.write([Mutation("merge", "k", patch)])
    assert value(state, "k") == merge_patch(target, patch)


def merge_patch(target: Any, patch: Any) -> Any:
    """The pseudo code of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, member in patch.items():
        if member is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), member)
    return result


@given(values, values)
def test_what_was_stored_whole_reads_back_whole_and_opens_for_a_write_below(
    whole: Any, member: Any
) -> None:
    state = new_state()
    state.write([Mutation("leaf", "k", whole)])
    assert value(state, "k") == whole
    assert state.keys("k") == ["k"]
    state.write([Mutation("put", "k.new", member)])
    kept = whole if isinstance(whole, dict) else {}
    assert value(state, "k") == {**kept, "new": member}


@given(st.lists(mutations, min_size=2, max_size=5))
def test_mutations_of_one_call_build_on_each_other(several: list[Mutation]) -> None:
    together, apart = new_state(), new_state()
    together.write(several, system=True)
    for mutation in several:
        apart.write([mutation], system=True)
    assert without_clocks(together) == without_clocks(apart)


def without_clocks(state: State) -> list[tuple[Any, ...]]:
    return [row[:3] + row[4:] for row in sorted(held_rows(state))]


@pytest.mark.parametrize("op", ["put", "merge", "leaf"])
def test_a_write_deep_below_what_was_stored_whole_replaces_the_value_on_its_way(op: str) -> None:
    state = new_state()
    mutate(state, Mutation("leaf", "a", {"b": None, "kept": 1}), Mutation(op, "a.b.c", 2))
    assert value(state, "a") == {"b": {"c": 2}, "kept": 1}
    assert state.conflicts() == ([], [])


def test_an_object_written_at_a_path_and_a_write_below_touch_one_leaf() -> None:
    state = new_state()
    put(state, "app.config", {"cache_ttl": 3600, "flags": {"new_ui": True}})
    put(state, "app.config.cache_ttl", 7200)
    reading = state.read("app.config")
    assert reading is not None
    assert reading.value == {"cache_ttl": 7200, "flags": {"new_ui": True}}
    assert reading.version == 2
    assert value(state, "app") == {"config": reading.value}
    assert value(state, "app.config.flags.new_ui") is True
    assert state.read("app.conf") is None


def test_the_version_counts_updates_and_goes_on_over_a_deletion() -> None:
    state = new_state()
    for expected in (1, 2):
        _, (result,), _ = state.write([Mutation("put", "k", expected)])
        assert result.version == expected
    _, (result,), changed = state.write([Mutation("delete", "k")])
    assert (result.version, result.etag, result.changed, changed) == (3, "", 1, ["k"])
    _, (result,), _ = state.write([Mutation("put", "k", "back")])
    assert result.version == 4


def test_deleting_what_is_not_there_uses_no_dot() -> None:
    state = new_state()
    batch, (result,), changed = state.write([Mutation("delete", "k")])
    assert (batch, result.dot, result.changed, changed, state.sequence) == (None, "", 0, [], 0)


def test_each_mutation_of_a_call_has_its_own_dot_and_result() -> None:
    state = new_state("writer")
    batch, results, changed = state.write(
        [
            Mutation("put", "a", {"x": 1, "y": 2}),
            Mutation("delete", "nothing"),
            Mutation("put", "b", 3),
        ],
        traced=True,
    )
    assert batch is not None
    assert [result.dot for result in results] == ["writer/1:1", "", "writer/1:2"]
    assert [result.changed for result in results] == [2, 0, 1]
    assert batch.runs == [("writer/1", 1, 1, 2), ("writer/1", 2, 1, 1)]
    assert batch.traced == [("writer/1", 1), ("writer/1", 2)]
    assert changed == ["a.x", "a.y", "b"]
    assert results[2].etag == state.read("b").etag  # type: ignore[union-attr]
    assert results[0].etag == state.read("a").etag  # type: ignore[union-attr]


def test_only_changed_leaves_of_an_object_travel() -> None:
    state = new_state()
    put(state, "app", {"a": 1, "b": [1, 2], "c": "x"})
    batch = put(state, "app", {"a": 1, "b": [1, 3], "c": "x"})
    assert batch.keys == ["app.b"]
    assert state.write([Mutation("put", "app", {"a": 1, "b": [1, 3], "c": "x"})])[0] is None


def test_every_leaf_travels_without_delta_compression() -> None:
    state = new_state(compression="none")
    put(state, "app", {"a": 1, "b": 2})
    assert put(state, "app", {"a": 1, "b": 3}).keys == ["app.a", "app.b"]


def test_a_leaf_that_is_named_is_written_even_with_the_value_it_has() -> None:
    state = new_state()
    put(state, "k", 1)
    _, (result,), _ = state.write([Mutation("put", "k", 1)])
    assert (result.version, result.changed) == (2, 1)


def test_an_empty_object_stays_when_its_last_member_goes() -> None:
    state = new_state()
    put(state, "app", {})
    put(state, "app.member", 1)
    assert value(state, "app") == {"member": 1}
    mutate(state, Mutation("delete", "app.member"))
    assert value(state, "app") == {}


def test_a_dot_inside_a_segment_is_escaped() -> None:
    state = new_state()
    put(state, "hosts", {"db.example.com": {"port": 5432}})
    assert value(state, r"hosts.db\.example\.com.port") == 5432
    assert value(state, "hosts") == {"db.example.com": {"port": 5432}}
    put(state, r"hosts.db\.example\.com", 1)
    assert value(state, "hosts") == {"db.example.com": 1}


@pytest.mark.parametrize("op", ["put", "merge", "delete", "leaf"])
def test_a_write_with_the_etag_of_what_is_there_succeeds_once(op: str) -> None:
    state = new_state()
    put(state, "k", {"a": 1, "b": 2})
    etag = state.read("k").etag  # type: ignore[union-attr]
    state.write([Mutation(op, "k", {"a": 9}, etag)])
    before = facts(state)
    with pytest.raises(WriteRefused) as refused:
        state.write([Mutation(op, "k", {"a": 10}, etag)])
    assert (refused.value.status, refused.value.reason) == (412, "precondition-failed")
    assert facts(state) == before


def test_a_write_may_ask_that_the_key_exists_or_does_not() -> None:
    state = new_state()
    with pytest.raises(WriteRefused, match="k does not exist"):
        state.write([Mutation("put", "k", 1, "*")])
    state.write([Mutation("put", "k", 1, "")])
    with pytest.raises(WriteRefused, match="expected that it does not exist"):
        state.write([Mutation("put", "k", 2, "")])
    state.write([Mutation("put", "k", 2, "*")])
    assert value(state, "k") == 2


def test_a_precondition_sees_the_mutations_before_it() -> None:
    state = new_state()
    state.write([Mutation("put", "k.a", 1, ""), Mutation("put", "k.a", 2, "*")])
    with pytest.raises(WriteRefused):
        state.write([Mutation("delete", "k"), Mutation("put", "k.a", 3, "*")])
    assert value(state, "k.a") == 2


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (math.nan, 422),
        ([1, math.inf], 422),
        (1 << 64, 422),
        ([-(1 << 63) - 1], 422),
        (b"bytes", 422),
        ({"a": {1, 2}}, 422),
        ([{1: 2}], 422),
        ({3: 4}, 422),
        ({"": 1}, 422),
        ("\ud800", 422),
        ({"\ud800": 1}, 422),
        ("x" * (1 << 20), 413),
        ({str(number): 0 for number in range(10_001)}, 413),
        ([0] * (1 << 20), 413),
    ],
)
def test_what_json_cannot_say_and_what_is_too_large_is_refused_whole(bad: Any, status: int) -> None:
    state = new_state()
    put(state, "kept", 1)
    before = facts(state)
    with pytest.raises(WriteRefused) as refused:
        state.write([Mutation("put", "fine", 1), Mutation("put", "k", bad)])
    assert refused.value.status == status
    assert facts(state) == before
    assert state.sequence == 1
    assert put(state, "next", 1).runs == [("observer/1", 2, 1, 1)]


def test_values_at_the_limits_are_accepted() -> None:
    state = new_state()
    deep: Any = 0
    for _ in range(MAX_NESTING):
        deep = [deep]
    limits = [(1 << 64) - 1, -(1 << 63), deep, "x" * ((1 << 20) - 5), 5e-324, ""]
    for limit in limits:
        put(state, "k", limit)
        assert value(state, "k") == limit
    with pytest.raises(WriteRefused, match="nested"):
        put(state, "k", [deep])


@pytest.mark.parametrize(
    "key",
    ["", ".", "a.", ".a", "a..b", "x" * 513, ".".join("a" * 33), "a\nb", "$swarm.config", "\ud800"],
)
def test_invalid_and_reserved_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidKey):
        new_state().write([Mutation("put", key, 1)])


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(WriteRefused, match="expected put, merge, delete or leaf"):
        new_state().write([Mutation("increment", "k", 1)])


def test_the_swarm_s_own_keys_are_kept_out_of_the_whole_tree() -> None:
    state = new_state()
    mutate(state, Mutation("put", "$swarm.config", {"fanout": 5}), system=True)
    put(state, "app", 1)
    assert value(state, "") == {"app": 1}
    assert state.keys("") == ["app"]
    assert value(state, "$swarm") == {"config": {"fanout": 5}}
    assert state.keys("$swarm") == ["$swarm.config.fanout"]
    assert state.leaf_count == 2


def test_keys_come_in_pages() -> None:
    state = new_state()
    for number in range(25):
        put(state, f"list.{number:02}", number)
    put(state, "lists", 1)
    mutate(state, Mutation("delete", "list.03"))
    page = state.keys("list", limit=10)
    assert page == [f"list.{number:02}" for number in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]
    assert state.keys("list", limit=100, after=page[-1]) == [f"list.{n:02}" for n in range(11, 25)]
    assert state.keys("lists") == ["lists"]
    assert state.keys("", limit=2, after="list.23") == ["list.24", "lists"]


def test_stamps_follow_what_was_seen_even_if_the_wall_clock_goes_back() -> None:
    writer, other = new_state("writer"), new_state("other")
    at(writer, 5_000)
    first = put(writer, "k", 1)
    at(other, 5_000)
    other.apply(first)
    at(other, 1_000)
    put(other, "k", 2)
    at(writer, 100)
    second = put(writer, "k", 3)
    assert second.clocks > first.clocks
    assert other.read("k").updated_ms == 5_000  # type: ignore[union-attr]


def test_a_write_that_the_disk_refused_is_taken_back() -> None:
    state = new_state(durability="fsync")
    kept, _, _ = state.write([Mutation("put", "app", {"a": 1, "b": 2})])
    assert kept is not None
    state.confirm(kept)
    before = facts(state)[4:]
    refused, _, _ = state.write([Mutation("put", "app", {"b": 3, "c": 4})])
    on_top, _, _ = state.write([Mutation("put", "app.b", 5)])
    assert refused is not None
    assert on_top is not None
    assert sorted(state.retract(refused)) == ["app.a", "app.b", "app.c"]
    assert value(state, "app") == {"a": 1, "b": 5}
    state.retract(on_top)
    assert facts(state)[4:] == before
    assert state.vector.ranges() == {"observer/1": [(1, 1)]}
    later, _, _ = state.write([Mutation("put", "app.b", 6)])
    assert later is not None
    assert later.runs == [("observer/1", 4, 1, 1)]
    state.confirm(later)
    assert state.vector.ranges() == {"observer/1": [(1, 4)]}


def test_nobody_is_sent_what_is_not_durable_yet() -> None:
    state = new_state("writer", durability="fsync")
    batch, _, _ = state.write([Mutation("put", "k", 1)])
    assert batch is not None
    everything = {"writer/1": [(1, 10)]}
    assert [extract.batches for extract in state.rows_for(everything, 1000)] == [[]]
    assert [extract.claims for extract in state.rows_for(everything, 1000)] == [{}]
    assert list(state.bucket_rows(range(256), 1000)) == []
    state.confirm(batch)
    assert [len(extract.batches) for extract in state.rows_for(everything, 1000)] == [1]
    assert len(list(state.bucket_rows(range(256), 1000))) == 1


def test_what_an_undurable_write_replaced_is_still_sent_to_others() -> None:
    state, late = new_state("writer", durability="fsync"), new_state("late")
    first, _, _ = state.write([Mutation("put", "k", 1)])
    assert first is not None
    state.confirm(first)
    refused, _, _ = state.write([Mutation("put", "k", 2)])
    exchange(state, late)
    assert value(late, "k") == 1
    assert refused is not None
    state.retract(refused)
    exchange(state, late)
    assert facts(state) == facts(late)


def test_a_large_subtree_is_deleted_in_one_call() -> None:
    state = new_state()
    for part in range(3):
        put(state, f"big.{part}", {str(number): 0 for number in range(5000)})
    _, (result,), _ = state.write([Mutation("delete", "big")])
    assert (result.changed, state.leaf_count) == (15_000, 0)


@given(st.lists(mutations, max_size=8))
@settings(max_examples=120)
def test_what_is_read_key_by_key_is_what_is_read_at_once(several: list[Mutation]) -> None:
    state = new_state()
    for mutation in several:
        state.write([mutation], system=True)
    for key in KEYS:
        reading = state.read(key)
        assert state.reader.summary(key).etag == ("" if reading is None else reading.etag)
        for leaf, below in state.read_leaves(key):
            assert state.read(leaf).value == below.value or leaf in state._store.index.interior  # type: ignore[union-attr]
            change = state.change(leaf)
            assert (change.value, change.deleted) == (below.value, False)

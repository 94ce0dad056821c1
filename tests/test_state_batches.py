"""Batches as they travel: split, merged, and refused where no sound agent can have made them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core.batch import (
    MAX_COUNT,
    contract,
    expand,
    from_rows,
    merge,
    pack,
    rows_of,
    split,
    take,
    validate,
)
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch, decode, encode
from gossipswarm_agent.core.resolution import decode_value
from state_swarm import facts, history, mutate, new_state, plain, put, received, steps

runs = st.lists(
    st.tuples(st.sampled_from(["a/1", "b/1"]), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3)),
    max_size=5,
)  # fmt: skip


@given(runs)
def test_runs_expand_to_the_dots_of_rows_and_contract_again(given_runs: list[Any]) -> None:
    origins, sequences = expand(given_runs)
    assert len(origins) == sum(dots * rows for _, _, dots, rows in given_runs)
    assert expand(contract(origins, sequences)) == (origins, sequences)


@given(steps, st.integers(1, 600))
def test_parts_hold_every_row_once_and_no_dot_in_two(story: list[Any], limit: int) -> None:
    _, batches = history(story)
    if not batches:
        return
    whole = merge(batches, "relay")
    parts = [decode(body) for body in split(whole, limit)]
    assert [plain(row) for part in parts for row in rows_of(part)] == [
        plain(r) for r in rows_of(whole)
    ]  # type: ignore[arg-type]
    seen: set[tuple[str, int]] = set()
    for body in split(whole, limit):
        part = decode(body)
        assert isinstance(part, Batch)
        validate(part)
        dots = set(zip(*expand(part.runs), strict=True))
        assert len(body) <= limit or len(dots) == 1
        assert not seen & dots
        seen |= dots


@given(steps, st.data())
def test_taking_rows_keeps_all_that_belongs_to_them(story: list[Any], data: Any) -> None:
    _, batches = history(story)
    if not batches:
        return
    whole = merge(batches, "relay")
    rows = list(rows_of(whole))
    chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    assert [plain(row) for row in rows_of(take(whole, chosen))] == [plain(rows[i]) for i in chosen]
    assert encode(from_rows(rows, "relay")) == encode(whole)
    packed = [row for batch in pack(rows, "relay", 300) for row in rows_of(batch)]
    assert list(map(plain, packed)) == list(map(plain, rows))


def test_batches_of_one_origin_join_into_one_run() -> None:
    one, two = new_state("one"), new_state("two")
    interleaved = [put(one, "a", 1), put(two, "b", 1), put(one, "c", 1), put(two, "d", 1)]
    assert merge(interleaved, "relay").runs == [("one/1", 1, 2, 1), ("two/1", 1, 2, 1)]


def test_traced_dots_travel_with_their_rows() -> None:
    state = new_state("writer")
    batch, _, _ = state.write([Mutation("put", f"k{n}", "x" * 50) for n in range(4)], traced=True)
    assert batch is not None
    parts = [decode(body) for body in split(batch, 250)]
    assert len(parts) > 1
    for part in parts:
        assert isinstance(part, Batch)
        assert part.traced == list(zip(*expand(part.runs), strict=True))


def sound() -> dict[str, Any]:
    state = new_state("writer")
    put(state, "k", 1)
    batch = mutate(
        state,
        Mutation("put", "k", 2),
        Mutation("put", "app", {"a": 1, "b": 2}),
        Mutation("delete", "k"),
    )
    validate(batch)
    return msgspec.structs.asdict(batch)


RAW = msgspec.Raw(b"\x01")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"keys": [], "values": [], "clocks": [], "runs": []}, "1 to 65536 rows"),
        ({"values": [RAW]}, "different lengths"),
        ({"clocks": [1]}, "different lengths"),
        ({"runs": [("w/1", 1, 1, 1)]}, "stand for 1 rows"),
        ({"runs": [("w/1", 1, 2, 2), ("w/1", 2, 1, 0)]}, "out of range"),
        ({"runs": [("w/1", 0, 1, 4)]}, "out of range"),
        ({"runs": [("w/1", MAX_COUNT, 1, 4)]}, "out of range"),
        ({"runs": [("w/1", 1, 3, 1), ("w/1", 3, 1, 1)]}, "there twice"),
        ({"runs": [("nameless", 1, 4, 1)]}, "not name/epoch"),
        ({"runs": [("w" * 400 + "/1", 1, 4, 1)]}, "not name/epoch"),
        ({"keys": ["a", "b", "c", ""]}, "empty"),
        ({"keys": ["a", "b", "c", "d..e"]}, "empty segment"),
        ({"keys": ["a", "b", "c", ".e"]}, "empty segment"),
        ({"keys": ["a.", "b", "c", "d"]}, "empty segment"),
        ({"keys": ["a", "b", "c", "x" * 600]}, "over 512 bytes"),
        ({"keys": ["a", "b", "c", "\x00"]}, "control"),
        ({"keys": ["a", "b", "c", r"d\e"]}, "canonical"),
        ({"keys": ["a", "b", "c", ".".join("x" * 40)]}, "segments"),
        ({"values": [RAW, RAW, RAW, msgspec.Raw(b"\xc6" + bytes(1 << 20))]}, "over 1048576 bytes"),
        ({"clocks": [1, 2, 3, -1]}, "clock"),
        ({"clocks": [1, 2, 3, 1 << 64]}, "clock"),
        ({"contexts": {4: {"w/1": 1}}}, "does not exist"),
        ({"contexts": {-1: {"w/1": 1}}}, "does not exist"),
        ({"contexts": {0: {}}}, "empty context"),
        ({"contexts": {0: {"w/1": 0}}}, "out of range"),
        ({"versions": {9: 2}}, "version"),
        ({"versions": {0: 0}}, "version"),
        ({"versions": {0: 1 << 60}}, "version"),
        ({"deleted": [4]}, "do not exist"),
        ({"deleted": [-1]}, "do not exist"),
        ({"deleted": [1, 1]}, "twice"),
        ({"traced": [("w/1", 1)]}, "traced"),
    ],
)
def test_a_batch_that_no_sound_agent_makes_is_refused(broken: dict[str, Any], reason: str) -> None:
    batch = Batch(**{**sound(), **broken})
    with pytest.raises(ValueError, match=reason):
        validate(batch)


@pytest.mark.parametrize(
    "value", [b"\xa1\xff", b"\xd4\x01\x02", b"\xc7\x00\x05", b"\xc4\x01x", b"\x81\x01\x02", b"\xc1"]
)
def test_a_value_that_is_no_json_neither_breaks_a_read_nor_the_agreement(value: bytes) -> None:
    one, two = new_state("one"), new_state("two")
    writer = new_state("writer")
    batch = put(writer, "k", [1])
    odd = Batch(batch.sender, batch.runs, batch.keys, [msgspec.Raw(value)], batch.clocks)
    for state in (one, two):
        state.apply(odd)
        reading = state.read("k")
        assert reading is not None
        msgspec.json.encode(reading.value)
    assert facts(one) == facts(two)
    assert decode_value(msgspec.Raw(value)) is None or value[0] in (0x81, 0xC4)


def test_every_batch_that_is_written_is_valid() -> None:
    state = new_state("writer")
    for key in ("a", r"b\.c", "ü.x", "a" * 512, ".".join("a" * 32), "pipe|.|x", " "):
        validate(received(put(state, key, 1)))


@given(steps)
def test_every_batch_of_a_history_is_valid(story: list[Any]) -> None:
    for batch in history(story)[1]:
        validate(batch)

"""Surviving restarts: snapshot and replay, damage, old disks, and rows from clocks that run ahead."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core.batch import merge
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.holding import Held
from gossipswarm_agent.core.messages import Batch, Ping, decode, encode
from gossipswarm_agent.core.state import State
from state_swarm import (
    START_MS,
    at,
    exchange,
    facts,
    held_rows,
    history,
    mutate,
    new_state,
    put,
    received,
    share_losses,
    steps,
)

thorough = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])


def revived(records: Any, name: str = "writer-0", **options: Any) -> State:
    state = new_state(name, START_MS + 9000)
    for record in records:
        state.restore(record, **options)
    state.restored()
    return state


@thorough
@given(steps)
def test_a_snapshot_restores_everything(story: list[Any]) -> None:
    state = history(story)[0][0]
    state.incarnation = 7
    copy = revived(state.snapshot())
    assert facts(copy) == facts(state)
    assert copy.conflicts() == state.conflicts()
    assert copy.losses_hash == state.losses_hash
    assert (copy.origin, copy.sequence, copy.incarnation) == (state.origin, state.sequence, 7)
    assert copy.clock.last >= state.clock.last


@thorough
@given(steps, st.integers(0, 14))
def test_a_snapshot_taken_midway_and_the_records_after_it_restore_everything(
    story: list[Any], midway: int
) -> None:
    _, batches = history(story)
    state = new_state("writer-9", START_MS + 9000)
    for batch in batches[:midway]:
        state.apply(batch)
    snapshot = state.snapshot()
    records = [next(snapshot)]
    later = []
    for batch in batches[midway:]:
        applied = state.apply(batch)
        if applied.batch is not None:
            later.append(encode(applied.batch))
    # The rest of the snapshot is encoded only now: it must still be what was current when it was taken.
    records += snapshot
    assert facts(revived([*records, *later])) == facts(state)


def test_sequence_numbers_go_on_after_a_restart() -> None:
    state = new_state("writer")
    records = [state.identity_record()]
    records += [encode(put(state, "k", number)) for number in range(3)]
    copy = revived(records, "writer")
    assert copy.sequence == 3
    assert put(copy, "k", 4).runs == [("writer/1", 4, 1, 1)]


def test_a_snapshot_restores_a_write_whose_leaves_came_back_one_by_one() -> None:
    state = new_state("writer", durability="fsync")
    batch, _, _ = state.write([Mutation("put", "app", {"a": 1, "b": 2})])
    assert batch is not None
    state.confirm(batch)
    refused, _, _ = state.write([Mutation("put", "app.a", 3)])
    assert refused is not None
    state.retract(refused)
    copy = revived(state.snapshot(), "writer")
    assert copy.read("app") == state.read("app")
    assert copy.state_hash == state.state_hash


def test_a_restart_does_not_wait_for_own_writes_that_were_retracted() -> None:
    state = new_state("writer", durability="fsync")
    refused, _, _ = state.write([Mutation("put", "k", 1)])
    kept, _, _ = state.write([Mutation("put", "k", 2)])
    assert refused is not None
    assert kept is not None
    state.retract(refused)
    state.confirm(kept)
    copy = revived([encode(kept)], "writer")
    assert copy.vector.gaps() == {}
    assert copy.vector.hash == state.vector.hash


def test_an_unreadable_record_is_refused() -> None:
    state = new_state()
    for record in (b"", b"\x00garbage", encode(Ping("a", 1, "b"))):
        with pytest.raises(ValueError, match="journal"):
            state.restore(record)


def test_after_damage_what_was_claimed_is_fetched_again() -> None:
    one, two = new_state("one"), new_state("two")
    for number in range(5):
        two.apply(put(one, f"k{number % 2}", number))
    whole = list(two.snapshot())
    damaged = [whole[0], *whole[2:]]
    copy = revived(damaged, "two", trust_seen=False)
    assert copy.vector.seen != two.vector.seen
    exchange(one, copy)
    assert facts(copy) == facts(two)


def test_claims_count_as_seen_and_say_what_was_new() -> None:
    state = new_state()
    assert state.claim({"a/1": [(1, 3)], "b/1": [(5, 6)]}) == {"a/1": [(1, 3)], "b/1": [(5, 6)]}
    assert state.claim({"a/1": [(2, 4)], "b/1": [(5, 5)]}) == {"a/1": [(4, 4)]}
    assert state.vector.ranges() == {"a/1": [(1, 4)], "b/1": [(5, 6)]}


# --- an old disk ----------------------------------------------------------------------------------


def test_writes_under_dots_that_were_used_before_are_issued_again_under_a_new_origin() -> None:
    writer, peer = new_state("writer"), new_state("peer")
    peer.apply(put(writer, "a", "old"))
    old_disk = list(writer.snapshot())
    for key in ("a", "b", "c"):
        peer.apply(put(writer, key, "lost by the disk"))
    copy = revived(old_disk, "writer")
    put(copy, "a", "new")
    copy.write([Mutation("put", "d", "new"), Mutation("put", "d", "newer")])
    assert peer.vector.seen["writer/1"] == copy.sequence
    issued = copy.renumber("writer/2")
    assert issued is not None
    assert issued.runs == [("writer/2", 1, 2, 1)]
    assert (copy.origin, copy.sequence) == ("writer/2", 2)
    assert copy.vector.seen == {"writer/1": 1, "writer/2": 2}
    at(peer, START_MS + 9000)
    exchange(copy, peer)
    share_losses(copy, peer)
    assert facts(copy) == facts(peer)
    assert copy.read("").value == {
        "a": "new",
        "b": "lost by the disk",
        "c": "lost by the disk",
        "d": "newer",
    }  # type: ignore[union-attr]
    (loss,) = copy.conflicts()[0]
    assert (loss.key, loss.origin, loss.winning_origin) == ("a", "writer/1", "writer/2")


def test_renumbering_without_own_writes_only_changes_the_origin() -> None:
    state = new_state("writer")
    put(state, "k", 1)
    state.restored()
    before = facts(state)
    assert state.renumber("writer/2") is None
    assert facts(state) == before
    assert put(state, "k", 2).runs == [("writer/2", 1, 1, 1)]


def test_a_late_confirmation_of_renumbered_writes_is_ignored() -> None:
    state = new_state("writer", durability="fsync")
    state.restored()
    batch, _, _ = state.write([Mutation("put", "k", 1)])
    assert batch is not None
    issued = state.renumber("writer/2")
    state.confirm(batch)
    assert state.retract(batch) == []
    assert state.vector.seen == {"writer/2": 1}
    assert issued is not None
    assert state.read("k") is not None


@thorough
@given(steps, st.integers(1, 10))
def test_renumbered_rows_replace_the_old_ones_whole(story: list[Any], first: int) -> None:
    replicas, _ = history(story)
    state = replicas[0]
    before = {
        row[:1] + row[3:5] for row in held_rows(state) if row[1] == "writer-0/1" and row[2] >= first
    }
    batch = state.renumber("writer-0/2", first)
    after = {row[:1] + row[3:5] for row in held_rows(state) if row[1] == "writer-0/2"}
    assert after == before
    assert (batch is None) == (not before)
    assert state.vector.seen.get("writer-0/1", 0) < first
    assert not any(row[1] == "writer-0/1" and row[2] >= first for row in held_rows(state))
    assert not any(
        dict(row[5]).get("writer-0/1", 0) >= first
        for row in held_rows(state)
        if row[1] == "writer-0/2"
    )


# --- clocks that run ahead ------------------------------------------------------------------------


def test_rows_from_the_future_are_held_and_merged_when_their_time_comes() -> None:
    skewed, sound, reader = new_state("skewed", START_MS + 2000), new_state("sound"), new_state()
    ahead, fine = put(skewed, "k", "ahead"), put(sound, "k", "fine")
    applied = reader.apply(merge([ahead, fine], "relay"))
    assert applied.skewed == {"skewed/1": 2000}
    assert applied.fresh == {"sound/1": [(1, 1)]}
    assert reader.read("k").value == "fine"  # type: ignore[union-attr]
    assert "skewed/1" not in reader.vector.seen
    assert reader.held_count == 1
    reader.apply(ahead)
    assert reader.held_count == 1
    at(reader, START_MS + 1499)
    assert reader.release().rows == 0
    at(reader, START_MS + 1500)
    released = reader.release()
    assert released.fresh == {"skewed/1": [(1, 1)]}
    assert released.changed == ["k"]
    assert reader.held_count == 0
    assert reader.read("k").value == "ahead"  # type: ignore[union-attr]


def test_a_row_within_the_allowed_skew_is_merged_at_once() -> None:
    skewed, reader = new_state("skewed", START_MS + 500), new_state()
    assert reader.apply(put(skewed, "k", 1)).rows == 1


def test_an_agent_that_knows_its_clock_to_be_slow_holds_nothing_for_that() -> None:
    writer, slow = new_state("writer", START_MS + 60_000), new_state()
    slow.clock_behind = 60_000
    assert slow.apply(put(writer, "k", 1)).rows == 1


def test_a_write_with_one_leaf_ahead_is_held_whole() -> None:
    skewed, reader = new_state("skewed", START_MS + 2000), new_state()
    batch = put(skewed, "app", {"a": 1, "b": 2})
    batch.clocks[0] -= 2000 << 16
    assert reader.apply(batch).rows == 0
    assert reader.held_count == 2


def test_what_is_held_is_bounded_and_the_oldest_goes_first() -> None:
    skewed = new_state("skewed")
    held = Held(limit=10)
    batches = [put(skewed, f"k{number}", number) for number in range(12)]
    for batch in batches:
        held.add(batch)
    assert (held.rows, held.dropped) == (10, 2)
    kept = merge(held.take_due(1 << 64), "x")
    assert sorted(kept.keys) == sorted(f"k{number}" for number in range(2, 12))
    assert held.rows == 0


def test_what_was_dropped_from_the_held_rows_is_sent_again_by_repair() -> None:
    skewed, reader = new_state("skewed", START_MS + 2000), new_state()
    reader._held = Held(limit=1)
    put(skewed, "a", 1)
    put(skewed, "b", 1)
    exchange(skewed, reader)
    assert reader.held_count <= 2
    at(reader, START_MS + 2000)
    reader.release()
    exchange(skewed, reader)
    assert facts(reader) == facts(skewed)


# --- repair ---------------------------------------------------------------------------------------


@thorough
@given(steps, st.integers(100, 2000))
def test_parts_of_a_delta_are_small_and_complete(story: list[Any], limit: int) -> None:
    state = history(story)[0][0]
    copy = new_state(wall=START_MS + 9000)
    for extract in state.rows_for(state.vector.ranges(), limit):
        for body in extract.batches:
            batch = decode(body)
            assert isinstance(batch, Batch)
            assert len(body) <= limit or sum(run[2] for run in batch.runs) == 1
            copy.apply(batch)
        copy.claim(extract.claims)
        copy.add_losses(extract.losses)
    assert facts(copy) == facts(state)


def test_a_delta_of_many_rows_comes_in_parts_with_the_claims_last() -> None:
    state = new_state("writer")
    for number in range(400):
        put(state, f"k{number % 390}", "x" * 100)
    parts = list(state.rows_for({"writer/1": [(1, 400)]}, 5000))
    assert len(parts) > 8
    assert all(not part.claims for part in parts[:-1])
    assert parts[-1].claims == {"writer/1": [(1, 10)]}
    assert not parts[-1].collected


def test_writes_of_the_own_origin_that_come_from_peers_are_never_numbered_again() -> None:
    first, copy = new_state("writer"), new_state("writer")
    for number in range(3):
        copy.apply(received(put(first, "k", number)))
    assert mutate(copy, Mutation("put", "k", 9)).runs == [("writer/1", 4, 1, 1)]

"""Merge is a join: what an agent holds depends on which writes it has seen and on nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core import store
from gossipswarm_agent.core.batch import merge, split
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch, decode
from gossipswarm_agent.core.state import State
from state_swarm import (
    START_MS,
    at,
    exchange,
    facts,
    held_rows,
    history,
    maximal_rows,
    mutate,
    new_state,
    put,
    received,
    share_losses,
    steps,
)

thorough = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
POLICIES = ["vector-clock", "last-write-wins", "max", "min", "union", "manual"]


def fed(batches: list[Batch], **settings: Any) -> State:
    state = new_state(wall=START_MS + 1000, **settings)
    for batch in batches:
        state.apply(received(batch))
    return state


@thorough
@given(steps, st.randoms(use_true_random=False), st.sampled_from(POLICIES))
def test_any_order_and_duplication_of_batches_gives_the_same_state(
    story: list[Any], rng: random.Random, policy: str
) -> None:
    _, batches = history(story, conflict_resolution=policy)
    shuffled = batches + rng.choices(batches, k=len(batches)) if batches else []
    rng.shuffle(shuffled)
    one, other = fed(batches, conflict_resolution=policy), fed(shuffled, conflict_resolution=policy)
    assert facts(one) == facts(other)
    share_losses(one, other)
    assert one.losses_hash == other.losses_hash
    assert one.conflicts() == other.conflicts()


@thorough
@given(steps)
def test_what_is_current_is_what_no_other_write_has_seen(story: list[Any]) -> None:
    _, batches = history(story)
    assert sorted(held_rows(fed(batches))) == sorted(maximal_rows(batches))


@thorough
@given(steps, st.integers(1, 400), st.randoms(use_true_random=False))
def test_splitting_and_merging_batches_changes_nothing(
    story: list[Any], limit: int, rng: random.Random
) -> None:
    _, batches = history(story)
    parts = [decode(body) for batch in batches for body in split(batch, limit)]
    rng.shuffle(parts)
    cut = rng.randint(0, len(parts))
    joined = [merge(some, "relay") for some in (parts[:cut], parts[cut:]) if some]  # type: ignore[arg-type]
    assert facts(fed(parts)) == facts(fed(batches)) == facts(fed(joined))  # type: ignore[arg-type]


@thorough
@given(steps)
def test_the_hash_kept_incrementally_is_the_hash_of_what_is_held(story: list[Any]) -> None:
    _, batches = history(story)
    often, once = new_state(wall=START_MS + 1000), fed(batches)
    for batch in batches:
        often.apply(batch)
        assert sum(often.bucket_hashes()) % (1 << 64) == often.state_hash
    assert often.bucket_hashes() == once.bucket_hashes()


@thorough
@given(steps)
def test_replicas_that_repair_each_other_agree(story: list[Any]) -> None:
    replicas, batches = history(story)
    for replica in replicas:
        at(replica, START_MS + 1000)
    exchange(*replicas)
    exchange(*replicas)
    share_losses(*replicas)
    first = facts(replicas[0])
    assert all(facts(replica) == first for replica in replicas)
    assert len({replica.losses_hash for replica in replicas}) == 1
    assert sorted(held_rows(replicas[0])) == sorted(maximal_rows(batches))


@thorough
@given(steps)
def test_rewriting_chunks_all_the_time_changes_nothing(story: list[Any]) -> None:
    _, batches = history(story)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_SPARE_CHUNKS", 0)
        patch.setattr(store, "_SPARE_ROWS", 0)
        rewritten = fed(batches)
    assert facts(rewritten) == facts(fed(batches))
    exchange(rewritten, newcomer := new_state("newcomer", START_MS + 1000))
    assert facts(newcomer) == facts(rewritten)


@thorough
@given(steps, st.sampled_from(POLICIES))
def test_every_write_is_current_superseded_or_in_the_history(story: list[Any], policy: str) -> None:
    replicas, _ = history(story, conflict_resolution=policy)
    for replica in replicas:
        at(replica, START_MS + 1000)
    exchange(*replicas)
    exchange(*replicas)
    share_losses(*replicas)
    for state in replicas:
        lost = {(loss.key, loss.origin, loss.sequence) for loss in state.conflicts()[1]}
        for key in state._store.leaves:
            rows = state._store.rows(key)
            winner = state.reader.policies.winner(rows)
            assert all((key, *row.dot) in lost for row in rows if row is not winner)
            if state.reader.leaf(key) is None and not winner.deleted:
                assert (key, *winner.dot) in lost


def test_a_batch_seen_before_changes_nothing_and_says_so() -> None:
    writer, reader = new_state("writer"), new_state()
    batch = put(writer, "app", {"a": 1, "b": 2})
    assert reader.apply(batch).rows == 2
    again = reader.apply(batch)
    assert (again.rows, again.changed, again.fresh, again.batch) == (0, [], {}, None)


def test_only_the_unseen_part_of_a_merged_batch_is_applied() -> None:
    one, two, reader = new_state("one"), new_state("two"), new_state()
    first, second = put(one, "a", 1), put(two, "b", {"c": 2, "d": 3})
    reader.apply(first)
    applied = reader.apply(merge([first, second], "relay"))
    assert applied.fresh == {"two/1": [(1, 1)]}
    assert applied.changed == ["b.c", "b.d"]
    assert applied.batch is not None
    assert applied.batch.keys == ["b.c", "b.d"]


def test_one_batch_may_write_a_key_twice() -> None:
    writer, reader = new_state("writer"), new_state()
    batch = mutate(
        writer, Mutation("put", "k", 1), Mutation("put", "other", 1), Mutation("put", "k", 2)
    )
    reader.apply(batch)
    assert reader.read("k") == writer.read("k")
    assert reader.read("k").value == 2  # type: ignore[union-attr]
    assert reader.read("k").version == 2  # type: ignore[union-attr]
    assert reader.state_hash == writer.state_hash


def test_a_write_out_of_order_leaves_a_visible_gap() -> None:
    writer, reader = new_state("writer"), new_state()
    first, second = put(writer, "k", 1), put(writer, "k", 2)
    reader.apply(second)
    assert reader.vector.gaps() == {"writer/1": [(1, 1)]}
    assert reader.apply(first).changed == []
    assert reader.vector.gaps() == {}
    assert reader.read("k").value == 2  # type: ignore[union-attr]


def test_deleting_what_was_seen_leaves_a_concurrent_write_below_in_place() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    start = put(one, "app", {"seen": 1, "kept": 2})
    two.apply(start)
    replaced = put(one, "app", {"kept": 3})
    beside = put(two, "app.unseen", 4)
    one.apply(beside)
    two.apply(replaced)
    assert one.read("app").value == two.read("app").value == {"kept": 3, "unseen": 4}  # type: ignore[union-attr]


def test_a_concurrent_write_of_a_deleted_leaf_survives_if_it_is_later() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    two.apply(put(one, "app", {"leaf": 1}))
    deleted, written = mutate(one, Mutation("delete", "app")), put(two, "app.leaf", 2)
    one.apply(written)
    applied = two.apply(deleted)
    assert one.read("app").value == two.read("app").value == {"leaf": 2}  # type: ignore[union-attr]
    (loss,) = applied.losses
    assert loss.deleted
    assert loss.winning_origin == "two/1"


@pytest.mark.parametrize("count", [300, 3000])
def test_many_small_batches_are_rewritten_into_few_without_a_trace(count: int) -> None:
    writer, reader = new_state("writer"), new_state()
    for number in range(count):
        reader.apply(put(writer, f"key.{number % (count // 2)}", number))
        if number % 97 == 0:
            assert reader.state_hash == writer.state_hash
    assert len(reader._store.chunks) < 600
    assert facts(reader) == facts(writer)
    exchange(reader, newcomer := new_state("newcomer"))
    assert facts(newcomer) == facts(writer)


def test_overwriting_for_ever_keeps_nothing_but_what_is_current() -> None:
    writer, reader = new_state("writer"), new_state()
    for number in range(9000):
        reader.apply(put(writer, f"key.{number % 5}", number))
        if number % 10 == 0:
            list(reader.rows_for({"writer/1": [(number, number + 1)]}, 1000))
    inner = reader._store
    assert len(inner.chunks) <= 5
    assert len(inner._unhashed) < 600
    assert reader._dots._entries < 5000
    assert reader.state_hash == writer.state_hash
    (extract,) = reader.rows_for({"writer/1": [(8990, 9000)]}, 10_000)
    assert len(extract.batches) == 1

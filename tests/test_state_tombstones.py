"""Deletions: kept until everybody knows of them, then collected, and never undone by stragglers."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core.batch import rows_of
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch, decode
from gossipswarm_agent.core.state import State
from state_swarm import (
    START_MS,
    at,
    exchange,
    facts,
    history,
    mutate,
    new_state,
    put,
    received,
    share_losses,
    steps,
)


def delete(state: State, key: str) -> Batch:
    return mutate(state, Mutation("delete", key))


def floor_of(*states: State) -> dict[str, int]:
    origins = {origin for state in states for origin in state.vector.seen}
    return {origin: min(state.vector.seen.get(origin, 0) for state in states) for origin in origins}


def test_a_tombstone_goes_only_when_everybody_has_it() -> None:
    one, two = new_state("one"), new_state("two")
    two.apply(put(one, "k", 1))
    gone = delete(one, "k")
    assert one.collect(floor_of(one, two)) == 0
    two.apply(gone)
    assert one.tombstone_count == two.tombstone_count == 1
    assert one.collect(floor_of(one, two)) == two.collect(floor_of(one, two)) == 1
    assert facts(one) == facts(two)
    assert (one.tombstone_count, one.leaf_count, one.state_hash) == (0, 0, 0)


def test_a_deletion_counts_as_a_difference_only_beside_a_concurrent_write() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    two.apply(put(one, "k", 1))
    two.apply(put(one, "other", 1))
    gone = delete(one, "k")
    two.apply(gone)
    assert one.state_hash == two.state_hash
    one.collect(floor_of(one, two))
    assert one.state_hash == two.state_hash
    three, four = new_state("three", START_MS + 1), new_state("four", START_MS + 9)
    beside, deleted = put(three, "other", 2), delete_unseen(four, "other")
    two.apply(beside)
    before = two.state_hash
    two.apply(deleted)
    assert two.state_hash != before
    one.apply(deleted)
    one.apply(beside)
    assert one.state_hash == two.state_hash


def delete_unseen(state: State, key: str) -> Batch:
    put(state, key, "for a moment")
    return delete(state, key)


def test_a_tombstone_beside_a_concurrent_write_stays() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    two.apply(put(one, "k", 1))
    gone, written = delete(one, "k"), put(two, "k", 2)
    one.apply(written)
    two.apply(gone)
    assert one.collect(floor_of(one, two)) == 0


def test_a_collected_leaf_does_not_come_back_with_old_batches() -> None:
    one, two = new_state("one"), new_state("two")
    old = [put(one, "k", 1), put(one, "k", 2)]
    gone = delete(one, "k")
    for batch in [*old, gone]:
        two.apply(batch)
    two.collect(floor_of(one, two))
    for batch in [*old, gone]:
        assert two.apply(received(batch)).rows == 0
    assert two.read("k") is None


def test_a_key_written_anew_after_collection_is_no_conflict_where_it_was_not_collected_yet() -> (
    None
):
    one, two = new_state("one"), new_state("two")
    two.apply(put(one, "k", 1))
    two.apply(delete(one, "k"))
    one.collect(floor_of(one, two))
    anew = put(one, "k", 2)
    assert two.apply(anew).losses == []
    reading = two.read("k")
    assert reading is not None
    assert (reading.value, reading.conflict, reading.version) == (2, False, 3)
    assert facts(one) == facts(two)


def test_a_straggler_that_did_not_know_of_a_collected_deletion_meets_it_again() -> None:
    one, two = new_state("one", START_MS + 50), new_state("two")
    two.apply(put(one, "k", 1))
    straggler = put(two, "k", 2)
    at(one, START_MS + 60)
    gone = delete(one, "k")
    two.apply(gone)
    one.collect(floor_of(one, two))
    (loss,) = one.apply(straggler).losses
    assert loss.origin == "two/1"
    assert one.read("k") is None
    assert two.read("k") is None
    assert facts(one) == facts(two)


def test_an_overlap_is_noticed_where_everything_below_was_collected_before() -> None:
    one, two = new_state("one"), new_state("two", START_MS + 5)
    for batch in (put(one, "app", {"x": 1}), put(one, "app", 1)):
        two.apply(batch)
    for state in (one, two):
        state.collect(floor_of(one, two))
        state.read("")
    one.apply(put(two, "app.x", 2))
    below = put(new_state("three", START_MS + 9), "app.y", 3)
    for state in (one, two):
        state.apply(below)
    scalar = put(new_state("four", START_MS + 7), "app", "later")
    for state in (one, two):
        state.apply(scalar)
    share_losses(one, two)
    assert facts(one) == facts(two)
    assert one.read("app").conflict  # type: ignore[union-attr]


def test_what_a_restored_old_replica_holds_of_a_collected_leaf_is_dropped_by_comparison() -> None:
    one, two = new_state("one"), new_state("two")
    first = put(one, "k", 1)
    two.apply(first)
    old_disk = list(two.snapshot())
    two.apply(delete(one, "k"))
    one.collect(floor_of(one, two))
    revived = new_state("two")
    for record in old_disk:
        revived.restore(record)
    assert one.collected_beyond(revived.vector.seen)
    (extract,) = one.rows_for(one.vector.missing_from(revived.vector.seen, {}), 1000)
    assert (extract.claims, extract.collected, extract.batches) == ({"one/1": [(2, 2)]}, True, [])
    revived.claim(extract.claims)
    buckets = differing(one, revived)
    assert revived.reconcile(buckets, one.vector.seen, held(one, buckets)) == ["k"]
    assert facts(one) == facts(revived)


def test_what_damage_took_from_an_agent_comes_back_by_comparison() -> None:
    one, two = new_state("one"), new_state("two")
    for number in range(20):
        two.apply(put(one, f"k{number}", number))
    two._store.remove("k7", [("one/1", 8)])
    buckets = differing(one, two)
    assert len(buckets) == 1
    adopted = [two.adopt(batch) for batch in sent(one, buckets)]
    assert [applied.changed for applied in adopted] == [["k7"]]
    assert facts(one) == facts(two)


def test_comparison_brings_back_neither_the_superseded_nor_the_collected() -> None:
    one, two = new_state("one"), new_state("two")
    superseded, deleted = put(one, "a", 1), put(one, "b", 1)
    for batch in (superseded, put(one, "a", 2), deleted, delete(one, "b")):
        two.apply(batch)
    two.collect(floor_of(one, two))
    before = facts(two)
    for batch in (superseded, deleted, *sent(one, range(256))):
        assert two.adopt(batch).changed == []
    assert facts(two) == before


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(steps, steps, st.lists(st.booleans(), min_size=3, max_size=3))
def test_collection_at_different_times_changes_nothing_that_can_be_read(
    before: list[Any], after: list[Any], collects: list[bool]
) -> None:
    replicas, batches = history(before)
    for replica in replicas:
        at(replica, START_MS + 1000)
    exchange(*replicas)
    exchange(*replicas)
    share_losses(*replicas)
    control = new_state(wall=START_MS + 1000)
    for batch in batches:
        control.apply(batch)
    floor = floor_of(*replicas)
    for replica, collecting in zip(replicas, collects, strict=True):
        if collecting:
            replica.collect(floor)
    assert all(replica.read_leaves("") == control.read_leaves("") for replica in replicas)
    for turn, (action, who, what) in enumerate(after):
        at(replicas[who], START_MS + 2000 + 10 * turn)
        if action == "write":
            batch, _, _ = replicas[who].write(what, system=True)
            if batch is not None:
                batches.append(received(batch))
        elif batches:
            replicas[who].apply(batches[what % len(batches)])
    for replica in replicas:
        at(replica, START_MS + 9000)
    exchange(*replicas)
    exchange(*replicas)
    for replica in replicas:
        replica.collect(floor_of(*replicas))
    share_losses(*replicas)
    assert all(facts(replica) == facts(replicas[0]) for replica in replicas)


def differing(one: State, other: State) -> list[int]:
    pairs = zip(one.bucket_hashes(), other.bucket_hashes(), strict=True)
    return [bucket for bucket, (a, b) in enumerate(pairs) if a != b]


def sent(state: State, buckets: Any) -> list[Batch]:
    bodies = [body for part in state.bucket_rows(buckets, 1000) for body in part]
    batches = [decode(body) for body in bodies]
    assert all(isinstance(batch, Batch) for batch in batches)
    return batches  # type: ignore[return-value]


def held(state: State, buckets: list[int]) -> set[tuple[str, str, int]]:
    return {
        (row.key, row.origin, row.sequence)
        for batch in sent(state, buckets)
        for row in rows_of(batch)
    }

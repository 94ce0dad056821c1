"""Agents' states without agents: a few replicas, whose batches are delivered by hand."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from gossipswarm_agent.core.batch import Row, rows_of
from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch, decode, encode
from gossipswarm_agent.core.settings import Settings
from gossipswarm_agent.core.state import State

START_MS = 1_760_000_000_000


def new_state(name: str = "observer", wall: int = START_MS, **settings: Any) -> State:
    """A state that confirms its own writes at once."""
    settings.setdefault("durability", "memory")
    ctx = Context(name, "home", Settings(**settings), random.Random(0))
    ctx.now = Instant(0.0, wall)
    return State(ctx, f"{name}/1")


def at(state: State, wall: int) -> None:
    """Set the wall clock of a state."""
    state._ctx.now = Instant(0.0, wall)


def put(state: State, key: str, value: Any, **more: Any) -> Batch:
    """Write one value; the batch as it arrives elsewhere."""
    return mutate(state, Mutation("put", key, value, **more))


def mutate(state: State, *mutations: Mutation, system: bool = False) -> Batch:
    """Write; the batch as it arrives elsewhere."""
    batch, _, _ = state.write(mutations, system=system)
    assert batch is not None
    return received(batch)


def received(batch: Batch) -> Batch:
    """The batch after a journey."""
    message = decode(encode(batch))
    assert isinstance(message, Batch)
    return message


def exchange(*states: State) -> None:
    """Everybody gets everything, by the way of repair."""
    for source in states:
        for target in states:
            for extract in source.rows_for(
                source.vector.missing_from(target.vector.seen, target.vector.ahead), 1000
            ):
                for body in extract.batches:
                    batch = decode(body)
                    assert isinstance(batch, Batch)
                    target.apply(batch)
                target.claim(extract.claims)
                target.add_losses(extract.losses)


def share_losses(*states: State) -> None:
    """Everybody gets everybody's conflict history."""
    for source in states:
        for target in states:
            target.add_losses(source.conflicts()[1])


def facts(state: State) -> Any:
    """What must be the same on agents that have seen the same."""
    return (
        sorted(held_rows(state)),
        state.state_hash,
        state.bucket_hashes(),
        state.vector.hash,
        state.read(""),
        state.read("$swarm"),
        state.read_leaves(""),
        state.leaf_count,
        state.tombstone_count,
    )


def held_rows(state: State) -> list[tuple[Any, ...]]:
    """The current rows, as plain data."""
    return [plain(row) for key in state._store.leaves for row in state._store.rows(key)]


def plain(row: Row) -> tuple[Any, ...]:
    """A row that compares by value."""
    return (
        row.key, row.origin, row.sequence, row.clock, bytes(row.value), sorted(row.context.items()),
        row.version, row.deleted,
    )  # fmt: skip


def maximal_rows(batches: list[Batch]) -> list[tuple[Any, ...]]:
    """What the definition says must be current: the rows that no other row of their leaf covers."""
    leaves: dict[str, dict[tuple[str, int], Row]] = {}
    for batch in batches:
        for row in rows_of(batch):
            leaves.setdefault(row.key, {})[row.dot] = row
    return [
        plain(row)
        for rows in leaves.values()
        for row in rows.values()
        if not any(other.covers(row) for other in rows.values() if other is not row)
    ]


KEYS = ("a", "a.b", "a.b.c", "a.d", "e", r"f\.g", r"f\.g.h", "$swarm.x")
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "y"]), st.floats(0, 1)
)
arrays = st.lists(scalars, max_size=3)
values = st.recursive(
    st.one_of(scalars, arrays),
    lambda inner: st.dictionaries(st.sampled_from(["b", "c", "d", "g.h"]), inner, max_size=3),
    max_leaves=5,
)
mutations = st.one_of(
    st.builds(Mutation, st.sampled_from(["put", "merge", "leaf"]), st.sampled_from(KEYS), values),
    st.builds(Mutation, st.just("delete"), st.sampled_from(KEYS)),
)
WRITERS = 3
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, WRITERS - 1), st.lists(mutations, min_size=1, max_size=3)),
        st.tuples(st.just("deliver"), st.integers(0, WRITERS - 1), st.integers(0, 20)),
    ),
    min_size=1,
    max_size=14,
)  # fmt: skip


def history(story: list[Any], **settings: Any) -> tuple[list[State], list[Batch]]:
    """Act a story of writes and deliveries; the replicas, and every batch that was written."""
    replicas = [
        new_state(f"writer-{number}", START_MS + 7 * number, **settings)
        for number in range(WRITERS)
    ]
    batches: list[Batch] = []
    for turn, (action, who, what) in enumerate(story):
        replica = replicas[who]
        at(replica, START_MS + 10 * turn + 7 * who)
        if action == "write":
            batch, _, _ = replica.write(what, system=True)
            if batch is not None:
                batches.append(received(batch))
        elif batches:
            replica.apply(batches[what % len(batches)])
    return replicas, batches

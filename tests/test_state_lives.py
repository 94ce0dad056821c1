"""Whole lives of replicas, by seed: writes that the disk takes or refuses, deliveries, repair, collection,
restarts. At the end everybody must agree, and have kept nothing inconsistent inside."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gossipswarm_agent.core import paths, store
from gossipswarm_agent.core.applied import Applied
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch, Seen, decode, encode
from gossipswarm_agent.core.state import State
from state_swarm import KEYS, START_MS, at, exchange, facts, new_state, share_losses

POLICIES = ["vector-clock", "last-write-wins", "max", "union", "manual"]
VALUES = [1, 2, "x", [1, 2], [3], {}, {"b": 1}, {"b": {"c": 2}, "d": 3}, None, {"c": [], "b": {}}]


class Life:
    """One replica with its disk and the writes that wait for it."""

    def __init__(self, name: str, policy: str) -> None:
        self.name, self.policy = name, policy
        self.state = self._new()
        self.journal = [self.state.identity_record()]
        self.waiting: list[Batch] = []

    def _new(self) -> State:
        return new_state(self.name, conflict_resolution=self.policy, durability="fsync")

    def keep(self, applied: Applied) -> None:
        if applied.batch is not None:
            self.journal.append(encode(applied.batch))

    def restart(self, wall: int) -> None:
        revived = self._new()
        for record in self.journal:
            revived.restore(record)
        revived.restored()
        at(revived, wall)
        self.state = revived


class Lives:
    """Replicas, what is under way between them, and chance."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        policy = POLICIES[seed % len(POLICIES)]
        self.lives = [Life(f"w{number}", policy) for number in range(4)]
        self.under_way: list[bytes] = []
        self.wall = START_MS

    @property
    def states(self) -> list[State]:
        return [life.state for life in self.lives]

    def step(self) -> None:
        self.wall += self.rng.randint(0, 20)
        number = self.rng.randrange(len(self.lives))
        life = self.lives[number]
        at(life.state, self.wall + 7 * number)
        actions: list[Callable[[Life], None]] = [
            self.write, self.sync, self.deliver, self.repair, self.collect, self.restart,
        ]  # fmt: skip
        self.rng.choices(actions, weights=[40, 20, 25, 7, 4, 4])[0](life)

    def write(self, life: Life) -> None:
        operations = ["put", "put", "merge", "delete", "leaf"]
        mutations = [
            Mutation(*map(self.rng.choice, (operations, KEYS, VALUES)))
            for _ in range(self.rng.randint(1, 3))
        ]
        batch, _, _ = life.state.write(mutations, system=True)
        if batch is not None:
            life.waiting.append(batch)

    def sync(self, life: Life) -> None:
        if not life.waiting:
            return
        batch = life.waiting.pop(0)
        if self.rng.random() < 0.1:
            life.state.retract(batch)
            return
        life.journal.append(encode(batch))
        life.state.confirm(batch)
        self.under_way.append(encode(batch))

    def deliver(self, life: Life) -> None:
        if self.under_way:
            batch = decode(self.rng.choice(self.under_way))
            assert isinstance(batch, Batch)
            life.keep(life.state.apply(batch))

    def repair(self, life: Life) -> None:
        source, target = self.rng.choice(self.lives).state, life.state
        lacking = source.vector.missing_from(target.vector.seen, target.vector.ahead)
        for extract in source.rows_for(lacking, self.rng.choice([50, 400, 5000])):
            for body in extract.batches:
                batch = decode(body)
                assert isinstance(batch, Batch)
                life.keep(target.apply(batch))
            target.claim(extract.claims)
            life.journal.append(encode(Seen(life.name, extract.claims)))
            target.add_losses(extract.losses)

    def collect(self, life: Life) -> None:
        life.state.collect(self.floor())

    def restart(self, life: Life) -> None:
        if self.rng.random() < 0.5:
            life.journal = list(life.state.snapshot())
        if not life.waiting:
            life.restart(self.wall)

    def floor(self) -> dict[str, int]:
        seen = [state.vector.seen for state in self.states]
        return {origin: min(s.get(origin, 0) for s in seen) for s in seen for origin in s}

    def quiet(self) -> None:
        for life in self.lives:
            at(life.state, self.wall + 1000)
            for batch in life.waiting:
                life.state.confirm(batch)
        exchange(*self.states)
        exchange(*self.states)
        for state in self.states:
            state.collect(self.floor())
        share_losses(*self.states)


@pytest.mark.parametrize("seed", [*range(60), 73, 301, 441, 650, 1930, 2874])
def test_replicas_agree_whatever_their_lives_were(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SPARE_CHUNKS", 5)
    monkeypatch.setattr(store, "_SPARE_ROWS", 20)
    monkeypatch.setattr(store, "_SMALL_CHUNK", 8)
    lives = Lives(seed)
    for _ in range(lives.rng.randint(20, 120)):
        lives.step()
    lives.quiet()
    first = facts(lives.states[0])
    for state in lives.states:
        assert facts(state) == first
        copy = new_state("copy")
        for record in state.snapshot():
            copy.restore(record)
        assert copy.state_hash == state.state_hash
        inner = state._store
        counted = [
            inner.hashes.row_hash(key, row.origin, row.sequence)
            for key in inner.leaves
            for row in inner.rows(key)
            if not row.deleted or key in inner.siblings
        ]
        assert state.state_hash == sum(counted) % (1 << 64)
        assert all(
            above in inner.index.interior for key in inner.leaves for above in paths.ancestors(key)
        )
        listed = [*inner.index._ordered, *inner.index._new]
        assert sorted(set(listed) - inner.index._gone) == sorted(inner.leaves)
        assert len(set(listed)) == len(listed)

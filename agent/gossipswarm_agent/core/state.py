"""The replicated state of one agent: what it has seen, what is current, and what lost.

This is the facade that the node works with. Below it:

    store        rows and their join       mutation     planning local writes
    reading      values from leaves        undurable    own writes that the disk does not have yet
    resolution   who wins a conflict       holding      rows from clocks that run ahead
    conflicts    finding them              extraction   rows for others and for the journal
    history      who lost them             batch        how rows travel
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from gossipswarm_agent.core import clock as clocks
from gossipswarm_agent.core import paths
from gossipswarm_agent.core.applied import Applied
from gossipswarm_agent.core.batch import (
    Row,
    from_rows,
    merge,
    rows_of,
    rows_within,
    take,
)
from gossipswarm_agent.core.clock import HybridClock
from gossipswarm_agent.core.conflicts import Conflicts
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.epochs import issue_again
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.extraction import (
    DotIndex,
    Extract,
    dot_of,
    dots_in_buckets,
    encoded_parts,
    extracts,
    is_within,
    snapshot_batches,
    without_rows,
)
from gossipswarm_agent.core.hashtree import bucket_of
from gossipswarm_agent.core.holding import Held
from gossipswarm_agent.core.messages import (
    Batch,
    Identity,
    Loss,
    Losses,
    Ranges,
    Seen,
    decode,
    encode,
)
from gossipswarm_agent.core.mutation import Plan
from gossipswarm_agent.core.reading import Reader
from gossipswarm_agent.core.resolution import Policies
from gossipswarm_agent.core.results import Change, Reading, WriteResult
from gossipswarm_agent.core.store import Store
from gossipswarm_agent.core.supply import Supply
from gossipswarm_agent.core.tombstones import Tombstones
from gossipswarm_agent.core.undurable import Undurable
from gossipswarm_agent.core.versions import VersionVector

_LOSSES_PER_RECORD: Final = 500
COLLECT_LIMIT: Final = 500
"""Tombstones collected in one go: some milliseconds of work."""


class State:
    """Everything an agent knows of the swarm's data. Pure: no time but ``ctx.now``, no input or output."""

    def __init__(self, ctx: Context, origin: str) -> None:
        self._ctx = ctx
        self.origin = origin
        """Under which this agent writes, ``name/epoch``."""
        self.sequence = 0
        """The last one used by this agent."""
        self.incarnation = 0
        """Of this agent as a member; kept with the identity."""
        self.clock = HybridClock()
        self.vector = VersionVector()
        """Everything seen: rows that were applied, and dots that were claimed without any."""
        self.clock_behind = 0
        """Milliseconds by which this agent knows its own wall clock to be slow; rows are not held for that."""
        self._store = Store()
        self._conflicts = Conflicts(self._store)
        self._held = Held()
        self._dots = DotIndex(self._store)
        self._reader = Reader(self._store, Policies(ctx.settings), self._store.hashes)
        self._tombstones = Tombstones(self._store)
        self._undurable = Undurable()
        self.supply = Supply(self._store, self._dots, self._undurable)
        self._is_damaged = False
        """Parts of the journal were lost."""
        self._restored_sequence = 0

    # --- writing ----------------------------------------------------------------------------------

    def write(
        self, mutations: Sequence[Mutation], *, system: bool = False, traced: bool = False
    ) -> tuple[Batch | None, list[WriteResult], list[str]]:
        """Plan all mutations and apply them here, all or nothing.

        Each mutation that changes something takes one dot. Until ``confirm`` these dots count as unseen, so
        that nobody is sent what the disk may yet refuse.

        Returns:
            The batch to journal and spread (None if nothing changes), one result a mutation, and the leaves
            that changed.

        Raises:
            WriteRefused: nothing of it was applied.
        """
        keys = [paths.check(mutation.key, system=system) for mutation in mutations]
        plan = Plan(self._store, self.reader.policies, self._store.hashes)
        stamps = HybridClock(self.clock.last)
        stamps.trusts_wall = self.clock.trusts_wall
        sequence = max(self.sequence, self.vector.highest(self.origin))
        planned: list[list[Row]] = []
        for mutation, key in zip(mutations, keys, strict=True):
            stamp = stamps.stamp(self._ctx.now.wall)
            rows = plan.add(mutation, key, self.origin, sequence + 1, stamp)
            planned.append(rows)
            if rows:
                sequence += 1
        if not plan.rows:
            return None, [self._result(key, []) for key in keys], []
        dots = [rows[0].dot for rows in planned if rows]
        batch = from_rows(plan.rows, self._ctx.name, dots if traced else ())
        self.clock.observe(stamps.last)
        self.sequence = sequence
        for rows in planned:
            if rows:
                before = {row.key: self._store.rows(row.key) for row in rows}
                self._undurable.note(rows[0].dot, before)
        changed, _ = self._insert(batch)
        if self._ctx.settings.durability == "memory":
            self.confirm(batch)
        results = [self._result(key, rows) for key, rows in zip(keys, planned, strict=True)]
        return batch, results, changed

    def _result(self, key: str, rows: Sequence[Row]) -> WriteResult:
        if len(rows) == 1 and rows[0].key == key:
            row = rows[0]
            hashed = self._store.hashes.row_hash(key, row.origin, row.sequence)
            version, etag = row.version, "" if row.deleted else f"{hashed:016x}"
        else:
            version, etag = self.reader.summary(key)
        if not rows:
            return WriteResult(key, version, etag, "", self._ctx.now.wall, 0)
        dot = f"{rows[0].origin}:{rows[0].sequence}"
        return WriteResult(key, version, etag, dot, clocks.milliseconds(rows[0].clock), len(rows))

    def confirm(self, batch: Batch) -> None:
        """An own batch is as durable as was asked: its dots count as seen from now on."""
        for origin, sequence in self._undurable.confirm(batch):
            self.vector.add(origin, sequence, sequence)
        for sequence in self._undurable.take_void(self.vector.highest(self.origin)):
            self.vector.add(self.origin, sequence, sequence)

    def retract(self, batch: Batch) -> list[str]:
        """An own batch could not be made durable: take it back. Its dots stay used, and stand for nothing.

        Returns:
            The leaves that changed.
        """
        dots, before = self._undurable.retract(batch)
        for key in before:
            self._store.remove(key, dots)
        rows = sorted((row for rows in before.values() for row in rows), key=dot_of)
        if rows:
            self._insert(from_rows(rows, self._ctx.name))
        return list(before)

    def _insert(self, batch: Batch) -> tuple[list[str], list[Loss]]:
        """Join rows in; what changed to the eye, and the conflicts that were put on record."""
        return self._conflicts.settle(self._store.insert(batch), self.reader)

    # --- what comes from others -------------------------------------------------------------------

    def apply(self, batch: Batch) -> Applied:
        """Join a batch in: what of it is new and not from the future is merged and counted as seen."""
        limit = self._clock_limit()
        skewed: dict[str, int] = {}
        newest = max(batch.clocks, default=0)
        if newest >= limit:
            batch, skewed = self._held.sift(batch, limit, self._ctx.now.wall, self.vector)
            newest = max(batch.clocks, default=0)
        fresh = self.vector.add_all(batch.runs)
        if fresh is not None:
            batch = take(batch, rows_within(batch.runs, fresh))
        if not batch.keys:
            return Applied(skewed=skewed)
        self.clock.observe(newest)
        changed, losses = self._insert(batch)
        return Applied(batch, changed, losses, skewed)

    def _clock_limit(self) -> int:
        """The first stamp that counts as ahead."""
        allowed = self._ctx.settings.max_clock_skew + max(0, self.clock_behind)
        return (self._ctx.now.wall + allowed + 1) << clocks.COUNTER_BITS

    def release(self) -> Applied:
        """Merge held rows whose time has come."""
        batches = self._held.take_due(self._clock_limit())
        return self.apply(merge(batches, self._ctx.name)) if batches else Applied()

    def claim(self, ranges: Ranges) -> Ranges:
        """Count dots as seen of which no row is needed any more; the part that was new."""
        fresh: Ranges = {}
        for origin, spans in ranges.items():
            for first, last in spans:
                added = self.vector.add(origin, first, last)
                if added:
                    fresh.setdefault(origin, []).extend(added)
        return fresh

    def add_losses(self, losses: Sequence[Loss]) -> list[Loss]:
        """Join conflict records in; those that were new, or had a later winner than was known."""
        return self._conflicts.history.add(losses)

    def adopt(self, batch: Batch) -> Applied:
        """Like ``apply``, and also join rows in that a peer holds and this agent lacks although it has seen
        their dots.

        For a comparison with a peer that is not behind: what was lost here by damage comes back. What is
        superseded here stays so, and so does a tombstone that was collected, unless the leaf is in use again.
        """
        missing = [
            row
            for row in rows_of(batch)
            if self.vector.covers(row.origin, row.sequence) and self._store.lacks(row)
        ]
        applied = self.apply(batch)
        if not missing:
            return applied
        self.supply.mended += 1
        found = from_rows(sorted(missing, key=dot_of), batch.sender)
        changed, losses = self._insert(found)
        new = [found] if applied.batch is None else [applied.batch, found]
        return Applied(
            merge(new, batch.sender),
            [*applied.changed, *changed],
            [*applied.losses, *losses],
            applied.skewed,
        )

    # --- conflicts --------------------------------------------------------------------------------

    def conflicts(self) -> tuple[list[Loss], list[Loss]]:
        """Conflicts that nobody has written over since, and every recorded one, latest first."""
        return self._conflicts.open_and_recorded(self.reader)

    # --- what goes to others ----------------------------------------------------------------------

    def rows_for(self, ranges: Ranges, limit_bytes: int) -> Iterator[Extract]:
        """What somebody lacks who has not seen these dots, in parts of about ``limit_bytes``.

        Dots that this agent has not seen itself are left out.
        """
        known = self.vector.known(ranges)
        rows = self.supply.rows(known)
        claims = without_rows(known, rows)
        rest = Extract(
            claims=claims,
            losses=[loss for loss in self._conflicts.history if is_within(loss, known)],
            collected=self._tombstones.among(claims),
        )
        return extracts(encoded_parts(rows, self._ctx.name, limit_bytes), rest)

    @property
    def state_hash(self) -> int:
        """Order-independent hash of the current rows, 64 bits."""
        return self._store.tree.root

    @property
    def losses_hash(self) -> int:
        """Order-independent hash of the conflict history, 64 bits."""
        return self._conflicts.history.hash

    def bucket_hashes(self) -> list[int]:
        """Hash of the current rows of each of 256 buckets, by key."""
        return self._store.tree.buckets

    def bucket_rows(self, buckets: Collection[int], limit_bytes: int) -> Iterator[list[bytes]]:
        """The rows of these buckets, and of the writes they belong to, as encoded batches; in parts of about
        ``limit_bytes``."""
        # Whole writes, also where one has leaves in other buckets: the receiver may not know them yet.
        dots = dots_in_buckets(self._store, buckets)
        rows = self.supply.rows(self.vector.known(dots))
        return ([body] for body in encoded_parts(rows, self._ctx.name, limit_bytes))

    def reconcile(
        self,
        buckets: Collection[int],
        peer_seen: dict[str, int],
        held_by_peer: set[tuple[str, str, int]],
    ) -> list[str]:
        """Drop what is gone elsewhere: rows of these buckets that the peer has seen and does not hold.

        The peer's own rows must have been applied before. Returns the leaves that changed.
        """
        wanted = frozenset(buckets)
        changed = []
        for key in [key for key in self._store.leaves if bucket_of(key) in wanted]:
            gone = {
                row.dot
                for row in self._store.rows(key)
                if row.sequence <= peer_seen.get(row.origin, 0)
                and (key, row.origin, row.sequence) not in held_by_peer
                and row.dot not in self._undurable.dots
            }
            if gone:
                self._store.remove(key, gone)
                self._tombstones.note(gone)
                changed.append(key)
        self.supply.mended += bool(changed)
        return changed

    # --- tombstones -------------------------------------------------------------------------------

    def collect(self, floor: dict[str, int], limit: int = COLLECT_LIMIT) -> int:
        """Remove tombstones that every agent has, unless a concurrent write still stands beside them.

        Returns:
            How many.
        """
        return self._tombstones.collect(floor, limit)

    def lost_among(self, claims: Ranges) -> bool:
        """Whether one of these dots may be of a tombstone that was collected here."""
        return self._tombstones.among(claims)

    def collected_beyond(self, seen: dict[str, int]) -> bool:
        """Whether somebody who has seen this much may hold what a tombstone deleted that was collected here."""
        return self._tombstones.beyond(seen)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """Reads under the settings in force."""
        if self._reader.policies.settings is not self._ctx.settings:
            self._reader = Reader(self._store, Policies(self._ctx.settings), self._store.hashes)
        return self._reader

    def read(self, key: str) -> Reading | None:
        """The visible value of a key, assembled; ``""`` is everything but the swarm's own part."""
        return self.reader.read(key)

    def read_leaves(self, prefix: str) -> list[tuple[str, Reading]]:
        """The visible leaves at and below a prefix, in order."""
        reader = self.reader
        readings = ((key, reader.leaf(key)) for key in reader.leaves(prefix))
        return [(key, reading) for key, reading in readings if reading is not None]

    def keys(self, prefix: str = "", limit: int = 1000, after: str = "") -> list[str]:
        """Keys of visible leaves at and below a prefix that come after ``after``, in order, ``limit`` at most."""
        return list(islice(self.reader.leaves(prefix, after), limit))

    def change(self, key: str) -> Change:
        """What a watcher is told of a leaf: its visible value as of now."""
        return self.reader.change(key)

    @property
    def leaf_count(self) -> int:
        """Leaves that are not deleted."""
        store, winner = self._store, self.reader.policies.winner
        undecided = store.tombstones & store.siblings.keys()
        alive = sum(1 for key in undecided if not winner(store.rows(key)).deleted)
        return len(store.leaves) - len(store.tombstones) + alive

    @property
    def tombstone_count(self) -> int:
        """Leaves with a deletion that is kept for those who do not know of it yet."""
        return len(self._store.tombstones)

    @property
    def held_count(self) -> int:
        """Rows kept aside because their clocks run ahead."""
        return self._held.rows

    # --- the journal ------------------------------------------------------------------------------

    def identity_record(self) -> bytes:
        """Journal record: who this agent is."""
        return encode(
            Identity(self._ctx.name, self.origin, self.sequence, self.incarnation, self.clock.last)
        )

    def snapshot(self) -> Iterator[bytes]:
        """Journal records that stand for everything so far, also for writes that are not confirmed yet.

        What they say is settled at once; they are encoded as they are taken.
        """
        batches = snapshot_batches(self._store)
        return chain([self.identity_record()], batches, self.beside_rows())

    def beside_rows(self) -> Iterator[bytes]:
        """Journal records of what is held beside rows: writes that lost, and dots that need no row.

        Only a snapshot has them: after a crash they are fetched again from peers.
        """
        name = self._ctx.name
        history = self._conflicts.history.latest_first()
        seen = Seen(name, self.vector.ranges(), dict(self._tombstones.collected))
        losses = (
            encode(Losses(name, history[start : start + _LOSSES_PER_RECORD]))
            for start in range(0, len(history), _LOSSES_PER_RECORD)
        )
        return chain(losses, [encode(seen)])

    def restore(self, record: bytes, *, trust_seen: bool = True) -> None:
        """Replay one journal record.

        ``trust_seen`` false: dots without rows are not believed to be seen, because parts of the journal are
        lost; what they stand for is fetched again.

        Raises:
            ValueError: it is no record.
        """
        try:
            message = decode(record)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"an unreadable journal record: {error}") from error
        match message:
            case Batch():
                # Joined whether seen or not: rows of one write may lie in several records.
                self.vector.add_all(message.runs)
                self.clock.observe(max(message.clocks, default=0))
                self._insert(message)
            case Losses():
                self._conflicts.history.add(message.losses)
            case Seen():
                self._tombstones.note(message.collected.items())
                if trust_seen:
                    self.claim(message.ranges)
                else:
                    self._is_damaged = True
            case Identity():
                self.origin = message.origin
                self.sequence = message.sequence
                self.incarnation = message.incarnation
                self.clock.observe(message.clock)
            case _:
                raise ValueError(f"a journal holds no {type(message).__name__}")

    def restored(self) -> None:
        """The journal is replayed: what this agent writes from now on is new."""
        highest = self.vector.highest(self.origin)
        if highest and not self._is_damaged:
            # Own writes are journalled before anybody is told: those that are not there were retracted.
            self.vector.add(self.origin, 1, highest)
        self.sequence = max(self.sequence, highest)
        self._restored_sequence = self.sequence

    def renumber(self, new_origin: str, first: int | None = None) -> Batch | None:
        """Write under a new origin from now on, because the old one's dots from ``first`` on were used before.

        So it is when a disk was restored from an older copy: peers know other writes under these dots. Own
        rows from ``first`` on (default: those written since ``restored``) are issued again under the new
        origin, and the old one's are fetched from the peers. A snapshot should replace the journal, where the
        wrong dots still stand.

        Returns:
            The rows that were issued again.
        """
        old = self.origin
        start = self._restored_sequence + 1 if first is None else first
        highest = max(self.sequence, self.vector.highest(old))
        reused = self._dots.rows({old: [(start, highest)]}) if highest >= start else []
        self._undurable.clear()
        self.supply.mended += 1
        self.vector.truncate(old, start - 1)
        self._tombstones.forget_above(old, start - 1)
        self.origin, self.sequence, self._restored_sequence = new_origin, 0, 0
        for row in reused:
            self._store.remove(row.key, (row.dot,))
        issued = issue_again(reused, new_origin, start)
        if not issued:
            return None
        self.sequence = issued[-1].sequence
        batch = from_rows(issued, self._ctx.name)
        self._insert(batch)
        self.vector.add(new_origin, 1, self.sequence)
        return batch

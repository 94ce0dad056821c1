"""The replicated state of one agent: what it has seen, what is current, and what lost.

This is the facade that the node works with. Below it, ``store`` joins rows, ``reading`` assembles values,
``mutation`` plans local writes, ``resolution`` decides conflicts, ``history`` remembers who lost them,
``holding`` keeps rows from clocks that run ahead and ``extraction`` takes rows out for others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from gossipswarm_agent.core import clock as clocks
from gossipswarm_agent.core import paths
from gossipswarm_agent.core.batch import (
    Dot,
    Row,
    expand,
    from_rows,
    merge,
    ranges_of,
    rows_of,
    rows_within,
    take,
)
from gossipswarm_agent.core.clock import HybridClock
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.extraction import (
    DotIndex,
    Extract,
    dot_of,
    dots_in_buckets,
    encoded_parts,
    snapshot_batches,
)
from gossipswarm_agent.core.hashtree import bucket_of
from gossipswarm_agent.core.history import History, identity
from gossipswarm_agent.core.holding import Held, part_ahead
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
from gossipswarm_agent.core.resolution import LAST_WRITE, Policies
from gossipswarm_agent.core.results import Change, Reading, WriteResult
from gossipswarm_agent.core.store import Outcome, Store
from gossipswarm_agent.core.versions import VersionVector

_FAR_FUTURE: Final = 1 << 64
_LOSSES_PER_RECORD: Final = 500


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What came of applying a batch."""

    batch: Batch | None = None
    """The rows that were new: the very batch that was given, if all of it was; None if nothing was."""
    changed: list[str] = []
    """Leaves whose visible value may be another now."""
    losses: list[Loss] = []
    """Conflicts that were recorded by it."""
    skewed: dict[str, int] = {}
    """Origins whose rows are held because their clock runs ahead: by how many ms, at most."""

    @property
    def rows(self) -> int:
        """Leaves of writes that were new."""
        return 0 if self.batch is None else len(self.batch.keys)

    @property
    def dots(self) -> int:
        """Writes that were new."""
        return 0 if self.batch is None else sum(run[2] for run in self.batch.runs)

    @property
    def fresh(self) -> Ranges:
        """The dots that were new. Built when asked for: a busy agent need not."""
        return {} if self.batch is None else ranges_of(self.batch.runs)


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
        self._history = History()
        self._held = Held()
        self._dots = DotIndex(self._store)
        self._policies = Policies(ctx.settings)
        self._reader = Reader(self._store, self._policies, self._store.hashes)
        self._floor: dict[str, int] = {}
        """What every agent was last known to have."""
        self._collected: dict[str, int] = {}
        """Highest sequence of a collected tombstone by origin."""
        self._unconfirmed: dict[Dot, dict[str, tuple[Row, ...]]] = {}
        """Own writes that are not durable yet, by dot: the rows that each of their leaves had before."""
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
        plan = Plan(self._store, self.policies, self._store.hashes, self._floor)
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
                self._unconfirmed[rows[0].dot] = {
                    row.key: self._store.rows(row.key) for row in rows
                }
        changed, _ = self._settle(self._store.insert(batch))
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
        for origin, first, dots, _ in batch.runs:
            self.vector.add(origin, first, first + dots - 1)
            for sequence in range(first, first + dots):
                self._unconfirmed.pop((origin, sequence), None)

    def retract(self, batch: Batch) -> list[str]:
        """An own batch could not be made durable: take it back. Its dots stay used, and stand for nothing.

        Returns:
            The leaves that changed.
        """
        dots = set(zip(*expand(batch.runs), strict=True))
        before: dict[str, tuple[Row, ...]] = {}
        for dot in dots:
            before.update(self._unconfirmed.pop(dot, {}))
        for later in self._unconfirmed.values():
            for key, rows in later.items():
                if any(row.dot in dots for row in rows):
                    kept = [row for row in rows if row.dot not in dots]
                    later[key] = (*kept, *before.get(key, ()))
        for key in before:
            self._store.remove(key, dots)
        self._rejoin(row for rows in before.values() for row in rows)
        for origin, first, count, _ in batch.runs:
            self.vector.add(origin, first, first + count - 1)
        return list(before)

    def _rejoin(self, rows: Iterable[Row]) -> None:
        """Join rows in whose dots were seen before."""
        ordered = sorted(rows, key=lambda row: row.dot)
        if ordered:
            self._settle(self._store.insert(from_rows(ordered, self._ctx.name)))

    # --- what comes from others -------------------------------------------------------------------

    def apply(self, batch: Batch) -> Applied:
        """Join a batch in: what of it is new and not from the future is merged and counted as seen."""
        ahead = self._ctx.settings.max_clock_skew + max(0, self.clock_behind)
        limit = (self._ctx.now.wall + ahead + 1) << clocks.COUNTER_BITS
        return self._apply(batch, limit)

    def _apply(self, batch: Batch, limit: int) -> Applied:
        skewed: dict[str, int] = {}
        newest = max(batch.clocks, default=0)
        if newest >= limit:
            batch, skewed = self._hold_ahead(batch, limit)
            newest = max(batch.clocks, default=0)
        fresh = self.vector.add_all(batch.runs)
        if fresh is not None:
            batch = take(batch, rows_within(batch.runs, fresh))
        if not batch.keys:
            return Applied(skewed=skewed)
        self.clock.observe(newest)
        changed, losses = self._settle(self._store.insert(batch))
        return Applied(batch, changed, losses, skewed)

    def _hold_ahead(self, batch: Batch, limit: int) -> tuple[Batch, dict[str, int]]:
        """Keep aside what is unseen and ahead; the rest, and by how many ms each origin is ahead."""
        within, beyond = part_ahead(batch, limit)
        aside = take(batch, beyond)
        unseen: Ranges = {}
        for origin, first, dots, _ in aside.runs:
            gaps = self.vector.unseen(origin, first, first + dots - 1)
            unseen[origin] = unseen.get(origin, []) + gaps
        aside = take(aside, rows_within(aside.runs, unseen))
        skewed: dict[str, int] = {}
        if aside.keys:
            self._held.add(aside)
            wall = self._ctx.now.wall
            for origin, clock in zip(expand(aside.runs)[0], aside.clocks, strict=True):
                ahead = clocks.milliseconds(clock) - wall
                skewed[origin] = max(skewed.get(origin, 0), ahead)
        return take(batch, within), skewed

    def release(self) -> Applied:
        """Merge held rows whose time has come."""
        limit = self._ctx.now.wall + self._ctx.settings.max_clock_skew + max(0, self.clock_behind)
        batches = self._held.take_due(limit << clocks.COUNTER_BITS)
        if not batches:
            return Applied()
        return self.apply(merge(batches, self._ctx.name))

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
        return self._history.add(losses)

    def adopt(self, batch: Batch) -> Applied:
        """Like ``apply``, and also join rows in that a peer holds and this agent lacks although it has seen
        their dots.

        For a comparison with a peer that is not behind: what was lost here by damage comes back. What is
        superseded here stays so, and so does a tombstone that was collected, unless the leaf is in use again.
        """
        missing = sorted((row for row in rows_of(batch) if self._is_missing(row)), key=dot_of)
        applied = self.apply(batch)
        if not missing:
            return applied
        found = from_rows(missing, batch.sender)
        changed, losses = self._settle(self._store.insert(found))
        new = [found] if applied.batch is None else [applied.batch, found]
        return Applied(
            merge(new, batch.sender),
            [*applied.changed, *changed],
            [*applied.losses, *losses],
            applied.skewed,
        )

    def _is_missing(self, row: Row) -> bool:
        if not self.vector.covers(row.origin, row.sequence):
            return False
        held = self._store.rows(row.key)
        if not held and row.key in self._store.graves:
            held = (self._store.graves[row.key],)
            return not row.deleted and not held[0].covers(row)
        return not any(other.dot == row.dot or other.covers(row) for other in held) and (
            bool(held) or not row.deleted
        )

    # --- conflicts --------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome) -> tuple[list[str], list[Loss]]:
        """What an insertion changed to the eye, and the conflicts that it made."""
        if not outcome.contended and not outcome.overlapped:
            return outcome.changed, []
        changed = list(outcome.changed)
        policies = self.policies
        losses: list[Loss] = []
        for key, before in outcome.contended.items():
            rows = self._store.rows(key)
            if _dots(policies.visible(before)) != _dots(policies.visible(rows)):
                changed.append(key)
            winner = policies.winner(rows)
            losses += [_loss(row, winner, policies.label(key)) for row in rows if row is not winner]
        for key in outcome.overlapped:
            changed += [key, *self._store.below(key)]
            losses += self._overlap_losses(key)
        return changed, self._history.add(losses)

    def _overlap_losses(self, key: str) -> list[Loss]:
        at, below = self.reader.sides(key)
        if at is None or not below:
            return []
        youngest = max(below, key=lambda row: row.age)
        if youngest.age > at.age:
            return [_loss(at, youngest, LAST_WRITE)]
        return [_loss(row, at, LAST_WRITE) for row in below]

    def conflicts(self) -> tuple[list[Loss], list[Loss]]:
        """Conflicts that nobody has written over since, and every recorded one, latest first."""
        policies = self.policies
        undecided: set[tuple[str, str, int]] = set()
        for key in self._store.siblings:
            rows = self._store.rows(key)
            if policies.is_open(rows):
                winner = policies.winner(rows)
                undecided |= {(key, *row.dot) for row in rows if row is not winner}
        for key in self._store.overlaps:
            losses = self._overlap_losses(key)
            undecided |= {(loss.key, loss.origin, loss.sequence) for loss in losses}
        history = self._history.latest_first()
        return [loss for loss in history if identity(loss) in undecided], history

    # --- what goes to others ----------------------------------------------------------------------

    def rows_for(self, ranges: Ranges, limit_bytes: int) -> Iterator[Extract]:
        """What somebody lacks who has not seen these dots, in parts of about ``limit_bytes``.

        Dots that this agent has not seen itself are left out.
        """
        known = self.vector.known(ranges)
        rows = self._dots.rows(known)
        with_rows = VersionVector()
        for row in rows:
            with_rows.add(row.origin, row.sequence, row.sequence)
        claims = {
            origin: rest
            for origin, spans in known.items()
            if (rest := [gap for low, high in spans for gap in with_rows.unseen(origin, low, high)])
        }
        collected = any(
            low <= self._collected.get(origin, 0)
            for origin, spans in claims.items()
            for low, _ in spans
        )
        losses = [
            loss
            for loss in self._history
            if any(low <= loss.sequence <= high for low, high in known.get(loss.origin, ()))
        ]
        previous: bytes | None = None
        for body in encoded_parts(rows, self._ctx.name, limit_bytes):
            if previous is not None:
                yield Extract([previous])
            previous = body
        yield Extract([] if previous is None else [previous], claims, losses, collected)

    @property
    def state_hash(self) -> int:
        """Order-independent hash of the current rows, 64 bits."""
        return self._store.tree.root

    @property
    def losses_hash(self) -> int:
        """Order-independent hash of the conflict history, 64 bits."""
        return self._history.hash

    def bucket_hashes(self) -> list[int]:
        """Hash of the current rows of each of 256 buckets, by key."""
        return self._store.tree.buckets

    def bucket_rows(self, buckets: Collection[int], limit_bytes: int) -> Iterator[list[bytes]]:
        """The rows of these buckets, and of the writes they belong to, as encoded batches; in parts of about
        ``limit_bytes``."""
        # Whole writes, also where one has leaves in other buckets: the receiver may not know them yet.
        dots = dots_in_buckets(self._store, buckets)
        rows = self._dots.rows(self.vector.known(dots))
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
                and row.dot not in self._unconfirmed
            }
            if gone:
                self._store.remove(key, gone)
                self._note_collected(gone)
                changed.append(key)
        return changed

    # --- tombstones -------------------------------------------------------------------------------

    def collect(self, floor: dict[str, int]) -> int:
        """Remove tombstones that every agent has, unless a concurrent write still stands beside them.

        Returns:
            How many.
        """
        self._floor = floor
        collected = 0
        for key in list(self._store.tombstones):
            rows = self._store.rows(key)
            if len(rows) == 1 and rows[0].sequence <= floor.get(rows[0].origin, 0):
                self._store.bury(key)
                self._note_collected([rows[0].dot])
                collected += 1
        return collected

    def collected_beyond(self, seen: dict[str, int]) -> bool:
        """Whether somebody who has seen this much may hold what a tombstone deleted that was collected here."""
        return any(seen.get(origin, 0) < last for origin, last in self._collected.items())

    def _note_collected(self, dots: Iterable[Dot]) -> None:
        for origin, sequence in dots:
            self._collected[origin] = max(self._collected.get(origin, 0), sequence)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def policies(self) -> Policies:
        """Conflict resolution under the settings in force."""
        if self._policies.settings is not self._ctx.settings:
            self._policies = Policies(self._ctx.settings)
            self._reader = Reader(self._store, self._policies, self._store.hashes)
        return self._policies

    @property
    def reader(self) -> Reader:
        """Reads under the settings in force."""
        _ = self.policies
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
        store, winner = self._store, self.policies.winner
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
        """Journal records that stand for everything so far. What they say is settled at once; they are encoded
        as they are taken."""
        name = self._ctx.name
        history = self._history.latest_first()
        seen = Seen(name, self.vector.ranges(), dict(self._collected))
        batches = snapshot_batches(self._store, self._unconfirmed)
        losses = (
            encode(Losses(name, history[start : start + _LOSSES_PER_RECORD]))
            for start in range(0, len(history), _LOSSES_PER_RECORD)
        )
        return chain([self.identity_record()], batches, losses, [encode(seen)])

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
                self._apply(message, _FAR_FUTURE)
            case Losses():
                self._history.add(message.losses)
            case Seen():
                self._note_collected(message.collected.items())
                if trust_seen:
                    self.claim(message.ranges)
            case Identity():
                self.origin = message.origin
                self.sequence = message.sequence
                self.incarnation = message.incarnation
                self.clock.observe(message.clock)
            case _:
                raise ValueError(f"a journal holds no {type(message).__name__}")

    def restored(self) -> None:
        """The journal is replayed: what this agent writes from now on is new."""
        self.sequence = max(self.sequence, self.vector.highest(self.origin))
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
        self._unconfirmed.clear()
        self.vector.truncate(old, start - 1)
        self._collected = {**self._collected, old: min(self._collected.get(old, 0), start - 1)}
        self.origin, self.sequence, self._restored_sequence = new_origin, 0, 0
        issued: list[Row] = []
        last: Dot | None = None
        for row in reused:
            if row.dot != last:
                last = row.dot
                self.sequence += 1
            self._store.remove(row.key, (row.dot,))
            context = {
                origin: min(sequence, start - 1) if origin == old else sequence
                for origin, sequence in row.context.items()
            }
            issued.append(
                msgspec.structs.replace(
                    row,
                    origin=new_origin,
                    sequence=self.sequence,
                    context={origin: sequence for origin, sequence in context.items() if sequence},
                )
            )
        if not issued:
            return None
        batch = from_rows(issued, self._ctx.name)
        self._settle(self._store.insert(batch))
        self.confirm(batch)
        return batch


def _dots(rows: Iterable[Row]) -> set[Dot]:
    return {row.dot for row in rows}


def _loss(loser: Row, winner: Row, resolution: str) -> Loss:
    return Loss(
        loser.key,
        loser.value,
        loser.origin,
        loser.sequence,
        loser.clock,
        loser.deleted,
        winner.value,
        winner.origin,
        winner.sequence,
        winner.clock,
        winner.deleted,
        resolution,
    )

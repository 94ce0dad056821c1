"""Taking rows out for others: by dot for repair, by bucket for comparison, all of them for a snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from gossipswarm_agent.core.batch import Dot, Row, pack, ranges_of, take
from gossipswarm_agent.core.hashtree import bucket_of
from gossipswarm_agent.core.messages import Loss, Ranges, encode
from gossipswarm_agent.core.store import INDEX_BITS, Store
from gossipswarm_agent.core.versions import VersionVector

_BLOCK_BITS: Final = 6
"""Dots are indexed by blocks of 64 sequences."""
_SPARE: Final = 4096
"""Index entries for chunks that may be gone, beyond as many as there are others."""


class Extract(msgspec.Struct, frozen=True):
    """What somebody lacks, or a part of it; everything but batches comes with the last part."""

    batches: list[bytes] = []
    claims: Ranges = {}
    """Dots of which no row is current any more."""
    losses: list[Loss] = []
    collected: bool = False
    """A tombstone may be among the claims that was collected here: what it deleted has to be found by
    comparison."""
    last: bool = True


class DotIndex:
    """Where the rows of a dot are, brought up to date only when somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blocks: dict[str, dict[int, list[int]]] = {}
        self._indexed = 0
        """Chunks below this number are indexed."""
        self._entries = self._entries_at_reset = 0
        self._generation = store.generation

    def rows(self, ranges: Ranges) -> list[Row]:
        """Current rows of these dots, in the order of their dots."""
        self._catch_up()
        store = self._store
        numbers = set().union(*(self._chunks(origin, spans) for origin, spans in ranges.items()))
        found: list[Row] = []
        for number in numbers:
            origins, sequences = store.chunks[number].dots
            base = number << INDEX_BITS
            for index in store.indexes_of_current(number):
                spans = ranges.get(origins[index])
                if spans is not None and any(
                    low <= sequences[index] <= high for low, high in spans
                ):
                    found.append(store.row(base + index))
        found.sort(key=dot_of)
        return found

    def _chunks(self, origin: str, spans: Iterable[tuple[int, int]]) -> set[int]:
        blocks = self._blocks.get(origin, {})
        chunks = self._store.chunks
        numbers: set[int] = set()
        for low, high in spans:
            first, last = low >> _BLOCK_BITS, high >> _BLOCK_BITS
            if last - first < len(blocks):
                wanted: Iterable[int] = range(first, last + 1)
            else:
                wanted = [block for block in blocks if first <= block <= last]
            for block in wanted:
                numbers.update(number for number in blocks.get(block, ()) if number in chunks)
        return numbers

    def _catch_up(self) -> None:
        store = self._store
        # Chunks that are gone leave entries behind; now and then it is cheaper to start anew.
        if (
            self._generation != store.generation
            or self._entries > 2 * self._entries_at_reset + _SPARE
        ):
            self._generation = store.generation
            self._blocks.clear()
            self._indexed = self._entries = 0
        for number in reversed(store.chunks):
            if number < self._indexed:
                break
            self._add(number)
        if not self._indexed:
            self._entries_at_reset = self._entries
        self._indexed = store.next_number

    def _add(self, number: int) -> None:
        for origin, first, dots, _ in self._store.chunks[number].batch.runs:
            blocks = self._blocks.setdefault(origin, {})
            for block in range(first >> _BLOCK_BITS, ((first + dots - 1) >> _BLOCK_BITS) + 1):
                blocks.setdefault(block, []).append(number)
                self._entries += 1


def without_rows(ranges: Ranges, rows: Iterable[Row]) -> Ranges:
    """The part of these ranges that none of these rows belongs to."""
    present = VersionVector()
    for row in rows:
        present.add(row.origin, row.sequence, row.sequence)
    rest: Ranges = {}
    for origin, spans in ranges.items():
        gaps = [gap for low, high in spans for gap in present.unseen(origin, low, high)]
        if gaps:
            rest[origin] = gaps
    return rest


def is_within(write: Row | Loss, ranges: Ranges) -> bool:
    """Whether the dot of a row, or of a write that lost, is in these ranges."""
    return any(low <= write.sequence <= high for low, high in ranges.get(write.origin, ()))


def extracts(bodies: Iterable[bytes], rest: Extract) -> Iterator[Extract]:
    """One part a batch, and what is beside the batches with the last."""
    previous: bytes | None = None
    for body in bodies:
        if previous is not None:
            yield Extract([previous], last=False)
        previous = body
    yield rest if previous is None else msgspec.structs.replace(rest, batches=[previous])


def dots_in_buckets(store: Store, buckets: Collection[int]) -> Ranges:
    """The writes that current rows of these buckets come from."""
    wanted = frozenset(buckets)
    dots = sorted(
        {row.dot for key in store.leaves if bucket_of(key) in wanted for row in store.rows(key)}
    )
    return ranges_of((origin, sequence, 1, 1) for origin, sequence in dots)


def encoded_parts(rows: Iterable[Row], sender: str, limit_bytes: int) -> Iterator[bytes]:
    """These rows as encoded batches of about ``limit_bytes``; larger only where one dot is."""
    return map(encode, pack(rows, sender, limit_bytes))


def snapshot_batches(store: Store) -> Iterator[bytes]:
    """All current rows as encoded batches.

    What is current is decided at once; encoding is done on the way, whatever happens to the store meanwhile.
    """
    parts = [
        (chunk.batch, store.indexes_of_current(number)) for number, chunk in store.chunks.items()
    ]
    return (
        encode(batch if len(indexes) == len(batch.keys) else take(batch, indexes))
        for batch, indexes in parts
    )


def dot_of(row: Row) -> Dot:
    """Sorts rows so that runs come out long."""
    return (row.origin, row.sequence)

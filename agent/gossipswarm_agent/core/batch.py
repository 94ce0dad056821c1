"""Batches: how rows travel, lie in the journal and stand in the store.

A row is one leaf of one write. A batch keeps rows in columns, and their dots as runs: ``(origin, first,
dots, rows)`` stands for ``dots * rows`` rows, ``rows`` for each of the sequences from ``first`` on. Decoding
columns and inserting them in bulk costs a third of what one object a row does.

The rows of one dot never travel apart: a version vector knows a dot as seen or not, so half a write would
pass for all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.errors import InvalidKey
from gossipswarm_agent.core.messages import Batch, Ranges, Run, decode, encode

MAX_ROWS: Final = 1 << 16
"""Rows of one batch: their index takes 16 bits of a pointer in the store."""
MAX_VALUE_BYTES: Final = 1 << 20
MAX_ORIGIN_CHARACTERS: Final = 300
MAX_CLOCK: Final = (1 << 64) - 1
MAX_COUNT: Final = 1 << 53
"""Largest sequence number and version: what every JSON reader takes for an exact number."""
NIL: Final = msgspec.Raw(b"\xc0")

Dot: TypeAlias = tuple[str, int]
"""Origin and sequence: which write."""

_ROW_OVERHEAD: Final = 24
"""Encoded bytes of a row beside its key, value and context, at most: two headers, the clock, its share of runs."""
_BATCH_OVERHEAD: Final = 320
_LONGEST_FLAT_KEY: Final = 2 * paths.MAX_DEPTH
"""A key with more segments than allowed is longer than this."""

_CONTROL_CHARACTERS: Final = bytes(range(32))


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row by itself. ``context``: what its writer had seen of this leaf, origin to highest sequence."""

    key: str
    value: msgspec.Raw
    origin: str
    sequence: int
    clock: int
    context: dict[str, int]
    version: int
    deleted: bool

    @property
    def dot(self) -> Dot:
        """Origin and sequence of the write."""
        return (self.origin, self.sequence)

    @property
    def age(self) -> tuple[int, str, int]:
        """Orders writes by time: later is larger, never equal for two writes."""
        return (self.clock, self.origin, self.sequence)

    def covers(self, other: Row) -> bool:
        """Whether the writer of this row had seen the other one."""
        return self.context.get(other.origin, 0) >= other.sequence


NO_CONTEXT: Final[dict[str, int]] = {}
"""Shared, never changed."""


def size_of(value: msgspec.Raw) -> int:
    """Encoded bytes of a value."""
    return memoryview(value).nbytes


def row_count(runs: Iterable[Run]) -> int:
    """Rows that these runs stand for."""
    return sum(dots * rows for _, _, dots, rows in runs)


def expand(runs: Iterable[Run]) -> tuple[list[str], list[int]]:
    """Origin and sequence of each row."""
    origins: list[str] = []
    sequences: list[int] = []
    for origin, first, dots, rows in runs:
        origins.extend(repeat(origin, dots * rows))
        span = range(first, first + dots)
        sequences.extend(span if rows == 1 else chain.from_iterable(repeat(s, rows) for s in span))
    return origins, sequences


def contract(origins: Sequence[str], sequences: Sequence[int]) -> list[Run]:
    """The inverse of ``expand``; rows of one dot stand together."""
    runs: list[Run] = []
    index, count = 0, len(origins)
    while index < count:
        origin, sequence = origins[index], sequences[index]
        end = index + 1
        while end < count and sequences[end] == sequence and origins[end] == origin:
            end += 1
        append_run(runs, (origin, sequence, 1, end - index))
        index = end
    return runs


def append_run(runs: list[Run], run: Run) -> None:
    """Append, or lengthen the last run if this one goes on where it ended."""
    if runs:
        origin, first, dots, rows = runs[-1]
        if origin == run[0] and first + dots == run[1] and rows == run[3]:
            runs[-1] = (origin, first, dots + run[2], rows)
            return
    runs.append(run)


def ranges_of(runs: Iterable[Run]) -> Ranges:
    """The dots of these runs, neighbours joined."""
    ranges: Ranges = {}
    for origin, first, dots, _ in runs:
        spans = ranges.setdefault(origin, [])
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], first + dots - 1)
        else:
            spans.append((first, first + dots - 1))
    return ranges


def rows_within(runs: Iterable[Run], ranges: Ranges) -> list[int]:
    """Indexes of the rows whose dots are in these ranges."""
    indexes: list[int] = []
    start = 0
    for origin, first, dots, rows in runs:
        for low, high in ranges.get(origin, ()):
            begin, end = max(low, first), min(high, first + dots - 1)
            if begin <= end:
                indexes += range(start + (begin - first) * rows, start + (end + 1 - first) * rows)
        start += dots * rows
    return indexes


def take(batch: Batch, indexes: Sequence[int]) -> Batch:
    """A batch of only these rows, given in ascending order."""
    if not indexes:
        return Batch(batch.sender, [], [], [], [])
    origins, sequences = expand(batch.runs)
    place = {index: position for position, index in enumerate(indexes)}
    pick = itemgetter(*indexes) if len(indexes) > 1 else lambda column: (column[indexes[0]],)
    runs = contract(pick(origins), pick(sequences))
    kept = {(run[0], s) for run in runs for s in range(run[1], run[1] + run[2])}
    return Batch(
        batch.sender,
        runs,
        list(pick(batch.keys)),
        list(pick(batch.values)),
        list(pick(batch.clocks)),
        {place[i]: context for i, context in batch.contexts.items() if i in place},
        {place[i]: version for i, version in batch.versions.items() if i in place},
        [place[i] for i in batch.deleted if i in place],
        [dot for dot in batch.traced if dot in kept] if batch.traced else [],
    )


def rows_of(batch: Batch) -> Iterator[Row]:
    """Each row by itself."""
    origins, sequences = expand(batch.runs)
    contexts, versions, deleted = batch.contexts, batch.versions, frozenset(batch.deleted)
    columns = zip(batch.keys, batch.values, origins, sequences, batch.clocks, strict=True)
    for index, (key, value, origin, sequence, clock) in enumerate(columns):
        context = contexts.get(index, NO_CONTEXT)
        yield Row(
            key, value, origin, sequence, clock, context, versions.get(index, 1), index in deleted
        )


def from_rows(rows: Sequence[Row], sender: str, traced: Iterable[Dot] = ()) -> Batch:
    """A batch of these rows; those of one dot stand together."""
    return Batch(
        sender,
        contract([row.origin for row in rows], [row.sequence for row in rows]),
        [row.key for row in rows],
        [row.value for row in rows],
        [row.clock for row in rows],
        {index: row.context for index, row in enumerate(rows) if row.context},
        {index: row.version for index, row in enumerate(rows) if row.version != 1},
        [index for index, row in enumerate(rows) if row.deleted],
        list(traced),
    )


def pack(rows: Iterable[Row], sender: str, limit_bytes: int) -> Iterator[Batch]:
    """Batches of about ``limit_bytes`` each, encoded, of rows in the order of their dots.

    Larger only where the rows of one dot alone are.
    """
    pending: list[Row] = []
    size, dot_starts = _BATCH_OVERHEAD, 0
    for row in rows:
        if pending and row.dot != pending[-1].dot:
            dot_starts = len(pending)
        pending.append(row)
        size += _row_bytes(row)
        if (size > limit_bytes or len(pending) > MAX_ROWS) and dot_starts:
            yield from_rows(pending[:dot_starts], sender)
            pending = pending[dot_starts:]
            size, dot_starts = _BATCH_OVERHEAD + sum(map(_row_bytes, pending)), 0
    if pending:
        yield from_rows(pending, sender)


def _row_bytes(row: Row) -> int:
    size = _ROW_OVERHEAD + 3 * len(row.key) // 2 + size_of(row.value)
    return size + sum(len(origin) + 12 for origin in row.context) if row.context else size


def split(batch: Batch, limit_bytes: int) -> list[bytes]:
    """The batch encoded, in parts of at most ``limit_bytes``; only a dot that alone is larger makes a larger part."""
    whole = encode(batch)
    if len(whole) <= limit_bytes:
        return [whole]
    dots = sum(dots for _, _, dots, _ in batch.runs)
    if dots == 1:
        return [whole]
    middle = _middle(batch.runs)
    count = len(batch.keys)
    left, right = take(batch, range(middle)), take(batch, range(middle, count))
    return [*split(left, limit_bytes), *split(right, limit_bytes)]


def _middle(runs: Sequence[Run]) -> int:
    """Index of the first row of a dot near the middle, neither the first nor past the end."""
    half, index = row_count(runs) // 2, 0
    last_start = 0
    for _, _, dots, rows in runs:
        for _ in range(dots):
            if index and index >= half:
                return index
            last_start = index
            index += rows
    return last_start


def merge(batches: Sequence[Batch], sender: str) -> Batch:
    """All rows of these batches in one. Batches of one origin are put side by side, so that runs join."""
    if len(batches) == 1 and batches[0].sender == sender:
        return batches[0]
    merged = Batch(sender, [], [], [], [], {}, {}, [], [])
    keys = merged.keys
    for batch in sorted(batches, key=_first_dot):
        offset = len(keys)
        keys.extend(batch.keys)
        merged.values.extend(batch.values)
        merged.clocks.extend(batch.clocks)
        for run in batch.runs:
            append_run(merged.runs, run)
        for index, context in batch.contexts.items():
            merged.contexts[offset + index] = context
        for index, version in batch.versions.items():
            merged.versions[offset + index] = version
        if batch.deleted:
            merged.deleted.extend([offset + index for index in batch.deleted])
        merged.traced.extend(batch.traced)
    return merged


def _first_dot(batch: Batch) -> Dot:
    return batch.runs[0][:2] if batch.runs else ("", 0)


def validate(batch: Batch) -> None:
    """Refuse what no sound agent sends: a peer is authenticated, yet not trusted to be free of bugs.

    Raises:
        ValueError: columns of different lengths, dots twice, rows that do not exist, invalid keys,
            values above the limit, numbers out of range.
    """
    count = len(batch.keys)
    if not 0 < count <= MAX_ROWS:
        raise ValueError(f"a batch holds 1 to {MAX_ROWS} rows, not {count}")
    if len(batch.values) != count or len(batch.clocks) != count:
        raise ValueError("columns of different lengths")
    _validate_runs(batch.runs, count)
    _validate_keys(batch.keys)
    # The sum of all is cheap to know and mostly below the limit of one.
    if (
        len(b"".join(batch.values)) > MAX_VALUE_BYTES
        and max(map(size_of, batch.values)) > MAX_VALUE_BYTES
    ):
        raise ValueError(f"a value has over {MAX_VALUE_BYTES} bytes")
    if min(batch.clocks) < 0 or max(batch.clocks) > MAX_CLOCK:
        raise ValueError("a clock is out of range")
    if batch.contexts:
        _validate_contexts(batch.contexts, count)
    for index, version in batch.versions.items():
        if not (0 <= index < count and 1 <= version <= MAX_COUNT):
            raise ValueError(f"row {index} has version {version}")
    if batch.deleted:
        rows = set(batch.deleted)
        if len(rows) != len(batch.deleted) or not (min(rows) >= 0 and max(rows) < count):
            raise ValueError("deleted rows are named twice or do not exist")
    for origin, sequence in batch.traced:
        if not any(o == origin and f <= sequence < f + dots for o, f, dots, _ in batch.runs):
            raise ValueError(f"traced dot {origin}:{sequence} is not in the batch")


def _validate_runs(runs: Sequence[Run], count: int) -> None:
    rows = 0
    for origin, first, dots, each in runs:
        if first < 1 or dots < 1 or each < 1 or first + dots > MAX_COUNT:
            raise ValueError(f"run ({origin!r}, {first}, {dots}, {each}) is out of range")
        if len(origin) > MAX_ORIGIN_CHARACTERS or origin.find("/") < 1:
            raise ValueError(f"origin {origin[:40]!r} is not name/epoch")
        rows += dots * each
    if rows != count:
        raise ValueError(f"runs stand for {rows} rows, columns for {count}")
    if len({run[0] for run in runs}) == len(runs):
        return
    for (origin, first, dots, _), after in pairwise(sorted(runs)):
        if after[0] == origin and after[1] < first + dots:
            raise ValueError(f"a dot of {origin!r} is there twice")


def _validate_keys(keys: Sequence[str]) -> None:
    # One look at all of them; one by one only those of a batch where something stands out. An empty segment
    # anywhere, or an empty key, makes two dots in a row.
    text = f".{'.'.join(keys)}."
    plain = (
        text.isascii()
        and ".." not in text
        and "\\" not in text
        and len(text.encode().translate(None, _CONTROL_CHARACTERS)) == len(text)
        and max(map(len, keys)) <= _LONGEST_FLAT_KEY
    )
    if plain:
        return
    for key in keys:
        try:
            canonical = paths.check(key, system=True)
        except InvalidKey as refused:
            raise ValueError(refused.detail) from None
        if canonical != key:
            raise ValueError(f"key {key!r} is not in its canonical form")


def _validate_contexts(contexts: dict[int, dict[str, int]], count: int) -> None:
    if min(contexts) < 0 or max(contexts) >= count:
        raise ValueError("a context of a row that does not exist")
    for context in contexts.values():
        if not context:
            raise ValueError("an empty context")
        for origin, sequence in context.items():
            if not 1 <= sequence <= MAX_COUNT:
                raise ValueError(f"sequence {sequence} in a context is out of range")
            if len(origin) > MAX_ORIGIN_CHARACTERS:
                raise ValueError("an origin in a context is too long")


def open_batch(body: bytes) -> Batch | None:
    """A batch that came inside another message; None if it is none, or not sound."""
    try:
        batch = decode(body)
        if isinstance(batch, Batch):
            validate(batch)
            return batch
    except (msgspec.MsgspecError, ValueError):
        pass
    return None

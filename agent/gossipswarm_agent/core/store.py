"""The leaves: which rows are current, and the join that decides it.

A leaf holds the rows of which none has seen another; normally there is exactly one. An incoming row is
stale if a held one covers it; otherwise it takes the place of those it covers and stands beside the rest.
That makes the store a join-semilattice: what it holds depends on the set of rows that came, not on their
order or number.

Nothing is copied out of a batch: it is kept as decoded, and a leaf is a pointer to one of its rows. Batches
without a current row go, and wasteful ones are rewritten together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.batch import MAX_ROWS, NO_CONTEXT, Dot, Row, contract, expand, from_rows
from gossipswarm_agent.core.hashtree import HashTree
from gossipswarm_agent.core.keyindex import KeyIndex
from gossipswarm_agent.core.messages import Batch
from gossipswarm_agent.core.resolution import EMPTY_OBJECT

INDEX_BITS: Final = 16
_INDEX_MASK: Final = (1 << INDEX_BITS) - 1
GRAVES_LIMIT: Final = 512
"""Collected tombstones that are remembered, the latest of them."""
_SMALL_CHUNK: Final = 64
"""Current rows below which a chunk is rewritten together with others when there are too many."""
_SPARE_CHUNKS: Final = 256
_SPARE_ROWS: Final = 4096

assert MAX_ROWS <= 1 << INDEX_BITS


class Chunk:
    """A batch that is kept because some of its rows are current."""

    __slots__ = ("_columns", "_deleted", "batch", "hashed", "live")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.live = len(batch.keys)
        self.hashed = False
        """Whether its current rows are counted in the hash tree."""
        self._columns: tuple[list[str], list[int]] | None = None
        self._deleted: frozenset[int] | None = None

    @property
    def dots(self) -> tuple[list[str], list[int]]:
        """Columns of origins and sequences; expanded when first needed."""
        columns = self._columns
        if columns is None:
            columns = self._columns = expand(self.batch.runs)
        return columns

    @property
    def deleted(self) -> frozenset[int]:
        """Rows that are tombstones."""
        deleted = self._deleted
        if deleted is None:
            deleted = self._deleted = frozenset(self.batch.deleted)
        return deleted

    def row(self, index: int) -> Row:
        """One of its rows, current or not."""
        batch = self.batch
        origins, sequences = self.dots
        return Row(
            batch.keys[index],
            batch.values[index],
            origins[index],
            sequences[index],
            batch.clocks[index],
            batch.contexts.get(index, NO_CONTEXT) if batch.contexts else NO_CONTEXT,
            batch.versions.get(index, 1) if batch.versions else 1,
            bool(batch.deleted) and index in self.deleted,
        )


class Outcome(msgspec.Struct, gc=False):
    """What an insertion did."""

    changed: list[str]
    """Leaves whose only current row is another now, or is the first."""
    contended: dict[str, tuple[Row, ...]]
    """Leaves that hold concurrent rows now or did before: their rows before."""
    overlapped: set[str]
    """Leaves with a value that have leaves below them, where either side changed."""


class Store:
    """Current rows by leaf."""

    def __init__(self) -> None:
        self.leaves: dict[str, int] = {}
        """Leaf to a pointer to its current row (one of them, where there are several)."""
        self.siblings: dict[str, tuple[int, ...]] = {}
        """Leaf to all its current rows, where writes were concurrent."""
        self.tombstones: set[str] = set()
        """Leaves with a deletion among their current rows."""
        self.overlaps: set[str] = set()
        """Leaves that have a value and, perhaps, leaves below them."""
        self.graves: dict[str, Row] = {}
        """Collected tombstones. A write that did not know one brings it back, and loses or wins like
        everywhere else; a new local write goes on from it."""
        self.chunks: dict[int, Chunk] = {}
        self.generation = 0
        """Rises when chunks were rewritten."""
        self.index = KeyIndex()
        self.hashes = HashTree()
        """Brought up to date by ``tree``."""
        self._unhashed: list[int] = []
        self._next = 0
        self._rows = 0

    # --- reading ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.leaves)

    def rows(self, key: str) -> tuple[Row, ...]:
        """The current rows of a leaf: none, one, or several concurrent ones."""
        pointer = self.leaves.get(key)
        if pointer is None:
            return ()
        if self.siblings and key in self.siblings:
            return tuple(map(self.row, self.siblings[key]))
        return (self.row(pointer),)

    def row(self, pointer: int) -> Row:
        """The row a pointer stands for."""
        return self.chunks[pointer >> INDEX_BITS].row(pointer & _INDEX_MASK)

    def lacks(self, row: Row) -> bool:
        """Whether a row, if it was here before, went for no good reason: nothing here covers it, and it is no
        tombstone of a leaf that is not in use."""
        grave = self.graves.get(row.key)
        held = self.rows(row.key) if grave is None else (grave,)
        if any(other.dot == row.dot or other.covers(row) for other in held):
            return False
        return not row.deleted or (bool(held) and grave is None)

    def dot(self, key: str) -> Dot:
        """The write that the current row of a leaf belongs to (one of them, where there are several)."""
        pointer = self.leaves[key]
        origins, sequences = self.chunks[pointer >> INDEX_BITS].dots
        index = pointer & _INDEX_MASK
        return origins[index], sequences[index]

    def below(self, key: str, after: str = "") -> Sequence[str]:
        """Leaves strictly below ``key``, in order, from ``after`` on."""
        return self.index.below(key, after)

    def indexes_of_current(self, number: int) -> Sequence[int]:
        """Rows of a chunk that are current."""
        chunk = self.chunks[number]
        keys = chunk.batch.keys
        if chunk.live == len(keys):
            return range(len(keys))
        base, leaves, siblings = number << INDEX_BITS, self.leaves, self.siblings
        return [
            index
            for index, key in enumerate(keys)
            if leaves.get(key) == base + index or base + index in siblings.get(key, ())
        ]

    def all_rows(self) -> Iterator[Row]:
        """Every current row."""
        for number in list(self.chunks):
            for index in self.indexes_of_current(number):
                yield self.row((number << INDEX_BITS) + index)

    @property
    def next_number(self) -> int:
        """Number of the next chunk; all chunks have lower ones."""
        return self._next

    @property
    def tree(self) -> HashTree:
        """Hashes over the current rows; those that came since the last look are counted now.

        A deletion counts only beside a concurrent write: agents collect the others at different moments, and
        are not different for that.
        """
        keys: list[str] = []
        origins: list[str] = []
        sequences: list[int] = []
        for number in self._unhashed:
            chunk = self.chunks.get(number)
            if chunk is None:
                continue
            chunk.hashed = True
            indexes = self.indexes_of_current(number)
            if chunk.batch.deleted:
                siblings, names = self.siblings, chunk.batch.keys
                indexes = [
                    index
                    for index in indexes
                    if index not in chunk.deleted or names[index] in siblings
                ]
            chunk_origins, chunk_sequences = chunk.dots
            keys += [chunk.batch.keys[index] for index in indexes]
            origins += [chunk_origins[index] for index in indexes]
            sequences += [chunk_sequences[index] for index in indexes]
        self._unhashed.clear()
        if keys:
            self.hashes.add(keys, origins, sequences)
        return self.hashes

    # --- joining ----------------------------------------------------------------------------------

    def insert(self, batch: Batch) -> Outcome:
        """Join every row of the batch in."""
        keys = batch.keys
        if self.graves and not self.graves.keys().isdisjoint(keys):
            self._exhume(keys)
        number, chunk = self._append(batch)
        base = number << INDEX_BITS
        leaves = self.leaves
        before = len(leaves)
        outcome = Outcome(keys, {}, set())
        new: Sequence[str] = keys
        if leaves.keys().isdisjoint(keys):
            leaves.update(zip(keys, range(base, base + len(keys)), strict=True))
            if len(leaves) - before < len(keys):
                for key in keys:  # one of them is there twice: again, in order
                    leaves.pop(key, None)
                new = self._join_each(chunk, base, outcome)
        else:
            new = self._join_each(chunk, base, outcome)
        risen = self.index.add(new) if new else ()
        if batch.deleted:
            self._note_tombstones(batch, base, outcome, new)
        if risen or self.overlaps or not self.index.interior.isdisjoint(keys):
            self._note_overlaps(keys, risen, outcome)
        if self._is_wasteful():
            self._rewrite()
        return outcome

    def _append(self, batch: Batch) -> tuple[int, Chunk]:
        number = self._next
        self._next += 1
        chunk = self.chunks[number] = Chunk(batch)
        self._unhashed.append(number)
        if len(self._unhashed) > 2 * len(self.chunks) + _SPARE_CHUNKS:
            self._unhashed = [each for each in self._unhashed if each in self.chunks]
        self._rows += len(batch.keys)
        return number, chunk

    def _join_each(self, chunk: Chunk, base: int, outcome: Outcome) -> list[str]:
        """Insert row by row; the keys that were new."""
        leaves, siblings, tombstones, chunks = (
            self.leaves,
            self.siblings,
            self.tombstones,
            self.chunks,
        )
        contexts = chunk.batch.contexts
        changed: list[str] = []
        new: list[str] = []
        for pointer, key in enumerate(chunk.batch.keys, base):
            held = leaves.get(key)
            if held is None:
                leaves[key] = pointer
                new.append(key)
                changed.append(key)
                continue
            context = contexts.get(pointer - base)
            if context is not None and key not in siblings:
                origins, sequences = chunks[held >> INDEX_BITS].dots
                index = held & _INDEX_MASK
                if context.get(origins[index], 0) >= sequences[index]:
                    leaves[key] = pointer
                    self._retire(key, held)
                    if tombstones:
                        tombstones.discard(key)
                    changed.append(key)
                    continue
            self._join(key, pointer, outcome)
        outcome.changed = changed
        return new

    def _join(self, key: str, pointer: int, outcome: Outcome) -> None:
        held = self.siblings.get(key) or (self.leaves[key],)
        rows = [self.row(each) for each in held]
        row = self.row(pointer)
        if any(other.dot == row.dot or other.covers(row) for other in rows):
            self._retire(key, pointer)
            return
        outcome.contended.setdefault(key, tuple(rows))
        kept = [each for each, other in zip(held, rows, strict=True) if not row.covers(other)]
        self._change(key, held, (*kept, pointer))

    def _change(self, key: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """The current rows of a leaf become others."""
        self._count(key, before, self.hashes.remove)
        for pointer in before:
            if pointer not in after:
                self._release(pointer)
        self.siblings.pop(key, None)
        self.tombstones.discard(key)
        if not after:
            del self.leaves[key]
            self.overlaps.discard(key)
            self.index.remove(key)
            return
        self.leaves[key] = after[-1]
        if len(after) > 1:
            self.siblings[key] = after
        if any(map(self._is_deletion, after)):
            self.tombstones.add(key)
        self._count(key, after, self.hashes.insert)

    def _count(
        self, key: str, pointers: tuple[int, ...], change: Callable[[str, str, int], None]
    ) -> None:
        """Take rows out of the hashes, or in, where their chunk is counted already."""
        for pointer in pointers:
            chunk = self.chunks[pointer >> INDEX_BITS]
            if chunk.hashed and (len(pointers) > 1 or not self._is_deletion(pointer)):
                origins, sequences = chunk.dots
                change(key, origins[pointer & _INDEX_MASK], sequences[pointer & _INDEX_MASK])

    def _is_deletion(self, pointer: int) -> bool:
        chunk = self.chunks[pointer >> INDEX_BITS]
        return bool(chunk.batch.deleted) and (pointer & _INDEX_MASK) in chunk.deleted

    def _retire(self, key: str, pointer: int) -> None:
        """The only current row of a leaf, or one that never became current, makes way for another."""
        if self.chunks[pointer >> INDEX_BITS].hashed:
            self._count(key, (pointer,), self.hashes.remove)
        self._release(pointer)

    def _release(self, pointer: int) -> None:
        number = pointer >> INDEX_BITS
        chunk = self.chunks[number]
        chunk.live -= 1
        if not chunk.live:
            del self.chunks[number]
            self._rows -= len(chunk.batch.keys)

    def _note_tombstones(
        self, batch: Batch, base: int, outcome: Outcome, new: Collection[str]
    ) -> None:
        keys = batch.keys
        for index in batch.deleted:
            if self.leaves.get(keys[index]) == base + index:
                self.tombstones.add(keys[index])
        unseen = set(new)
        gone = {keys[index] for index in batch.deleted} & unseen & self.tombstones
        if gone:
            # A deletion of what was never here changes nothing that anybody sees.
            outcome.changed = [key for key in outcome.changed if key not in gone]

    def _note_overlaps(self, keys: Sequence[str], risen: Iterable[str], outcome: Outcome) -> None:
        interior, leaves, overlaps = self.index.interior, self.leaves, self.overlaps
        for key in [*risen, *(key for key in keys if key in interior)]:
            if key not in leaves:
                continue
            if self.has_value(key):
                overlaps.add(key)
                outcome.overlapped.add(key)
            else:
                overlaps.discard(key)
        if overlaps:
            parents = {key.rpartition(".")[0] for key in keys}
            above = parents.union(*map(paths.ancestors, parents))
            outcome.overlapped |= above & overlaps

    def forget_overlaps(self) -> None:
        """Look again which leaves with a value have leaves below them, after some were collected."""
        self.overlaps = {key for key in self.overlaps if not self.index.forget_empty(key)}

    def has_value(self, key: str) -> bool:
        """Whether some current row is neither a deletion nor the mark of an empty object."""
        return any(not row.deleted and row.value != EMPTY_OBJECT for row in self.rows(key))

    # --- removing ---------------------------------------------------------------------------------

    def remove(self, key: str, dots: Collection[Dot]) -> None:
        """Take these rows of a leaf out, without trace."""
        if key not in self.leaves:
            return
        held = self.siblings.get(key) or (self.leaves[key],)
        kept = tuple(pointer for pointer in held if self.row(pointer).dot not in dots)
        if len(kept) < len(held):
            self._change(key, held, kept)

    def bury(self, key: str) -> None:
        """Collect the tombstone that is the only row of this leaf."""
        (row,) = self.rows(key)
        self.remove(key, (row.dot,))
        self.graves[key] = row
        if len(self.graves) > GRAVES_LIMIT:
            del self.graves[next(iter(self.graves))]

    def _exhume(self, keys: Iterable[str]) -> None:
        graves = self.graves
        found = dict.fromkeys(key for key in keys if key in graves)
        rows = sorted((graves.pop(key) for key in found), key=lambda row: row.dot)
        self.insert(from_rows(rows, ""))

    # --- keeping it small -------------------------------------------------------------------------

    def _is_wasteful(self) -> bool:
        """Over half of the rows kept are stale, or the chunks are too many for what they hold."""
        live = len(self.leaves)
        return (
            self._rows > 2 * live + _SPARE_ROWS
            or len(self.chunks) > live // (_SMALL_CHUNK // 4) + _SPARE_CHUNKS
        )

    def _rewrite(self) -> None:
        """Move the current rows of wasteful chunks into few full ones. Amortised: each row is moved again only
        after as many others came or went."""
        _ = self.tree  # what is moved is counted already
        moved: list[tuple[Dot, int]] = []
        for number, chunk in list(self.chunks.items()):
            if chunk.live >= _SMALL_CHUNK and 2 * chunk.live > len(chunk.batch.keys):
                continue
            origins, sequences = chunk.dots
            base = number << INDEX_BITS
            moved += [
                ((origins[index], sequences[index]), base + index)
                for index in self.indexes_of_current(number)
            ]
        moved.sort()
        for start in range(0, len(moved), MAX_ROWS):
            self._move([pointer for _, pointer in moved[start : start + MAX_ROWS]])
        self.generation += 1

    def _move(self, pointers: Sequence[int]) -> None:
        rows = [self.row(pointer) for pointer in pointers]
        detached = Batch(
            "",
            contract([row.origin for row in rows], [row.sequence for row in rows]),
            [row.key for row in rows],
            # A raw value is a view of the message that it came in; a copy lets go of the message.
            [row.value.copy() for row in rows],
            [row.clock for row in rows],
            {index: row.context for index, row in enumerate(rows) if row.context},
            {index: row.version for index, row in enumerate(rows) if row.version != 1},
            [index for index, row in enumerate(rows) if row.deleted],
        )
        number, chunk = self._append(detached)
        self._unhashed.pop()
        chunk.hashed = True
        base = number << INDEX_BITS
        for index, (row, old) in enumerate(zip(rows, pointers, strict=True)):
            if self.leaves[row.key] == old:
                self.leaves[row.key] = base + index
            siblings = self.siblings.get(row.key)
            if siblings:
                self.siblings[row.key] = tuple(
                    base + index if each == old else each for each in siblings
                )
            self._release(old)

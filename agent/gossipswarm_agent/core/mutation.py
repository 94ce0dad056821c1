"""Turning what a caller wants into rows: which leaves a write sets and deletes, and what it has seen of them.

Mutations of one write are planned one after the other, each on top of the one before, and nothing touches
the store until all of them are known to be good.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.batch import MAX_ROWS, MAX_VALUE_BYTES, NIL, Row, size_of
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.hashtree import HashTree
from gossipswarm_agent.core.reading import Reader
from gossipswarm_agent.core.resolution import EMPTY_OBJECT, Policies, decode_value
from gossipswarm_agent.core.store import Store

MAX_WRITE_BYTES: Final = 16 << 20
"""Values of one write together: it travels as one message."""
MAX_NESTING: Final = 64
"""Arrays and objects inside of each other within one leaf."""
_INTEGERS: Final = range(-(1 << 63), 1 << 64)

_encode: Final = msgspec.msgpack.Encoder().encode


class Overlay:
    """The store as it will be once the rows planned so far are in it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._planned: dict[str, Row] = {}
        self._interior: set[str] = set()

    @property
    def overlaps(self) -> Collection[str]:
        """Leaves that have a value and may have leaves below them."""
        return self._store.overlaps

    def rows(self, key: str) -> tuple[Row, ...]:
        """Current rows of a leaf; a collected tombstone if that is all that is known of it."""
        row = self._planned.get(key)
        if row is not None:
            return (row,)
        rows = self._store.rows(key)
        if not rows and key in self._store.graves:
            return (self._store.graves[key],)
        return rows

    def below(self, key: str, after: str = "") -> Sequence[str]:
        """Leaves strictly below a key, in order."""
        stored = self._store.below(key, after)
        if key not in self._interior:
            return stored
        start = key + "."
        planned = {leaf for leaf in self._planned if leaf.startswith(start) and leaf > after}
        return sorted(planned.union(stored))

    def put(self, row: Row) -> None:
        """Plan a row."""
        if row.key not in self._planned:
            self._interior.update(paths.ancestors(row.key))
        self._planned[row.key] = row


class Plan:
    """The rows of one write, mutation by mutation."""

    def __init__(self, store: Store, policies: Policies, hashes: HashTree) -> None:
        self._overlay = Overlay(store)
        self._reader = Reader(self._overlay, policies, hashes)
        self._sparse = policies.settings.compression == "delta"
        self._draft: dict[str, msgspec.Raw | None] = {}
        """Leaves of the mutation in hand: their new value, None for deletion."""
        self._bytes = 0
        self.rows: list[Row] = []

    def add(
        self, mutation: Mutation, key: str, origin: str, sequence: int, clock: int
    ) -> list[Row]:
        """Plan one mutation of ``key`` under this dot; its rows, none if it changes nothing.

        Raises:
            WriteRefused: 412 precondition, 413 too large, 422 not a value.
        """
        if mutation.if_match is not None:
            self._check_precondition(key, mutation.if_match)
        self._draft.clear()
        match mutation.op:
            case "put":
                self._open_above(key)
                self._replace(key, mutation.value)
            case "merge":
                self._open_above(key)
                self._merge(key, mutation.value)
            case "delete":
                self._delete(key)
            case "leaf":
                self._open_above(key)
                self._delete(key)
                self._set(key, mutation.value)
            case _:
                raise WriteRefused(
                    422, "invalid-operation",
                    f"unknown operation {mutation.op!r}; expected put, merge, delete or leaf",
                )  # fmt: skip
        rows = [
            self._row(leaf, value, origin, sequence, clock)
            for leaf, value in self._draft.items()
            if not self._is_unchanged(leaf, value, key)
        ]
        if len(self.rows) + len(rows) > MAX_ROWS:
            raise WriteRefused(
                413, "too-many-leaves", f"one call changes at most {MAX_ROWS} leaves"
            )
        for row in rows:
            self._overlay.put(row)
        self.rows += rows
        return rows

    def _check_precondition(self, key: str, expected: str) -> None:
        etag = self._reader.summary(key).etag
        if expected == "*":
            if not etag:
                raise WriteRefused(412, "precondition-failed", f"{key} does not exist")
        elif etag != expected:
            detail = f"{key} has etag {etag}" if etag else f"{key} does not exist"
            wanted = expected or "that it does not exist"
            raise WriteRefused(412, "precondition-failed", f"{detail}; expected {wanted}")

    # --- what is set and deleted ------------------------------------------------------------------

    def _replace(self, key: str, value: Any) -> None:
        leaves = paths.flatten(key, value)
        self._delete(key)
        for leaf, member in leaves.items():
            self._set(leaf, member)

    def _merge(self, key: str, patch: Any) -> None:
        """RFC 7396: members are merged, null deletes, anything but an object replaces."""
        if not isinstance(patch, Mapping):
            self._replace(key, patch)
            return
        self._open(key)
        for name, member in patch.items():
            child = paths.child(key, name)
            if member is None:
                self._delete(child)
            else:
                self._merge(child, member)
        if not self._is_live(key) and not any(map(self._is_live, self._below(key))):
            self._draft[key] = EMPTY_OBJECT

    def _delete(self, key: str) -> None:
        for leaf in [*self._below(key), key]:
            if self._stored_live(leaf):
                self._draft[leaf] = None
            else:
                self._draft.pop(leaf, None)

    def _set(self, key: str, value: Any) -> None:
        encoded = encode_value(key, value)
        self._bytes += size_of(encoded)
        if self._bytes > MAX_WRITE_BYTES:
            raise WriteRefused(
                413, "write-too-large", f"the values of one call have over {MAX_WRITE_BYTES} bytes"
            )
        self._draft[key] = encoded

    def _open_above(self, key: str) -> None:
        # The shortest first: what comes out of it may lie above ``key`` as well.
        for above in reversed([*paths.ancestors(key)]):
            self._open(above)

    def _open(self, key: str) -> None:
        """Make way for leaves below ``key``: a value there goes, but the members of an object that was stored
        whole stay, as leaves of their own."""
        if not self._is_live(key):
            return
        value = self._draft[key] if key in self._draft else self._reader.value(key)
        if value == EMPTY_OBJECT:
            return
        self._delete_leaf(key)
        members = decode_value(value) if value is not None else None
        if isinstance(members, dict):
            for leaf, member in paths.flatten(key, members).items():
                self._set(leaf, member)

    def _delete_leaf(self, key: str) -> None:
        if self._stored_live(key):
            self._draft[key] = None
        else:
            self._draft.pop(key, None)

    def _is_live(self, key: str) -> bool:
        if key in self._draft:
            return self._draft[key] is not None
        return self._stored_live(key)

    def _stored_live(self, key: str) -> bool:
        return any(not row.deleted for row in self._overlay.rows(key))

    def _below(self, key: str) -> list[str]:
        start = key + "."
        drafted = [leaf for leaf in self._draft if leaf.startswith(start)]
        return [*self._overlay.below(key), *drafted]

    # --- what was seen ----------------------------------------------------------------------------

    def _is_unchanged(self, leaf: str, value: msgspec.Raw | None, key: str) -> bool:
        """Under delta compression, whether this leaf of a larger write need not travel. A leaf that was named
        itself is always written: its caller wants a new version."""
        if not self._sparse or leaf == key or value is None:
            return False
        rows = self._overlay.rows(leaf)
        return (
            len(rows) == 1
            and not rows[0].deleted
            and rows[0].value == value
            and not self._overlay.overlaps
        )

    def _row(
        self, key: str, value: msgspec.Raw | None, origin: str, sequence: int, clock: int
    ) -> Row:
        seen = self._overlay.rows(key)
        return Row(
            key,
            NIL if value is None else value,
            origin,
            sequence,
            clock,
            _context(seen),
            1 + max((row.version for row in seen), default=0),
            value is None,
        )


def _context(seen: Iterable[Row]) -> dict[str, int]:
    """Everything that was seen of a leaf, and what that had seen.

    Not even what all agents have replaced may be left out: one that a crash sets back holds it again, and
    may never see the row that replaced it if that has been replaced in turn.
    """
    context: dict[str, int] = {}
    for row in seen:
        for origin, sequence in (*row.context.items(), (row.origin, row.sequence)):
            if sequence > context.get(origin, 0):
                context[origin] = sequence
    return context


def encode_value(key: str, value: Any) -> msgspec.Raw:
    """The value of one leaf, encoded.

    Raises:
        WriteRefused: 413 above ``MAX_VALUE_BYTES``; 422 for what JSON cannot say (NaN, infinity, a byte
            string, members that are no strings) and for integers beyond 64 bits.
    """
    _check_value(key, value, 0)
    try:
        encoded = msgspec.Raw(_encode(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(key, str(error)) from None
    if size_of(encoded) > MAX_VALUE_BYTES:
        raise WriteRefused(
            413, "value-too-large", f"the value of {key} has over {MAX_VALUE_BYTES} bytes"
        )
    return encoded


def _check_value(key: str, value: Any, depth: int) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise _invalid(key, f"{value} does not fit in 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(key, f"{value} is no JSON number")
    elif depth >= MAX_NESTING:
        raise _invalid(key, f"it is nested more than {MAX_NESTING} levels deep")
    elif isinstance(value, (list, tuple)):
        for member in value:
            _check_value(key, member, depth + 1)
    elif isinstance(value, Mapping):
        for name, member in value.items():
            if not isinstance(name, str):
                raise _invalid(key, f"the member name {name!r} is no string")
            _check_value(key, member, depth + 1)
    else:
        raise _invalid(key, f"{type(value).__name__} is no JSON type")


def _invalid(key: str, detail: str) -> WriteRefused:
    return WriteRefused(422, "invalid-value", f"the value of {key} is not valid: {detail}")

"""How concurrent writes of one leaf are decided: the policies, and which of them a key falls under.

Every policy is a function of the set of concurrent rows alone, never of the order in which they came, so
agents that hold the same rows see the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gossipswarm_agent.core.batch import Row
from gossipswarm_agent.core.settings import Resolution, Settings

LAST_WRITE: Final = "last-write-wins"
"""How conflicts are reported that time decided, whatever the policy is called."""

EMPTY_OBJECT: Final = msgspec.Raw(b"\x80")
"""Value of the leaf that marks an object without members."""

_sorted_json: Final = msgspec.json.Encoder(order="sorted")


def decode_value(value: msgspec.Raw) -> Any:
    """The JSON value; None where a peer sent what is no value at all."""
    try:
        return msgspec.msgpack.decode(value, ext_hook=_refuse_extension)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None


def _refuse_extension(code: int, data: memoryview) -> Any:
    raise ValueError(f"extension type {code} of {len(data)} bytes is not JSON")


class Policies:
    """The policy of each key under certain settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._earliest = settings.healing_strategy == "merge"
        self._default: Resolution = settings.conflict_resolution
        # Longest first: the most specific prefix decides.
        self._prefixes = sorted(
            settings.conflict_resolution_prefixes.items(), key=lambda item: -len(item[0])
        )

    def of(self, key: str) -> Resolution:
        """The policy for this key: that of the longest prefix, segment by segment, or the general one."""
        for prefix, resolution in self._prefixes:
            if key.startswith(prefix) and key[len(prefix) : len(prefix) + 1] in ("", "."):
                return resolution
        return self._default

    def label(self, key: str) -> str:
        """The rule that decides conflicts of this key, as the history reports it."""
        resolution = self.of(key)
        return LAST_WRITE if resolution == "vector-clock" else resolution

    def winner(self, rows: Sequence[Row]) -> Row:
        """The row whose value is visible among the concurrent rows of one leaf."""
        if len(rows) == 1:
            return rows[0]
        return _CHOICES[self.of(rows[0].key)](rows, self._earliest)

    def value(self, rows: Sequence[Row]) -> Any:
        """The visible value of these rows, of which at least one is no deletion."""
        if len(rows) > 1 and self.of(rows[0].key) == "union":
            arrays = [decode_value(row.value) for row in rows if not row.deleted]
            arrays = [array for array in arrays if isinstance(array, list)]
            if arrays:
                return union(arrays)
        return decode_value(self.winner(rows).value)

    def visible(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that the visible value is made of."""
        if len(rows) > 1 and self.of(rows[0].key) == "union":
            arrays = [row for row in rows if _is_array(row)]
            if arrays:
                return arrays
        return (self.winner(rows),)

    def is_open(self, rows: Sequence[Row]) -> bool:
        """Whether a reader should know that concurrent writes were decided by policy."""
        return len(rows) > 1 and self.of(rows[0].key) != LAST_WRITE


def union(arrays: Sequence[Sequence[Any]]) -> list[Any]:
    """Every element of these arrays once: numbers, then strings, then the rest, each in ascending order."""
    members: dict[bytes, Any] = {}
    for array in arrays:
        for member in array:
            members.setdefault(_sorted_json.encode(member), member)
    return [members[text] for text in sorted(members, key=lambda text: _rank(members[text], text))]


def _rank(member: Any, text: bytes) -> tuple[int, Any, bytes]:
    if isinstance(member, (int, float)) and not isinstance(member, bool):
        return (0, member, text)
    if isinstance(member, str):
        return (1, member, text)
    return (2, 0, text)


def _last(rows: Sequence[Row], _earliest: bool = False) -> Row:
    return max(rows, key=_age)


def _manual(rows: Sequence[Row], earliest: bool) -> Row:
    return min(rows, key=_age) if earliest else _last(rows)


def _union(rows: Sequence[Row], _earliest: bool) -> Row:
    return _last([row for row in rows if _is_array(row)] or rows)


def _extreme(pick: Callable[..., Any]) -> Callable[[Sequence[Row], bool], Row]:
    """By value: a number before a string before anything else before a deletion; ties go to the last write."""

    def choose(rows: Sequence[Row], _earliest: bool) -> Row:
        ranked = [(_kind(row), row) for row in rows]
        best = min(kind for (kind, _), _ in ranked)
        values = [(value, row) for (kind, value), row in ranked if kind == best]
        extreme = pick(value for value, _ in values)
        return _last([row for value, row in values if value == extreme])

    return choose


def _kind(row: Row) -> tuple[int, Any]:
    if row.deleted:
        return (3, 0)
    value = decode_value(row.value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (2, 0)


def _is_array(row: Row) -> bool:
    return not row.deleted and isinstance(decode_value(row.value), list)


def _age(row: Row) -> tuple[int, str, int]:
    return row.age


_CHOICES: Final[Mapping[str, Callable[[Sequence[Row], bool], Row]]] = {
    "vector-clock": _last,
    LAST_WRITE: _last,
    "max": _extreme(max),
    "min": _extreme(min),
    "union": _union,
    "manual": _manual,
}

"""What edges say of their files, counted: who scrapes an agent need not scrape the thousands of edges below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["applied", "unapplied", "trouble"]
"""Of a projection: the application has what is on disk, as far as it lets anybody know; it does not; or the newest version is not on disk."""


class _Projection(msgspec.Struct):
    written: bool = False
    applied: bool = False
    trouble: str | None = None

    @property
    def state(self) -> State:
        if self.trouble is not None or not self.written:
            return "trouble"
        return "applied" if self.applied else "unapplied"


class _Report(msgspec.Struct):
    projections: list[_Projection] = []


_decode = msgspec.json.Decoder(_Report).decode


def count(reports: Iterable[str | None]) -> Mapping[State, int]:
    """Projections by state. A report that makes no sense counts for none: whoever may read can be an edge."""
    counts: Counter[State] = Counter()
    for report in reports:
        with suppress(msgspec.MsgspecError):
            found = _Report() if report is None else _decode(report)
            counts.update(projection.state for projection in found.projections)
    return counts

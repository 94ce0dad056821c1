"""Plans as lines of a batch: pure.

An agent applies the lines that arrive together as one write, and other agents receive them as one message: readers
see a whole version or none of it, up to some hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from gossipswarm_operator.agent_documents import Line
from gossipswarm_operator.swarmconfig import keys
from gossipswarm_operator.swarmconfig.keys import CANARY, CANARY_REJECTED, Leaves
from gossipswarm_operator.swarmconfig.planning import Delta

LINE_BYTES: Final = 512 << 10
"""Values and keys of one line; an agent takes 1 MiB with everything around them."""
LINE_LEAVES: Final = 5_000
TRACED_LINES: Final = 8
"""Up to so many lines each asks for receipts; of more, the last."""


def overlay_key(region: str, prefix: str) -> str:
    """Where the canary regions' overlay of a prefix stands."""
    return f"{CANARY}.{keys.escape(region)}.{prefix}"


def rejection_key(region: str, prefix: str) -> str:
    """Where applications of a canary region say what is wrong with the version on trial."""
    return f"{CANARY_REJECTED}.{keys.escape(region)}.{prefix}"


def base_lines(prefix: str, delta: Delta, etag: str | None = None) -> list[Line]:
    """What brings the prefix into the wanted state.

    ``etag``, if given, is that of the prefix as it was planned for ("" = nothing there), and has to hold still; it is
    checked where one line does everything.
    """
    lines = [Line(keys.below(prefix, key), "delete") for key in delta.deletes]
    # A merge patch cannot say null, which is a value here.
    nulls = [key for key, value in delta.sets.items() if value is None]
    lines += [Line(keys.below(prefix, key), "put", None) for key in nulls]
    values = {key: value for key, value in delta.sets.items() if value is not None}
    lines += [Line(prefix, "merge", keys.tree_of(part)) for part in _parts(values)]
    if len(lines) == 1 and etag is not None:
        lines = [msgspec.structs.replace(lines[0], if_match=etag)]
    return lines


def overlay_lines(prefix: str, regions: Iterable[str], patch: Leaves) -> list[Line]:
    """What puts a version on trial in these regions, in place of any before it, and forgets old rejections."""
    lines: list[Line] = []
    for region in regions:
        key = overlay_key(region, prefix)
        lines.append(Line(rejection_key(region, prefix), "delete"))
        first, *rest = list(_parts(patch)) or [{}]
        lines.append(Line(key, "put", keys.tree_of(first)))
        for part in rest:
            lines += [Line(keys.below(key, leaf), "put", value) for leaf, value in part.items()]
    return lines


def removal_lines(prefix: str, regions: Iterable[str]) -> list[Line]:
    """What ends a trial in these regions."""
    return [
        Line(key, "delete")
        for region in regions
        for key in (overlay_key(region, prefix), rejection_key(region, prefix))
    ]


def traced(lines: Sequence[Line]) -> list[Line]:
    """The same lines, with so many of them asking for receipts that the last to arrive is one of them."""
    if len(lines) <= TRACED_LINES:
        return [msgspec.structs.replace(line, trace=True) for line in lines]
    return [*lines[:-1], msgspec.structs.replace(lines[-1], trace=True)]


def _parts(values: Leaves) -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {}
    size = 0
    for key, value in values.items():
        weight = len(key) + len(msgspec.json.encode(value)) + 8
        if part and (size + weight > LINE_BYTES or len(part) >= LINE_LEAVES):
            yield part
            part, size = {}, 0
        part[key] = value
        size += weight
    if part:
        yield part

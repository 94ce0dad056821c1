"""How long flips of a flag took to reach everybody: from what each application says it saw when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil

Seen = Mapping[str, Mapping[str, float]]
"""What one application has seen: file to release to when, in seconds of the wall clock."""


class Late(Exception):
    """Somebody has not seen a flip in time."""


def await_release(
    ask: Callable[[], Sequence[Seen]],
    file: str,
    release: str,
    begun: float,
    seconds: float,
    every: float,
) -> list[float]:
    """Seconds from ``begun`` until each application saw this release in this file, once all have. Raises Late."""
    ends = time.monotonic() + seconds
    while True:
        answers = ask()
        times = [each[file][release] for each in answers if release in each.get(file, {})]
        if answers and len(times) == len(answers):
            return [max(0.0, at - begun) for at in times]
        if time.monotonic() > ends:
            raise Late(
                f"{len(times)} of {len(answers)} have seen {release} in {file} after {seconds:g} s"
            )
        time.sleep(every)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def row(what: str, flips: Sequence[Sequence[float]]) -> str:
    """A line of the table: over all applications and flips, and when the last application had each flip."""
    every = [seconds for flip in flips for seconds in flip]
    last = [max(flip) for flip in flips]
    cells = (percentile(every, 0.5), percentile(every, 0.99), percentile(last, 0.5), max(last))
    return f"{what:<44}" + "".join(f"{show(seconds):>12}" for seconds in cells)


HEADING = f"{'':<44}" + "".join(f"{word:>12}" for word in ("p50", "p99", "last, p50", "last, max"))


def show(seconds: float) -> str:
    """A duration to read."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

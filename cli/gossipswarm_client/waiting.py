"""When to try again, how long to pause, and what it means for something to have happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import urandom
from typing import Any

from gossipswarm_client import calls, results
from gossipswarm_client.calls import Call, Line, encode_line
from gossipswarm_client.errors import ApiError, Degraded, NotFound, Throttled, Unavailable

CONVERGENCE = "convergence-reached"

SILENCE_SECONDS = 45.0
"""A watch that carries nothing for so long, not even a heartbeat, is broken."""

GROUP_LINES = 128
GROUP_BYTES = 32 << 10
"""A group of lines is sent in one go. Several of them fit into the buffers on the way, so that sending never
waits for acknowledgements to be read."""


class Backoff:
    """Pauses that double, each somewhere between half of it and all of it, so that clients spread out."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self.current = first

    def reset(self) -> None:
        """It worked: start over."""
        self.current = self._first

    def next(self) -> float:
        """Seconds to pause now."""
        pause = self.current * (128 + urandom(1)[0] / 2) / 256
        self.current = min(self._longest, self.current * 2)
        return pause


def is_worth_retrying(error: ApiError) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error, Throttled | Unavailable) and not isinstance(error, Degraded)


def group_lines(lines: Iterable[Line | Mapping[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Lines of a batch, encoded, by groups: how many, and their bytes."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        part = encode_line(line)
        parts.append(part)
        size += len(part)
        if len(parts) >= GROUP_LINES or size >= GROUP_BYTES:
            yield len(parts), b"".join(parts)
            parts, size = [], 0
    if parts:
        yield len(parts), b"".join(parts)


def nothing_traced() -> NotFound:
    """There is no write whose convergence could be waited for."""
    detail = "this agent has no traced write to wait for; write with trace=True"
    return NotFound(404, {"reason": "nothing-traced", "detail": detail})


class Awaited:
    """A question to ask again and again, and the answer that is waited for."""

    __slots__ = ("holds", "request")

    def __init__(
        self, request: Call[results.Document], holds: Callable[[results.Document], bool]
    ) -> None:
        self.request = request
        self.holds = holds


def has_happened(event: str) -> Awaited:
    """How to tell that an event has come. Raises ValueError for one that is not known."""
    if event == "ready":
        return Awaited(calls.ready(), lambda found: found.status == "ready")
    wanted = {"partition-detected": "partitioned", "partition-healed": "healthy"}.get(event)
    if wanted is None:
        known = f"{CONVERGENCE}, ready, partition-detected, partition-healed"
        raise ValueError(f"there is no event {event!r}; known: {known}")
    return Awaited(
        Call("GET", "/v1/partition", results.Document), lambda found: found.status == wanted
    )

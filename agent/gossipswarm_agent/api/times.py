"""Times and durations as they stand in the API."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

DURATION: Final = r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h)?$"
Duration: TypeAlias = Annotated[
    str,
    Meta(
        pattern=DURATION,
        description="a duration: `500ms`, `30s`, `5m`, `1h`, or a number of milliseconds",
    ),
]

_PARTS: Final = re.compile(r"([0-9.]+)([a-z]*)")
_UNITS: Final = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def milliseconds(duration: Duration) -> int:
    """The milliseconds of a duration that matches the pattern."""
    found = _PARTS.fullmatch(duration)
    assert found is not None, duration
    return round(float(found[1]) * _UNITS[found[2]])


def timestamp(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59"  # a clock beyond what dates can say

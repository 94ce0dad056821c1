"""Durations as people write them in files and flags: ``500ms``, ``30s``, ``5m``, ``1h``, or milliseconds."""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)?")
_UNITS: Final = {None: 0.001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: str | float) -> float:
    """The seconds of a duration. Raises ValueError saying what is expected."""
    found = _FORM.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is no duration; expected such as 500ms, 30s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2]]

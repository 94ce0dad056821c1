"""Numbers as manifests write them: durations, decimals, quantities, and shares of a count."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_QUANTITY: Final = re.compile(r"([0-9.]+(?:[eE][+-]?\d+)?)([numkKMGTPE]i?|)")
_SUFFIX: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    **{unit: Decimal(10 ** (3 * power)) for power, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGTPE", 1)},
}


def milliseconds(text: str) -> int:
    """``100ms``, ``1.5s``, ``5m``, ``1h30m``. Raises ValueError."""
    rest, total = text.strip(), 0.0
    while rest:
        found = _DURATION.match(rest)
        if found is None:
            break
        total += float(found[1]) * _UNIT_MS[found[2]]
        rest = rest[found.end() :]
    if rest or not text.strip():
        raise ValueError(f"{text!r} is no duration such as 100ms, 10s or 5m")
    return round(total)


def seconds(text: str) -> float:
    """As ``milliseconds``, in seconds. Raises ValueError."""
    return milliseconds(text) / 1000


def quantity(text: str | float) -> Decimal:
    """A quantity of Kubernetes, ``1Gi`` or ``500m``, in units. Raises ValueError."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no quantity such as 1Gi")
    try:
        return Decimal(found[1]) * _SUFFIX[found[2]]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{text!r} is no quantity such as 1Gi") from None


def share_of(limit: int | str, total: int) -> int:
    """An absolute number, or a percentage of ``total`` rounded up. Raises ValueError."""
    if isinstance(limit, int):
        return limit
    text = limit.strip()
    if text.endswith("%") and text[:-1].isdigit():
        return math.ceil(int(text[:-1]) * total / 100)
    if text.isdigit():
        return int(text)
    raise ValueError(f"{limit!r} is neither a number nor a percentage such as 80%")

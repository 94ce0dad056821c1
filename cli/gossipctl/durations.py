"""Durations as people type and read them. Inside the program they are milliseconds."""

from __future__ import annotations

UNITS = {"ms": 1.0, "s": 1_000.0, "m": 60_000.0, "h": 3_600_000.0}


def parse(text: str) -> int:
    """Milliseconds in ``30000`` (already ms), ``30s``, ``1.5s``, ``5m``, ``1h`` or ``250ms``.

    Raises:
        ValueError: saying what was expected.
    """
    number = text.strip().rstrip("hms")
    unit = text.strip()[len(number) :] or "ms"
    try:
        value = float(number) * UNITS[unit]
        if not 0 <= value < 1e15:
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(
            f"{text!r} is not a duration; expected milliseconds or a unit, such as 30000, 30s or 5m"
        ) from None
    return round(value)


def show(ms: float) -> str:
    """A duration at a glance: ``0.4ms``, ``7.2ms``, ``85ms``, ``1.2s``, ``30s``, ``5m 03s``, ``2h 05m``."""
    if ms < 10:
        return f"{ms:.1f}".removesuffix(".0") + "ms"
    if ms < 999.5:
        return f"{ms:.0f}ms"
    seconds = ms / 1_000
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s" if seconds else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"

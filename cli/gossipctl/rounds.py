"""The table of how one write spread, round by round."""

from __future__ import annotations

from typing import Any

from gossipctl import durations

HEADINGS = ("Round", "Infected Agents", "Convergence %", "Duration")
WIDTHS = (5, 15, 13, 8)


def rows(convergence: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """One row a round: number, agents that have it by then, their share, time this round took."""
    return [
        (
            str(each["round"]),
            str(each["agents"]),
            f"{each['share'] * 100:.2f}%",
            durations.show(each["duration_ms"]),
        )
        for each in convergence["rounds"]
    ]


def text(convergence: dict[str, Any]) -> str:
    """The whole table, and the time in total."""
    heading = " | ".join(
        name.ljust(width) for name, width in zip(HEADINGS, WIDTHS, strict=True)
    ).rstrip()
    rule = "-|-".join("-" * width for width in WIDTHS) + "-"
    lines = [" | ".join(map(str.ljust, row, WIDTHS)).rstrip() for row in rows(convergence)]
    return "\n".join([heading, rule, *lines, "", summary(convergence)])


def summary(convergence: dict[str, Any]) -> str:
    """``Total convergence time: 23ms (4 rounds × 5.8ms)``, or how far it is."""
    number = len(convergence["rounds"])
    if not convergence["converged"]:
        return (
            f"Not converged: {convergence['received']} of {convergence['agents']} agents after "
            f"{_rounds(number)}, {convergence['threshold'] * 100:g}% are needed"
        )
    total = sum(each["duration_ms"] for each in convergence["rounds"])
    each = durations.show(total / number)
    return f"Total convergence time: {durations.show(total)} ({_rounds(number)} × {each})"


def _rounds(number: int) -> str:
    return f"{number} round{'s' * (number != 1)}"

"""The table of how one write spread, round by round."""

from __future__ import annotations

from typing import Any

from gossipctl import durations

HEADINGS = ("Round", "Infected Agents", "Convergence %", "Duration")
WIDTHS = (5, 15, 13, 9)


def rows(convergence: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """One row a round: number, agents that have it by then, their share, time this round took."""
    found = []
    before = 0.0
    for each in convergence["rounds"]:
        took = max(0.0, each["duration_ms"] - before)
        before = max(before, each["duration_ms"])
        found.append(
            (
                str(each["round"]),
                str(each["agents"]),
                f"{each['share'] * 100:.2f}%",
                durations.show(took),
            )
        )
    return found


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
    total = convergence.get("full_ms") or convergence.get("duration_ms")
    if not convergence["converged"] or total is None:
        return (
            f"Not converged: {convergence['received']} of {convergence['agents']} agents after {number} rounds, "
            f"{convergence['threshold'] * 100:g}% are needed"
        )
    each = durations.show(total / number) if number else "-"
    rounds = f"{number} round{'s' * (number != 1)}"
    text = f"Total convergence time: {durations.show(total)} ({rounds} × {each})"
    reached = convergence.get("duration_ms")
    if convergence.get("full_ms") and reached is not None and convergence["threshold"] < 1:
        text += f"; {convergence['threshold'] * 100:g}% after {durations.show(reached)}"
    return text

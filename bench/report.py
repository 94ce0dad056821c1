"""A benchmark's result, and the two files it becomes: a page to read and figures to compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from bench.machine import facts

MACHINE_NAMES = {
    "cores": "cores",
    "processor": "processor",
    "memory": "memory",
    "system": "system",
    "python": "Python",
    "date": "measured on",
}


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""

    def markdown(self) -> str:
        """The table as Markdown, its columns aligned so that it reads in a terminal as well."""
        widths = [
            max(len(row[index]) for row in [self.headings, *self.rows])
            for index in range(len(self.headings))
        ]
        lines = [_row(self.headings, widths), _row(tuple("-" * width for width in widths), widths)]
        lines += [_row(row, widths) for row in self.rows]
        return (f"{self.caption}\n\n" if self.caption else "") + "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        + " |"
    )


@dataclass(frozen=True)
class Result:
    """What one benchmark found out."""

    name: str
    title: str
    method: str
    """What was done, so that a reader can judge the figures; Markdown."""
    tables: list[Table]
    figures: dict[str, Any]
    notes: str = ""
    repeat: str = ""
    """The command that does it again; empty = its benchmark."""
    machine: dict[str, str] = field(default_factory=facts)

    def markdown(self) -> str:
        """The page."""
        parts = [f"# {self.title}", self.method.strip()]
        parts += [table.markdown() for table in self.tables]
        if self.notes:
            parts.append(self.notes.strip())
        machine = Table(
            ("machine", ""), [(MACHINE_NAMES[name], value) for name, value in self.machine.items()]
        )
        command = self.repeat or f"python -m bench {self.name}"
        parts += [machine.markdown(), f"Repeat it with `{command}`."]
        return "\n\n".join(parts) + "\n"

    def write(self, directory: Path) -> None:
        """``<name>.md`` and ``<name>.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        document = {"name": self.name, "figures": self.figures, "machine": self.machine}
        (directory / f"{self.name}.json").write_text(json.dumps(document, indent=2) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def ms(value: float | None) -> str:
    """Milliseconds, to read."""
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def mib(value: float) -> str:
    """Bytes as mebibytes, to read."""
    return f"{value / 2**20:.1f} MiB"

"""Tables on a terminal. Imported only there: rich costs more than most commands do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossipctl.output import BAD, GOOD, MIDDLING

if TYPE_CHECKING:
    from gossipctl.output import Output

GAP = 3
NARROWEST = 6
"""Nothing is cut below this width; a still narrower terminal wraps."""


def show(output: Output, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without lines, as wide as its content or the terminal; long cells are cut with an ellipsis."""
    console = Console(file=sys.stdout, no_color=not output.colour, highlight=False)
    natural = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    widths = fit(natural, console.width - GAP * (len(columns) - 1))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        table.add_column(
            column.upper(),
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=widths[index],
        )
    for row in rows:
        table.add_row(*(coloured(text) for text in row))
    console.print(table)


def fit(natural: Sequence[int], room: int) -> list[int]:
    """Widths of columns within ``room``: the widest give way first, the first only if nothing else is left.

    The first says what a row is about: cut off it would be worth nothing.
    """
    widths = list(natural)
    while sum(widths) > room and max(widths) > NARROWEST:
        others = [index for index in range(1, len(widths)) if widths[index] > NARROWEST]
        widths[max(others, key=lambda index: (widths[index], index), default=0)] -= 1
    return widths


def coloured(text: str) -> Text:
    """A cell, in the colour of what it says."""
    folded = text.lower()
    for words, style in ((GOOD, "green"), (BAD, "red"), (MIDDLING, "yellow")):
        if folded in words:
            return Text(text, style=style)
    return Text(text, style="dim" if text == "-" else "")


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()

"""Live displays in the terminal. Imported only there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gossipctl import rounds
from gossipctl.output import colours
from gossipctl.traces import Trace

BAR_WIDTH = 40


def console() -> Console:
    """The terminal."""
    return Console(file=sys.stdout, no_color=not colours(sys.stdout), highlight=False)


@contextmanager
def show_convergence(trace: Trace) -> Iterator[Callable[[], None]]:
    """Show a write while it spreads; what is given redraws it. The last picture stays."""
    with Live(_convergence(trace), console=console(), auto_refresh=False) as live:
        yield lambda: live.update(_convergence(trace), refresh=True)
        live.update(_convergence(trace), refresh=True)


def _convergence(trace: Trace) -> Group:
    write = trace.convergence
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in rounds.HEADINGS:
        table.add_column(heading.upper(), justify="right")
    table.add_column("")
    shares = [each["share"] for each in write["rounds"]]
    for row, share in zip(rounds.rows(write), shares, strict=True):
        table.add_row(*row, _bar(share, write))
    title = Text.assemble(
        (write["key"], "bold"),
        f"  written at {trace.agent.name} ({trace.agent.region})  ",
        (write["started_at"], "dim"),
    )
    ending = Text(rounds.summary(write), style="green" if write["converged"] else "yellow")
    return Group(title, Text(), table, Text(), ending)


def _bar(share: float, write: dict[str, Any]) -> ProgressBar:
    style = "green" if share >= write["threshold"] else "cyan"
    return ProgressBar(
        total=1.0, completed=share, width=BAR_WIDTH, complete_style=style, finished_style="green"
    )

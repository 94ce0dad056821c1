"""What the user sees: data on stdout, everything else on stderr.

On a terminal there are tables and colour; elsewhere lists are tab-separated rows without a header, so that
``| wc -l`` counts and ``| cut -f1`` works, and documents are JSON. NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, TextIO

from gossipctl.failures import StdoutClosed

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
GOOD = {"alive", "active", "healthy", "ready", "running", "up", "true", "converged", "yes"}
BAD = {"dead", "cut", "down", "failed", "crashed", "partitioned", "unreachable", "degraded"}
MIDDLING = {"suspect", "initializing", "starting", "stopped", "left", "stopping", "no"}


def colours(stream: TextIO) -> bool:
    """Whether escape sequences are welcome on this stream."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Output:
    """One command's output, in the format that was asked for (None: the command's own default)."""

    def __init__(self, format: str | None = None) -> None:  # noqa: A002
        self.format = format
        self.terminal = sys.stdout.isatty()
        self.colour = colours(sys.stdout)

    @property
    def rich(self) -> bool:
        """Whether stdout is a terminal and there is what draws on it: an agent's image has no rich."""
        if not self.terminal:
            return False
        from importlib.util import find_spec

        return find_spec("rich") is not None

    @property
    def wants_json(self) -> bool:
        """JSON was asked for by name."""
        return self.format == "json"

    @property
    def human(self) -> bool:
        """Whether a document is shown for reading rather than as JSON."""
        return self.format in ("table", "wide") or (self.format is None and self.terminal)

    def style(self, text: str, style: str) -> str:
        """``text`` in a style, where stdout shows it."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.colour and text else text

    def state(self, word: str) -> str:
        """A word of status, in the colour of what it means."""
        folded = word.lower()
        for words, style in ((GOOD, "green"), (BAD, "red"), (MIDDLING, "yellow")):
            if folded in words:
                return self.style(word, style)
        return word

    def line(self, text: str = "") -> None:
        """One line of data.

        Raises:
            StdoutClosed: the reader has gone.
        """
        try:
            # In one piece: commands that run side by side share the terminal.
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise StdoutClosed from None

    def json(self, value: Any) -> None:
        """A JSON document, indented; coloured on a terminal."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        if self.colour:
            from gossipctl.json_colours import paint

            text = paint(text)
        self.line(text)

    def compact(self, value: Any) -> None:
        """One JSON document on one line, for streams."""
        self.line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def document(self, value: Mapping[str, Any]) -> None:
        """A flat object: aligned names and values to read, JSON otherwise."""
        if not self.human:
            self.json(value)
            return
        width = max(map(len, value), default=0)
        for name, member in value.items():
            label = self.style(f"{name.replace('_', ' '):<{width}}", "dim")
            self.line(f"{label}  {self.state(cell(member))}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A list, one row an item; a header only for people."""
        texts = [[cell(value) for value in row] for row in rows]
        if not self.human:
            if texts:
                self.line("\n".join("\t".join(row) for row in texts))
            return
        if not texts:
            return
        if self.rich:
            from gossipctl.tables import show

            show(self, columns, texts)
            return
        for row in (list(columns), *texts):
            self.line(aligned(row, [list(columns), *texts]))

    def records(
        self,
        items: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str],
        wide: Mapping[str, str] = {},
    ) -> None:
        """A list of objects: their full JSON, or a table of ``columns`` (member to heading)."""
        if self.wants_json:
            self.json(list(items))
            return
        more = wide if self.format == "wide" else {}
        if self.human:
            more = {
                name: heading for name, heading in more.items() if any(map(itemgetter(name), items))
            }
        chosen = {**columns, **more}
        self.table(list(chosen.values()), [[item.get(name) for name in chosen] for item in items])


def aligned(row: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One row of a plain table, padded to the widest of each column."""
    widths = [max(len(other[index]) for other in rows) for index in range(len(row))]
    return "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, str):
        return value.replace("\t", " ").replace("\n", " ")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return json.dumps(value, ensure_ascii=False)


def note(text: str) -> None:
    """Something to know that is not the result: stderr."""
    _to_stderr(text)


def warn(text: str) -> None:
    """Something the user should not miss."""
    _to_stderr(f"{_styled('warning:', 'yellow')} {text}")


def complain(message: str, hint: str | None) -> None:
    """An error: what was wrong, and what to do."""
    _to_stderr(f"{_styled('error:', 'red')} {message}")
    if hint:
        _to_stderr(f"{_styled('hint:', 'cyan')}  {hint}")


def _styled(text: str, style: str) -> str:
    return f"\x1b[1;{STYLES[style]}m{text}\x1b[0m" if colours(sys.stderr) else text


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        raise StdoutClosed from None

"""Colour for indented JSON on a terminal."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r'(?P<name>"(?:[^"\\]|\\.)*")(?=:)|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>\b(?:true|false|null)\b)|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
)
_STYLES = {"name": "34;1", "string": "32", "word": "33", "number": "36"}


def paint(text: str) -> str:
    """The same text, with names, strings, numbers and words told apart."""
    return _TOKEN.sub(
        lambda found: f"\x1b[{_STYLES[found.lastgroup or 'string']}m{found[0]}\x1b[0m", text
    )

"""JSON typed by hand: when it is malformed, show where."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from gossipctl.failures import CommandFailed, UsageError


def read(text: str, flag: str = "--value") -> Any:
    """The value given to ``flag``: JSON, ``@file`` or ``-`` for standard input.

    Raises:
        UsageError: not JSON, with the offending line and a caret under the position.
        CommandFailed: the file cannot be read.
    """
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise CommandFailed(f"cannot read {text[1:]}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{flag}: {text[1:]} is not UTF-8 text") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        _explain(text, error, flag)
    except RecursionError:
        raise UsageError(f"{flag}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}; use null or a string")


def _explain(text: str, error: json.JSONDecodeError, flag: str) -> NoReturn:
    line = (text.splitlines() or [""])[error.lineno - 1 : error.lineno] or [""]
    start = max(0, error.colno - 50)
    shown = line[0][start : start + 70].replace("\t", " ")
    caret = " " * (error.colno - 1 - start) + "^"
    where = f"column {error.colno}"
    if "\n" in text.strip():
        where = f"line {error.lineno}, {where}"
    what = f"{error.msg[0].lower()}{error.msg[1:]}"
    raise UsageError(
        f"{flag} is not valid JSON: {what} at {where}\n\n    {shown}\n    {caret}\n",
        _advice(text.strip(), flag),
    )


def _advice(text: str, flag: str) -> str:
    if not text:
        return f"an empty string is written {flag} '\"\"'"
    if "'" in text and '"' not in text:
        return "JSON strings take double quotes; quote the whole value with single quotes"
    if text[0] not in '[{"' and "\n" not in text and len(text) < 40:
        return f"a string needs double quotes: {flag} '\"{text}\"'"
    return "a JSON file can be given as @file.json, standard input as -"

"""What somebody probably meant: configuration and hooks files name what they do not know."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]*)`")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` if something is near, else ``; expected one of ...``."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; expected one of: {', '.join(names)}"


def convert(value: Any, kind: type[T], where: str) -> T:
    """``value`` as a struct. Raises ValueError saying where it is wrong, and what was expected."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        unknown = _UNKNOWN.fullmatch(text)
        if unknown is not None:
            hint = ""
            if not path and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                hint = did_you_mean(
                    unknown[1], [f.encode_name for f in msgspec.structs.fields(kind)]
                )
            text = f"unknown field {unknown[1]!r}{hint}"
        place = where + path.rstrip("`")
        raise ValueError(f"{place}: {text[0].lower()}{text[1:]}") from None

"""What is to be projected: a prefix of the state, the path it becomes, and who is told.

project:
  - prefix: app.config
    path: /config/app.json
    format: json
    mode: "0644"
    reload: {signal: HUP, process: nginx}
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from signal import Signals
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.errors import InvalidKey
from gossipswarm_agent.runtime.suggestions import convert, did_you_mean

Format: TypeAlias = Literal["json", "yaml", "env", "dir"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)
SIGNALS: Final = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")
"""Signals that programs reload, restart or end by."""
PROJECTIONS_LIMIT: Final = 64
_MODE: Final = re.compile(r"0?([0-7]{3})")
_OWNER_READS: Final = 0o400


class Reload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the application learns of a new version: by a signal to a process, or by HTTP."""

    signal: str | None = None
    """Without ``SIG``."""
    process: str | None = None
    """Absolute path of a file that holds the process id, or the name of a process."""
    http: str | None = None
    """URL that gets a POST."""

    @property
    def number(self) -> Signals:
        """The signal to send."""
        return Signals[f"SIG{self.signal}"]


class Projection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of the state as a file, or as a directory of files."""

    prefix: str
    path: str
    format: Format = "json"
    mode: str = "0644"
    reload: Reload | None = None

    @property
    def permissions(self) -> int:
        """Permission bits of every file."""
        return int(self.mode, 8)


def parse_projections(entries: Any) -> list[Projection]:
    """Projections from the configuration. Raises ValueError naming entry, field and what was expected."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError("project: expected a list of {prefix, path, format, mode, reload}")
    if len(entries) > PROJECTIONS_LIMIT:
        raise ValueError(f"project: at most {PROJECTIONS_LIMIT} projections, not {len(entries)}")
    parsed = [_parse(f"project[{number}]", entry) for number, entry in enumerate(entries)]
    _refuse_overlaps(parsed)
    return parsed


def _parse(where: str, entry: Any) -> Projection:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: expected {{prefix, path, format, mode, reload}}")
    fields = dict(entry)
    _check_word(f"{where}.format", fields.get("format", "json"), FORMATS)
    mode = fields.get("mode")
    if isinstance(mode, int) and not isinstance(mode, bool):
        # YAML takes 0644 for an octal number, which is 420, and 644 for a decimal one: no telling them apart.
        raise ValueError(f'{where}.mode: {mode} is a number; write it in quotes: mode: "0644"')
    reload = fields.pop("reload", None)
    projection = convert(fields, Projection, where)
    try:
        prefix = paths.check(projection.prefix)
    except InvalidKey as error:
        raise ValueError(f"{where}.prefix: {error}") from None
    _check_path(f"{where}.path", projection.path)
    found = _MODE.fullmatch(projection.mode)
    if found is None or not int(found[1], 8) & _OWNER_READS:
        raise ValueError(
            f'{where}.mode: {projection.mode!r} is no mode that its owner can read; expected such as "0644"'
        )
    return msgspec.structs.replace(
        projection,
        prefix=prefix,
        reload=None if reload is None else _parse_reload(f"{where}.reload", reload),
    )


def _parse_reload(where: str, entry: Any) -> Reload:
    expected = "expected {signal: HUP, process: name-or-pid-file} or {http: url}"
    try:
        reload = convert(entry, Reload, where)
    except ValueError as error:
        raise ValueError(f"{error} ({expected})") from None
    if reload.http is not None:
        if reload.signal is not None or reload.process is not None:
            raise ValueError(f"{where}: http and signal exclude each other; {expected}")
        _check_url(f"{where}.http", reload.http)
        return reload
    if reload.signal is None or not reload.process:
        raise ValueError(f"{where}: {expected}")
    name = reload.signal.upper().removeprefix("SIG")
    _check_word(f"{where}.signal", name, SIGNALS)
    if "/" in reload.process:
        _check_path(f"{where}.process", reload.process)
    return msgspec.structs.replace(reload, signal=name)


def _check_word(where: str, word: Any, known: Sequence[str]) -> None:
    if word not in known:
        raise ValueError(f"{where}: {word!r} is unknown{did_you_mean(str(word), known)}")


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or any(character.isspace() for character in url):
        raise ValueError(f"{where}: {url!r} is no URL such as http://127.0.0.1:8080/reload")


def _check_path(where: str, path: str) -> None:
    if not path.startswith("/"):
        raise ValueError(f"{where}: {path!r} is relative; expected such as /config/app.json")
    if "\0" in path:
        raise ValueError(f"{where}: {path!r} has a zero byte")
    normal = posixpath.normpath(path)
    # POSIX lets two leading slashes stand, which is one on every system that this runs on.
    if normal != path or path.startswith("//"):
        raise ValueError(f"{where}: {path!r} is not the shortest form; write /{normal.lstrip('/')}")
    if path == "/":
        raise ValueError(f"{where}: / is no file of ours; expected such as /config/app.json")


def _refuse_overlaps(projections: Sequence[Projection]) -> None:
    for number, later in enumerate(projections):
        for first, earlier in enumerate(projections[:number]):
            where = f"project[{first}].path and project[{number}].path"
            if later.path == earlier.path:
                raise ValueError(f"{where} are both {later.path}; each needs a path of its own")
            outer, inner = sorted((earlier, later), key=lambda each: len(each.path))
            if inner.path.startswith(f"{outer.path}/"):
                what = "in the directory of another" if outer.format == "dir" else "below a file"
                raise ValueError(f"{where} overlap: {inner.path} is {what}, {outer.path}")

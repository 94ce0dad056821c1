"""What a pod asks for by its annotations. Everything is checked here as strictly as the API server will check what is made of
it: an annotation that makes no sense must cost the pod its sidecar, never its admission."""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.quantities import quantity

Format = Literal["json", "yaml", "env", "dir"]
Access = Literal["read", "write"]

MOST_PROJECTIONS: Final = 16
MOST_PREFIXES: Final = 32
LONGEST_KEY: Final = 512
"""Bytes, as an agent has it."""
DEEPEST_KEY: Final = 32
"""Segments, as an agent has it."""
SIGNALS: Final = ("HUP", "INT", "USR1", "USR2", "WINCH")
"""By which programs are told to read their configuration again."""
_ENDINGS: Final[Mapping[str, Format]] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".env": "env",
}
_PATH: Final = re.compile(r"/[A-Za-z0-9._@/+-]{0,500}")
_SYSTEM: Final = (
    "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
    "var",
)  # fmt: skip
"""Directories that nothing can be mounted over without taking something from the application."""
_KERNEL: Final = ("dev", "proc", "sys")
_PROCESS: Final = re.compile(r"[A-Za-z0-9._@:+-]{1,64}")
_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")


class BadAnnotation(ValueError):
    """An annotation makes no sense; the message names it and says what is expected."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored below a key, as a file or directory that changes in place."""

    prefix: str
    path: str
    format: Format

    @property
    def directory(self) -> str:
        """Where a volume has to be mounted."""
        return self.path if self.format == "dir" else posixpath.dirname(self.path)


class Signal(msgspec.Struct, frozen=True):
    """What tells a process of the application to read its files again."""

    name: str
    """Without ``SIG``."""
    process: str
    """Its name. Not a file with its id, because the sidecar sees none of the application's files."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the sidecar is to be."""

    projections: tuple[Projection, ...] = ()
    prefixes: tuple[str, ...] = ()
    """What it is to hold; none = everything."""
    region: str | None = None
    access: Access = "read"
    reload_signal: Signal | None = None
    reload_url: str | None = None
    resources: Mapping[str, Mapping[str, str]] | None = None
    """None = as for any sidecar."""

    @property
    def directories(self) -> tuple[str, ...]:
        """Where volumes for files have to be mounted, each once."""
        return tuple(dict.fromkeys(projection.directory for projection in self.projections))


def wishes(annotations: Mapping[str, str]) -> Wishes:
    """What the annotations ask for. Raises BadAnnotation."""
    for name in sorted(annotations):
        if name.startswith(f"{names.GROUP}/") and name not in _READERS:
            meant = difflib.get_close_matches(name, _READERS, 1)
            known = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(_READERS)}"
            raise BadAnnotation(f"annotation {name}: there is no such; {known}")
    found: dict[str, Any] = {}
    for name, (field, read) in _READERS.items():
        if name not in annotations:
            continue
        try:
            found[field] = read(annotations[name].strip())
        except ValueError as error:
            raise BadAnnotation(f"annotation {name}: {error}") from None
    return _consistent(Wishes(**found))


def _consistent(asked: Wishes) -> Wishes:
    """What no single annotation can say."""
    for projection in asked.projections:
        if asked.prefixes and not any(_covers(p, projection.prefix) for p in asked.prefixes):
            raise BadAnnotation(
                f"annotation {names.PREFIXES_ANNOTATION}: {projection.path} needs "
                f"{projection.prefix}, which is below none of them"
            )
    if not asked.projections and (asked.reload_signal or asked.reload_url):
        raise BadAnnotation(
            f"annotation {names.PROJECT_ANNOTATION} is missing: only a file that changes is "
            "followed by a reload"
        )
    return asked


def _covers(prefix: str, key: str) -> bool:
    return key == prefix or key.startswith(prefix + ".")


# --- one annotation each --------------------------------------------------------------------------


def _projections(text: str) -> tuple[Projection, ...]:
    found = tuple(map(_projection, _entries(text) if text.startswith("[") else _short(text)))
    if not found:
        raise ValueError("it names no file; expected such as app.config=/config/app.json")
    if len(found) > MOST_PROJECTIONS:
        raise ValueError(f"{len(found)} files are more than {MOST_PROJECTIONS}")
    for number, one in enumerate(found):
        for other in found[:number]:
            if _within(one.path, other.path) or _within(other.path, one.path):
                raise ValueError(f"{one.path} and {other.path} are in each other's way")
    return found


def _entries(text: str) -> list[Any]:
    try:
        entries: list[Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    return entries


def _short(text: str) -> list[Any]:
    entries = []
    for part in filter(None, map(str.strip, text.split(","))):
        prefix, equals, path = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not prefix=/path, such as app.config=/config/app.json")
        entries.append({"prefix": prefix.strip(), "path": path.strip()})
    return entries


def _projection(entry: Any) -> Projection:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise ValueError(f"{entry!r} is no object of texts: prefix, path and, if need be, format")
    extra = sorted(entry.keys() - {"prefix", "path", "format"})
    if extra:
        raise ValueError(f"{extra[0]!r} is unknown; an entry has prefix, path and format")
    for field in ("prefix", "path"):
        if field not in entry:
            raise ValueError(
                f"{entry!r} lacks {field}; expected such as app.config=/config/app.json"
            )
    path = _path(entry["path"])
    is_directory = entry["path"].endswith("/")
    default = "dir" if is_directory else _ENDINGS.get(posixpath.splitext(path)[1], "dir")
    kind = entry.get("format", default)
    if kind not in get_args(Format):
        raise ValueError(f"format {kind!r} is none of {', '.join(get_args(Format))}")
    projection = Projection(prefix=_key(entry["prefix"]), path=path, format=kind)
    _mountable(projection)
    return projection


def _path(text: str) -> str:
    if _PATH.fullmatch(text) is None or ".." in text.split("/"):
        raise ValueError(
            f"{text!r} is no absolute path of letters, digits and . _ - + @, without .."
        )
    return posixpath.normpath("/" + text.lstrip("/"))


def _mountable(projection: Projection) -> None:
    """A volume hides what the image has in its place."""
    path, (_, top, *below) = projection.path, projection.directory.split("/")
    instead = f"/config/{posixpath.basename(path)}"
    if not top:
        raise ValueError(f"{path} needs a directory of its own: {instead}")
    if top in _SYSTEM and not below:
        raise ValueError(
            f"{path} would hide /{top} of the image: take a directory of its own, such as {instead}"
        )
    if top in _KERNEL:
        raise ValueError(f"{path}: /{top} belongs to the kernel; take {instead}")


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(other + "/")


def _key(text: str) -> str:
    segments = re.sub(r"\\\.", "x", text).split(".")  # `\.` is a dot within a segment
    if (
        "" in segments
        or len(segments) > DEEPEST_KEY
        or len(text.encode("utf-8", "surrogatepass")) > LONGEST_KEY
        or not text.isprintable()
        or text[0] == "$"
        or any(
            segment != segment.replace("\\", "").replace(",", "").strip() for segment in segments
        )
    ):
        raise ValueError(f"{text[:80]!r} is no key such as app.config")
    return text


def _prefixes(text: str) -> tuple[str, ...]:
    found = tuple(_key(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("it names no key; expected a list such as app.config,app.flags")
    if len(found) > MOST_PREFIXES:
        raise ValueError(f"{len(found)} keys are more than {MOST_PREFIXES}")
    return found


def _region(text: str) -> str:
    if not text:
        raise ValueError("it is empty; expected a region of the swarm")
    return text


def _access(text: str) -> str:
    if text not in get_args(Access):
        raise ValueError(f"{text!r} is neither read nor write")
    return text


def _signal(text: str) -> Signal:
    name, _, process = text.partition(" ")
    name, process = name.upper().removeprefix("SIG"), process.strip()
    if name not in SIGNALS:
        raise ValueError(f"{name!r} is none of {', '.join(SIGNALS)}")
    if _PROCESS.fullmatch(process) is None:
        raise ValueError(f"{text!r} does not name a process; expected such as HUP nginx")
    return Signal(name, process)


_URL: Final = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?(/[!-~]{0,500})?")


def _reload_url(text: str) -> str:
    found = _URL.fullmatch(text)
    if found is None or int((found[2] or ":80")[1:]) not in range(1, 65_536):
        raise ValueError(
            f"{text!r} is no address within the pod, such as http://127.0.0.1:8080/reload"
        )
    return text


def _resources(text: str) -> dict[str, dict[str, str]]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(told, dict) or told.keys() - {"requests", "limits"}:
        raise ValueError('expected {"requests": {"cpu": ..., "memory": ...}, "limits": {...}}')
    found = {}
    for kind, amounts in told.items():
        if not isinstance(amounts, dict):
            raise ValueError(f'{kind}: expected amounts by name, such as {{"memory": "64Mi"}}')
        found[kind] = {name: _amount(kind, name, value) for name, value in amounts.items()}
    for name, limit in found.get("limits", {}).items():
        request = found.get("requests", {}).get(name)
        if request is not None and quantity(request) > quantity(limit):
            raise ValueError(f"requests.{name} {request} is more than its limit {limit}")
    return found


_AMOUNT: Final = re.compile(r"\d{1,12}(\.\d{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def _amount(kind: str, name: str, value: Any) -> str:
    if name not in _RESOURCES:
        raise ValueError(f"{kind}.{name} is none of {', '.join(_RESOURCES)}")
    text = str(value)
    if isinstance(value, bool) or _AMOUNT.fullmatch(text) is None:
        raise ValueError(f"{kind}.{name}: {value!r} is no quantity such as 64Mi or 100m")
    return text


_READERS: Final[Mapping[str, tuple[str, Any]]] = {
    names.PROJECT_ANNOTATION: ("projections", _projections),
    names.PREFIXES_ANNOTATION: ("prefixes", _prefixes),
    names.SIDECAR_REGION_ANNOTATION: ("region", _region),
    names.ACCESS_ANNOTATION: ("access", _access),
    names.RELOAD_SIGNAL_ANNOTATION: ("reload_signal", _signal),
    names.RELOAD_URL_ANNOTATION: ("reload_url", _reload_url),
    names.SIDECAR_RESOURCES_ANNOTATION: ("resources", _resources),
}

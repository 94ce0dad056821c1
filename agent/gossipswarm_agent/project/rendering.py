"""A value of the state as the content of files. Pure: the same value is the same bytes, whoever renders it.

    json   the value, members in order of their names
    yaml   the same; text is quoted unless no parser can take it for anything else
    env    NAME='value', a line a leaf, as a shell reads it
    dir    a file a leaf, as the volume of a ConfigMap has them

Where there is no value, json and yaml are an empty object, env is an empty file and dir an empty directory: an
application that is there before its configuration finds a file that it can read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec
import yaml

from gossipswarm_agent.core import paths
from gossipswarm_agent.project.projections import Format

Content: TypeAlias = bytes | dict[str, bytes]
"""A file, or files by name."""
BYTES_LIMIT: Final = 64 << 20
"""Of all files of a projection together."""
FILES_LIMIT: Final = 10_000
"""Files of a directory."""

_SAFE_WORD: Final = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
"""What means itself to a shell, and to programs that read such files without one."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_]")
_RESERVED: Final = re.compile(
    r"(LD|DYLD|BASH)_.*|PATH|IFS|ENV|CDPATH|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|UID|EUID|PPID"
)
"""Variables that a shell or the dynamic loader acts upon, or does not let anybody set."""
_FILE_NAME: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
"""As keys of ConfigMaps."""
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_YAML_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that one YAML parser or another does not take for text, in lower case."""

_encode: Final = msgspec.json.Encoder(order="sorted").encode


class NotRenderable(ValueError):
    """A value cannot be written in this format; the message says which key is why, and what to do."""


def render(value: Any, format: Format, prefix: str) -> Content:  # noqa: A002 - the word for it
    """The value at ``prefix`` as files of this format; None = there is none.

    Raises:
        NotRenderable: two keys would share a name, a name or value has no place in the format, or it is too much.
    """
    content = _RENDERERS[format](value, prefix)
    size = len(content) if isinstance(content, bytes) else sum(map(len, content.values()))
    if size > BYTES_LIMIT:
        raise NotRenderable(
            f"{prefix} takes {size:,} bytes as {format}; at most {BYTES_LIMIT:,} are projected"
        )
    return content


# --- documents ------------------------------------------------------------------------------------


def _json(value: Any, prefix: str) -> bytes:
    del prefix
    return msgspec.json.format(_encode({} if value is None else value), indent=2) + b"\n"


class _Dumper(yaml.CSafeDumper):
    """YAML that versions 1.1 and 1.2 read alike."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def _yaml(value: Any, prefix: str) -> bytes:
    del prefix
    shown = {} if value is None else value
    text: str = yaml.dump(
        shown,
        Dumper=_Dumper,
        sort_keys=True,
        allow_unicode=True,
        default_flow_style=False,
        width=1 << 30,
        explicit_end=False,
    )
    # A document of one plain scalar is ended by three dots, which some parsers show as text.
    return text.removesuffix("...\n").encode()


# --- a file of variables --------------------------------------------------------------------------


def _env(value: Any, prefix: str) -> bytes:
    owners: dict[str, str] = {}
    lines = []
    for segments, leaf in _leaves(value, prefix):
        name = _variable(segments)
        key = f"{prefix}.{paths.join(segments)}" if isinstance(value, dict) else prefix
        if _RESERVED.fullmatch(name):
            raise NotRenderable(
                f"{key} would set {name}, which shells and loaders act upon; give it another name"
            )
        other = owners.setdefault(name, key)
        if other != key:
            raise NotRenderable(f"{other} and {key} are both {name}; give one another name")
        text = _text(leaf)
        if "\0" in text:
            raise NotRenderable(f"{key} has a zero byte, which no variable can hold")
        lines.append(f"{name}={_quoted(text)}\n")
    return "".join(lines).encode()


def _variable(segments: list[str]) -> str:
    name = _NOT_IN_NAMES.sub("_", "_".join(segments)).upper()
    return name if _NAME.fullmatch(name) else f"_{name}"


def _quoted(text: str) -> str:
    if not text or _SAFE_WORD.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


# --- a directory ----------------------------------------------------------------------------------


def _dir(value: Any, prefix: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for segments, leaf in _leaves(value, prefix):
        name = ".".join(segments)
        if not _FILE_NAME.fullmatch(name) or name.startswith("..") or name == ".":
            raise NotRenderable(
                f"{name[:80]!r} below {prefix} is no file name; expected letters, digits, '-', '_' and '.', "
                "at most 253 of them, and no two dots in front"
            )
        if name in files:
            raise NotRenderable(f"two keys below {prefix} are both the file {name}; rename one")
        files[name] = _text(leaf).encode()
        if len(files) > FILES_LIMIT:
            raise NotRenderable(f"{prefix} has over {FILES_LIMIT:,} leaves: too many files")
    return files


# --- leaves ---------------------------------------------------------------------------------------


def _leaves(value: Any, prefix: str) -> Iterator[tuple[list[str], Any]]:
    """Segments below the prefix and value of each leaf, in order; a value without members has the prefix's name."""
    if isinstance(value, dict):
        yield from _members(value, [])
    elif value is not None:
        yield [paths.split(prefix)[-1]], value


def _members(value: dict[str, Any], above: list[str]) -> Iterator[tuple[list[str], Any]]:
    for name in sorted(value):
        member = value[name]
        if isinstance(member, dict):
            yield from _members(member, [*above, name])
        else:
            yield [*above, name], member


def _text(leaf: Any) -> str:
    """A leaf as text: text as it is, nothing for null, all else as JSON."""
    if isinstance(leaf, str):
        return leaf
    return "" if leaf is None else _encode(leaf).decode()


_RENDERERS: Final[dict[Format, Callable[[Any, str], Content]]] = {
    "json": _json,
    "yaml": _yaml,
    "env": _env,
    "dir": _dir,
}

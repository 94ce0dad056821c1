r"""Keys are dotted paths into one tree: ``app.config.cache_ttl``. ``\.`` is a dot inside a segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gossipswarm_agent.core.errors import InvalidKey, WriteRefused

MAX_KEY_BYTES = 512
MAX_DEPTH = 32
MAX_LEAVES = 10_000


def split(key: str) -> list[str]:
    """The unescaped segments of a key."""
    if "\\" not in key:
        return key.split(".") if key else []
    segments, current, characters = [], [], iter(key)
    for character in characters:
        if character == "\\":
            current.append(next(characters, "\\"))
        elif character == ".":
            segments.append("".join(current))
            current = []
        else:
            current.append(character)
    return [*segments, "".join(current)]


def escape(segment: str) -> str:
    """One segment as it stands in a key."""
    if "." not in segment and "\\" not in segment:
        return segment
    return segment.replace("\\", "\\\\").replace(".", "\\.")


def join(segments: Sequence[str]) -> str:
    """A key from unescaped segments."""
    return ".".join(map(escape, segments))


def ancestors(key: str) -> Iterator[str]:
    """Proper prefixes of a key, longest first, without the root."""
    if "\\" in key:
        segments = split(key)
        for end in range(len(segments) - 1, 0, -1):
            yield join(segments[:end])
        return
    end = key.rfind(".")
    while end > 0:
        yield key[:end]
        end = key.rfind(".", 0, end)


def check(key: str, *, system: bool = False) -> str:
    """The key in its canonical form.

    Raises:
        InvalidKey: empty, with an empty segment, too long, too deep, or reserved.
    """
    if not key:
        raise InvalidKey("the key is empty; expected dotted segments such as app.config")
    if len(key) > MAX_KEY_BYTES or len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise InvalidKey(f"the key has over {MAX_KEY_BYTES} bytes: {key[:40]}...")
    if (key[0] == "." or key[-1] == "." or ".." in key) and not all(split(key)):
        raise InvalidKey(f"the key {key!r} has an empty segment; \\. puts a dot inside one")
    if key.count(".") >= MAX_DEPTH and len(split(key)) > MAX_DEPTH:
        raise InvalidKey(f"the key has over {MAX_DEPTH} segments: {key[:40]}...")
    if not key.isprintable() or not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise InvalidKey("the key is not valid Unicode") from None
        if any(ord(character) < 32 for character in key):
            raise InvalidKey(f"the key {key[:40]!r} has control characters")
    if key[0] == "$" and not system:
        raise InvalidKey(f"{split(key)[0]!r} is reserved for the swarm itself")
    return join(split(key)) if "\\" in key else key


def child(key: str, name: Any) -> str:
    """The key of a member of the object at ``key``.

    Raises:
        InvalidKey: the name is empty or no string, or the key becomes too long or too deep.
    """
    if not isinstance(name, str) or not name:
        raise InvalidKey(f"the object at {key!r} has a member named {name!r}; expected a word")
    return check(f"{key}.{escape(name)}", system=True)


def flatten(key: str, value: Any) -> dict[str, Any]:
    """The leaves of a value written at ``key``: scalars, arrays, and ``{}`` for empty objects.

    Raises:
        WriteRefused: 413, more than ``MAX_LEAVES`` leaves.
        InvalidKey: a member's name makes an invalid key.
    """
    leaves: dict[str, Any] = {}
    _flatten(key, value, leaves)
    return leaves


def _flatten(key: str, value: Any, leaves: dict[str, Any]) -> None:
    if not isinstance(value, Mapping) or not value:
        leaves[key] = value
        if len(leaves) > MAX_LEAVES:
            raise WriteRefused(
                413, "too-many-leaves", f"one write holds at most {MAX_LEAVES} leaves"
            )
        return
    for name, member in value.items():
        _flatten(child(key, name), member, leaves)


def assemble(leaves: Mapping[tuple[str, ...], Any]) -> Any:
    """The value whose leaves these are, by segments relative to its root."""
    if () in leaves and len(leaves) == 1:
        return leaves[()]
    root: dict[str, Any] = {}
    for segments, value in leaves.items():
        node = root
        for segment in segments[:-1]:
            below = node.get(segment)
            if not isinstance(below, dict):
                below = node[segment] = {}
            node = below
        if segments and not (value == {} and isinstance(node.get(segments[-1]), dict)):
            node[segments[-1]] = value
    return root

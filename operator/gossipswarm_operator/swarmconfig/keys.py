r"""Keys of the swarm's state, as agents read them: dotted paths, in which ``\.`` is a dot inside a segment.

*Leaves* are a subtree taken apart: key relative to its root -> scalar, array, or ``{}`` for an empty object. The key
of the root itself is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

Leaves: TypeAlias = Mapping[str, Any]

MAX_KEY_BYTES: Final = 512
MAX_SEGMENTS: Final = 32
CANARY: Final = "canary"
"""Root of the overlays of canary regions: ``canary.<region>.<prefix>``."""
CANARY_REJECTED: Final = "canary-rejected"
"""Root of what applications in canary regions say against a version: ``canary-rejected.<region>.<prefix>``."""


class InvalidKey(ValueError):
    """The key cannot stand in the swarm's state; the message says why."""


def split(key: str) -> list[str]:
    """The unescaped segments of a key; none of the empty one."""
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
    return segment.replace("\\", "\\\\").replace(".", "\\.")


def join(segments: Iterable[str]) -> str:
    """A key from unescaped segments."""
    return ".".join(map(escape, segments))


def below(root: str, key: str) -> str:
    """A relative key as seen from above the root; either may be empty."""
    return f"{root}.{key}" if root and key else root or key


def canonical(key: str) -> str:
    """The key as agents spell it.

    Raises InvalidKey: empty, with an empty segment, a control character, too long or too deep.
    """
    segments = split(key)
    if not segments:
        raise InvalidKey("the key is empty")
    _check(key, segments)
    return join(segments)


def prefix(text: str) -> str:
    """The prefix of a SwarmConfig as agents spell it.

    Raises InvalidKey: as ``canonical``, or the key is reserved.
    """
    key = canonical(text)
    root = split(key)[0]
    if root.startswith("$"):
        raise InvalidKey(f"{root!r} is reserved for the swarm itself")
    if root in (CANARY, CANARY_REJECTED):
        raise InvalidKey(f"{root!r} is reserved for canary rollouts")
    return key


def _check(key: str, segments: Sequence[str]) -> None:
    shown = key if len(key) <= 60 else f"{key[:57]}..."
    if not all(segments):
        raise InvalidKey(f"{shown!r} has an empty segment")
    if len(segments) > MAX_SEGMENTS:
        raise InvalidKey(f"{shown!r} has over {MAX_SEGMENTS} segments")
    try:
        size = len(join(segments).encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"{shown!r} is not valid Unicode") from None
    if size > MAX_KEY_BYTES:
        raise InvalidKey(f"{shown!r} has over {MAX_KEY_BYTES} bytes")
    if any(ord(character) < 32 for character in key):
        raise InvalidKey(f"{shown!r} has control characters")


def check_below(root: str, key: str) -> None:
    """Raises InvalidKey if a relative key cannot stand below ``root``."""
    whole = below(root, key)
    if (
        len(whole) > MAX_KEY_BYTES // 4
        or not whole.isprintable()
        or ".." in whole
        or whole.count(".") >= MAX_SEGMENTS
        or whole[-1] == "."
    ):
        _check(whole, split(whole))


def ancestors(key: str) -> Iterator[str]:
    """Proper prefixes of a relative key, longest first; the root, which is empty, last."""
    segments = split(key)
    for end in range(len(segments) - 1, 0, -1):
        yield join(segments[:end])
    if segments:
        yield ""


def is_within(key: str, root: str) -> bool:
    """Whether a canonical key is ``root`` or lies below it. Everything lies within the empty one."""
    return not root or key == root or key.startswith(root + ".")


def leaves_of(value: Any) -> dict[str, Any]:
    """The leaves of any value, with no limit. An empty object at the root is no leaf."""
    if value == {}:
        return {}
    found: dict[str, Any] = {}
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        key, member = stack.pop()
        if isinstance(member, Mapping) and member:
            start = f"{key}." if key else ""
            stack.extend((start + escape(name), inner) for name, inner in member.items())
        else:
            found[key] = member
    return found


def tree_of(leaves: Leaves) -> dict[str, Any]:
    """The object whose leaves these are; none of them is the root."""
    root: dict[str, Any] = {}
    for key, value in leaves.items():
        *above, last = split(key)
        node = root
        for segment in above:
            node = node.setdefault(segment, {})
        node[last] = value
    return root

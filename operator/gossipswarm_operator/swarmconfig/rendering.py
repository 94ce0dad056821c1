"""From a SwarmConfig and the objects it refers to, to the leaves that are to stand below its prefix.

Sources are merged in their order, objects member by member, later ones winning; ``data`` wins over all. A value whose
key ends in ``.json``, ``.yaml`` or ``.yml`` is parsed, and the ending is no part of its name; any other is a string.
A whole object has one member a key; of a single key, a parsed object stands at the source's path itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import yaml

from gossipswarm_operator.swarmconfig import keys
from gossipswarm_operator.swarmconfig.model import Source, SourceRef, SwarmConfig

MAX_CONTENT_BYTES: Final = 1 << 20
"""Values and keys together, roughly as JSON."""
MAX_VALUE_BYTES: Final = MAX_CONTENT_BYTES - (16 << 10)
"""Of one leaf: an agent takes a line of 1 MiB, in which the value is not alone."""
MAX_KEYS: Final = 10_000
"""What an agent takes in one write."""
_MAX_DEPTH: Final = 64
_INTEGERS: Final = range(-(1 << 63), 1 << 64)
_PARSED: Final = (".json", ".yaml", ".yml")


class Unrenderable(Exception):
    """There is nothing to deliver. ``reason`` stands in the condition, the message says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fetched(msgspec.Struct, frozen=True):
    """What became of asking for a ConfigMap or Secret."""

    entries: Mapping[str, bytes] | None = None
    """Its keys; None if it does not exist or may not be read."""
    forbidden: str = ""
    """Why it may not be read."""


def render(config: SwarmConfig, fetched: Mapping[SourceRef, Fetched]) -> dict[str, Any]:
    """The leaves to be delivered, by their key relative to the prefix.

    Raises Unrenderable: SourceNotFound, SourceKeyNotFound, SourceForbidden, SourceUnreadable, InvalidKey,
    InvalidValue or TooLarge.
    """
    merged: dict[str, Any] = {}
    for source in config.sources:
        merged = _merge(merged, _contribution(source, fetched[source.ref]))
    _measure("spec.data", config.data)
    merged = _merge(merged, config.data)
    _measure("all sources together", merged)
    return _leaves(config.prefix, merged)


# --- sources --------------------------------------------------------------------------------------


def _contribution(source: Source, found: Fetched) -> dict[str, Any]:
    """What a source adds, as an object seen from the prefix; empty for an optional one that is not there."""
    if found.forbidden:
        raise Unrenderable("SourceForbidden", f"{source.ref} may not be read: {found.forbidden}")
    if found.entries is None:
        if source.optional:
            return {}
        raise Unrenderable("SourceNotFound", f"{source.ref} does not exist in this namespace")
    segments = keys.split(source.path)
    if source.key is None:
        members: dict[str, Any] = {}
        for key in sorted(found.entries):
            name, member = _parsed(source.ref, key, found.entries[key])
            members = _merge(members, {name: member})
        return _at(segments, members)
    if source.key not in found.entries:
        if source.optional:
            return {}
        raise Unrenderable("SourceKeyNotFound", f"{source.ref} has no key {source.key!r}")
    name, value = _parsed(source.ref, source.key, found.entries[source.key])
    if not segments and not isinstance(value, dict):
        segments = [name]
    return _at(segments, value)


def _at(segments: list[str], value: Any) -> dict[str, Any]:
    for segment in reversed(segments):
        value = {segment: value}
    assert isinstance(value, dict)
    return value


def _parsed(ref: SourceRef, key: str, raw: bytes) -> tuple[str, Any]:
    """The name and the value of one key of a ConfigMap or Secret."""
    ending = next((ending for ending in _PARSED if key.endswith(ending) and key != ending), None)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _unreadable(ref, key, "it is not text in UTF-8") from None
    if ending is None:
        return key, text
    name = key.removesuffix(ending)
    try:
        value = msgspec.json.decode(raw) if ending == ".json" else _from_yaml(text)
    except msgspec.DecodeError as error:
        raise _unreadable(ref, key, str(error)) from None
    except yaml.MarkedYAMLError as error:
        raise _unreadable(ref, key, f"it is no YAML: {_where(error)}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _unreadable(ref, key, f"it is no YAML: {error}") from None
    except RecursionError:
        raise _unreadable(ref, key, f"it nests over {_MAX_DEPTH} levels deep") from None
    _measure(f"{ref}, key {key!r}", value)
    return name, _with_text_names(value)


def _unreadable(ref: SourceRef, key: str, why: str) -> Unrenderable:
    return Unrenderable("SourceUnreadable", f"{ref}, key {key!r}: {why}")


def _where(error: yaml.MarkedYAMLError) -> str:
    # The mark's own text quotes the line, which may be of a Secret.
    mark = error.problem_mark
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return f"{error.problem or 'it cannot be parsed'}{place}"


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: whatever looks like a date is a string, since JSON has no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _from_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _with_text_names(value: Any) -> Any:
    """YAML has members named 8080 and true; in JSON they are text."""
    if isinstance(value, dict):
        return {_text_name(name): _with_text_names(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_text_names(member) for member in value]
    return value


def _text_name(name: Any) -> str:
    if isinstance(name, str):
        return name
    return msgspec.json.encode(name).decode()


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        held = merged.get(name)
        if isinstance(held, dict) and isinstance(value, dict):
            merged[name] = _merge(held, value)
        else:
            merged[name] = value
    return merged


# --- limits ---------------------------------------------------------------------------------------


def _measure(what: str, value: Any) -> int:
    """Bytes of a value as JSON, about.

    Raises Unrenderable TooLarge or InvalidValue, for what no agent could take. Nothing else looks at a value before:
    a few lines of YAML can stand for billions of members, or for a list that is in itself.
    """
    size, stack = 0, [(value, 0)]
    while stack:
        found, depth = stack.pop()
        size += 1
        if isinstance(found, dict):
            stack.extend((member, depth + 1) for member in found.values())
            size += sum(len(str(name)) + 3 for name in found)
        elif isinstance(found, list):
            stack.extend((member, depth + 1) for member in found)
            size += len(found)
        else:
            size += _size_of(what, found)
        if size > MAX_CONTENT_BYTES:
            raise Unrenderable(
                "TooLarge",
                f"{what}: over {MAX_CONTENT_BYTES} bytes; give parts of it to SwarmConfigs of their own",
            )
        if depth > _MAX_DEPTH:
            raise Unrenderable("InvalidValue", f"{what}: it nests over {_MAX_DEPTH} levels deep")
    return size


def _size_of(what: str, value: Any) -> int:
    if value is None or isinstance(value, bool):
        return 4
    if isinstance(value, str):
        try:
            return len(value.encode()) + 2
        except UnicodeEncodeError:
            raise Unrenderable("InvalidValue", f"{what}: a string is not valid Unicode") from None
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise Unrenderable(
                "InvalidValue", f"{what}: an integer is beyond 64 bits; write it as a string"
            )
        return 8
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unrenderable("InvalidValue", f"{what}: {value} is no JSON number")
        return 8
    raise Unrenderable("InvalidValue", f"{what}: {type(value).__name__} is no type of JSON")


def _leaves(prefix: str, tree: dict[str, Any]) -> dict[str, Any]:
    if "" in tree:
        raise Unrenderable("InvalidKey", "a member has an empty name")
    leaves = keys.leaves_of(tree)
    if len(leaves) > MAX_KEYS:
        raise Unrenderable("TooLarge", f"{len(leaves)} keys; at most {MAX_KEYS} are delivered")
    for key, value in leaves.items():
        try:
            keys.check_below(prefix, key)
        except keys.InvalidKey as error:
            raise Unrenderable("InvalidKey", str(error)) from None
        if isinstance(value, str | list) and _measure(key, value) > MAX_VALUE_BYTES:
            raise Unrenderable("TooLarge", f"{key}: its value has over {MAX_VALUE_BYTES} bytes")
    return dict(sorted(leaves.items()))

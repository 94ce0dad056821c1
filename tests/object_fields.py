"""Every field of an object, and ways in which somebody else may change it: for tests that leave none out by oversight."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

Path = tuple[str | int, ...]
"""Names in mappings and places in lists, from the outside in."""

_OTHERS: Final[Mapping[str, str]] = {
    "ALL": "NET_RAW",
    "Always": "Never",
    "ClusterIP": "NodePort",
    "Delete": "Retain",
    "DoNotSchedule": "ScheduleAnyway",
    "Exists": "Equal",
    "HTTP": "HTTPS",
    "HTTPS": "HTTP",
    "IfNotPresent": "Never",
    "In": "NotIn",
    "Ingress": "Egress",
    "LoadBalancer": "NodePort",
    "OnRootMismatch": "Always",
    "Retain": "Delete",
    "RollingUpdate": "OnDelete",
    "RuntimeDefault": "Unconfined",
    "ScheduleAnyway": "DoNotSchedule",
    "TCP": "SCTP",
    "UDP": "SCTP",
    "metadata.name": "metadata.namespace",
    "spec.nodeName": "metadata.namespace",
    "status.podIP": "metadata.namespace",
    "AlwaysAllow": "IfHealthyBudget",
}
"""Another word where the API knows only some."""


def nodes(body: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything in a document, the outermost first, without its root."""
    if path:
        yield path
    if isinstance(body, dict):
        for name, value in body.items():
            yield from nodes(value, (*path, name))
    elif isinstance(body, list):
        for place, value in enumerate(body):
            yield from nodes(value, (*path, place))


def at(body: Any, path: Path) -> Any:
    """What is at a path. Raises KeyError or IndexError."""
    for step in path:
        body = body[step]
    return body


def replaced(body: Any, path: Path, value: Any) -> Any:
    """A copy that has ``value`` at a path."""
    changed = copy.deepcopy(body)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def pointer(path: Path) -> str:
    """The path as JSON Patch writes it (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


def named(path: Path) -> str:
    """The path for people, without places in lists."""
    return ".".join(step for step in path if isinstance(step, str))


def others(value: Any) -> Iterator[Any]:
    """Values of the same type, one of which the API probably takes."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1)
        case str():
            if value in _OTHERS:
                yield _OTHERS[value]
            yield f"{value}x"
            yield "tmp"  # the name of a volume
            digits = "".join(itertools.takewhile(str.isdigit, value))
            if digits:
                yield f"{int(digits) + 1}{value[len(digits) :]}"
            yield base64.b64encode(value.encode() + b"x").decode()


def additions(value: Any) -> Iterator[tuple[Path, Any]]:
    """What somebody may put into a mapping or a list, with the path from there."""
    if isinstance(value, dict):
        yield ("somebody",), "added"
        yield ("somebody",), base64.b64encode(b"added").decode()
    if isinstance(value, list) and value:
        for entry in _others_of_entry(value[0]):
            yield ("-",), entry


def _others_of_entry(entry: Any) -> Iterator[Any]:
    if not isinstance(entry, dict):
        yield from others(entry)
        return
    scalars = [name for name, value in entry.items() if not isinstance(value, dict | list)]
    # As much as possible otherwise, lest it pass for the same entry once more.
    for count in range(len(scalars), 0, -1):
        for chosen in itertools.combinations(scalars, count):
            yield entry | {name: next(others(entry[name])) for name in chosen}


def common(body: Any, found: Any) -> Any:
    """As ``body``, but with the values that ``found`` has at the same places."""
    if isinstance(body, dict):
        return {name: common(value, found[name]) for name, value in body.items() if name in found}
    if isinstance(body, list):
        return [common(*pair) for pair in zip(body, found, strict=True)]
    return found


def includes(found: Any, wanted: Any) -> bool:
    """Whether everything in ``wanted`` is there, whatever else is, in any order of entries."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and includes(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list) and any(isinstance(entry, dict) for entry in wanted):
        return isinstance(found, list) and all(
            any(includes(entry, one) for entry in found) for one in wanted
        )
    return bool(found == wanted)


Field = tuple[str, ...]
"""A field as the API server keeps its books of owners: ``f:NAME``, ``k:{KEY}`` and ``v:VALUE``, from the outside in."""
_ABSENT: Final = object()


def owned(found: Mapping[str, Any], manager: str) -> frozenset[Field]:
    """Fields that a manager has by server-side apply."""
    entries = [
        entry["fieldsV1"]
        for entry in found["metadata"]["managedFields"]
        if entry["manager"] == manager and entry["operation"] == "Apply"
    ]
    return frozenset(itertools.chain.from_iterable(_fields(fields, ()) for fields in entries))


def _fields(fields: Mapping[str, Any], outer: Field) -> Iterator[Field]:
    for name, inner in fields.items():
        field = outer if name == "." else (*outer, name)
        if inner:
            yield from _fields(inner, field)
        else:
            yield field


def differ(one: Any, other: Any, field: Field) -> bool:
    """Whether two objects differ in a field."""
    return bool(_value(one, field) != _value(other, field))


def _value(found: Any, field: Field) -> Any:
    for step in field:
        kind, _, name = step.partition(":")
        if kind == "f":
            found = found.get(name, _ABSENT) if isinstance(found, dict) else _ABSENT
        else:
            wanted = json.loads(name)
            entries = found if isinstance(found, list) else []
            found = next((entry for entry in entries if includes(entry, wanted)), _ABSENT)
    return found

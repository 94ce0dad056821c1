"""Somebody who meddles with the objects of a swarm, in every field of each."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.client import BY_KIND, KubeClient
from gossipswarm_operator.errors import ApiError
from object_fields import (
    Path,
    additions,
    at,
    common,
    differ,
    includes,
    named,
    nodes,
    others,
    owned,
    pointer,
    replaced,
)

AT_ONCE = 8
"""Fields of one object that somebody takes over in one server-side apply."""
SOMEBODY = "somebody"
IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
OWNER = ("metadata", "ownerReferences", 0)
GARBAGE = {(*OWNER, "name"), (*OWNER, "uid")}
"""Whose owner does not exist is deleted by the garbage collector."""
BELIEVED = {("Secret", "data"), ("Secret", f"metadata.annotations.{names.GENERATION_ANNOTATION}")}
"""What the operator keeps there and nowhere else: a change is taken for the new state."""


class Change(msgspec.Struct, frozen=True):
    """Something that somebody does to an object, in one place or in several at once."""

    how: Literal["patch", "apply", "remove", "add"]
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.how} {named(self.paths[0])}"

    def concerns(self, field: str) -> bool:
        """Whether a field that the operator names is one of these, or around or in one."""
        plain = re.sub(r"\[[^\]]*\]", "", field)
        return any(
            plain.startswith(named(path)) or named(path).startswith(plain) for path in self.paths
        )


def changes(body: dict[str, Any]) -> Iterator[Change]:
    """Everything that can be done to an object."""
    kind = body["kind"]
    ours = [
        path
        for path in nodes(body)
        if path not in IDENTITY | GARBAGE
        and (kind, path[0]) not in BELIEVED
        and (kind, named(path)) not in BELIEVED
    ]
    leaves = [path for path in ours if not isinstance(at(body, path), dict | list)]
    for path in ours:
        if path not in leaves:
            yield Change("add", (path,))
    for path in leaves:
        yield Change("patch", (path,))
    for path in ours:
        if path in leaves or isinstance(path[-1], int):
            yield Change("remove", (path,))
    # Not an owner and labels together: nothing would tell any more that the object is ours.
    for _, part in itertools.groupby(leaves, lambda path: path[:2]):
        together = list(part)
        for start in range(0, len(together), AT_ONCE):
            yield Change("apply", tuple(together[start : start + AT_ONCE]))


class Thing:
    """One object of a swarm, as it ought to be."""

    def __init__(self, admin: KubeClient, body: dict[str, Any], found: dict[str, Any]) -> None:
        self._admin = admin
        self.body = body
        self.found = found
        metadata = body["metadata"]
        self.resource = BY_KIND[body["kind"]]
        self.identity = f"{body['kind']} {metadata['name']}"
        self._path = self.resource.path(metadata["namespace"], metadata["name"])
        self.todo: deque[Change] = deque()

    @property
    def wanted(self) -> dict[str, Any]:
        """What we applied, in the words of the API server."""
        found = content(self.found)
        return {name: common(self.body[name], found[name]) for name in found if name in self.body}

    async def suffer(self, change: Change) -> bool:
        """Have it done to the object; False if the API server lets nobody do that."""
        for operation in self._operations(change):
            try:
                await operation
            except ApiError as refused:
                assert refused.status in (400, 409, 422, 500), refused
                continue
            return True
        return False

    def _operations(self, change: Change) -> Iterator[Any]:
        path = change.paths[0]
        match change.how:
            case "patch":
                for other in others(at(self.found, path)):
                    yield self._patch(("replace", path, other))
            case "apply":
                yield self._apply(change.paths)
                yield from (self._apply((path,)) for path in change.paths)
            case "remove":
                yield self._patch(("remove", path, None))
            case "add":
                for inside, other in additions(at(self.found, path)):
                    yield self._patch(("add", (*path, *inside), other))

    async def _patch(self, *operations: tuple[str, Path, Any]) -> None:
        body: Any = [
            {"op": verb, "path": pointer(path), "value": value} for verb, path, value in operations
        ]
        query = {"fieldManager": SOMEBODY}
        media = "application/json-patch+json"
        await self._admin._call("PATCH", "patch", self.resource, self._path, query, body, media)

    async def _apply(self, paths: tuple[Path, ...]) -> None:
        body = self.body
        for path in paths:
            body = replaced(body, path, next(others(at(self.found, path))))
        query = {"fieldManager": SOMEBODY, "force": "true"}
        media = "application/apply-patch+yaml"
        await self._admin._call("PATCH", "apply", self.resource, self._path, query, body, media)

    async def restore(self) -> None:
        """Take away what others have left."""
        whole = content(self.found)
        metadata = whole.pop("metadata")
        paths = {(name,): value for name, value in whole.items()}
        paths |= {("metadata", name): value for name, value in metadata.items() if value}
        await self._patch(*(("add", path, value) for path, value in paths.items()))

    def verdict(
        self,
        change: Change,
        before: dict[str, Any],
        after: dict[str, Any],
        said: list[str],
    ) -> Iterator[str]:
        """What was not as it ought to be."""
        what = f"{self.identity}: {change}"
        taken = owned(self.found, names.FIELD_MANAGER) - owned(before, names.FIELD_MANAGER)
        changed = {field for field in taken if differ(before, self.found, field)}
        if not changed:
            if said:
                yield f"{what}: nothing of ours was touched, but it is said that {said}"
            return
        if len(said) != 1 or not change.concerns(said[0]):
            yield f"{what}: said {said}, lost {sorted(changed)[:3]}"
        if not changed <= owned(after, names.FIELD_MANAGER):
            yield f"{what}: not ours again"
        if not includes(content(after), self.wanted):
            yield f"{what}: not as it was"


def content(found: dict[str, Any]) -> dict[str, Any]:
    """Of an object, what people and operators write."""
    kept = ("labels", "annotations", "ownerReferences")
    metadata = {name: found["metadata"].get(name) for name in kept}
    rest = {name: value for name, value in found.items() if name not in ("metadata", "status")}
    return {**rest, "metadata": metadata}

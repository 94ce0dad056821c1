"""An API server of dictionaries, as far as the operator's reconcile of cuts can tell it from a real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gossipswarm_operator import names
from gossipswarm_operator.client import Object, Resource
from gossipswarm_operator.conditions import timestamp
from gossipswarm_operator.errors import ApiError

NAMESPACE = "prod"


class Server:
    """Objects of one namespace, and calls as ``KubeClient`` has them."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        """By kind and name."""
        self.changes = 0
        """Grows with whatever changes an object."""
        self.refused: dict[tuple[str, str], ApiError] = {}
        """By verb, and kind or name: what is answered."""
        self.writes: list[str] = []

    # --- calls ------------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((resource.kind, name)))

    async def list_all(
        self, resource: Resource, namespace: str, *, labels: str | None = None
    ) -> list[Object]:
        wanted = dict(part.split("=") for part in labels.split(",")) if labels else {}
        return [
            copy.deepcopy(found)
            for (kind, _), found in sorted(self.objects.items())
            if kind == resource.kind
            and wanted.items() <= (found["metadata"].get("labels") or {}).items()
        ]

    async def apply(self, body: Object) -> Object:
        self._write("apply", body["kind"], body["metadata"]["name"])
        return copy.deepcopy(self.put(body))

    async def merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Object:
        self._write("patch", resource.kind, name)
        found = self.objects.get((resource.kind, name))
        if found is None:
            raise ApiError(404, "NotFound", name)
        asked = dict(patch.get("metadata") or {})
        version = asked.pop("resourceVersion", found["metadata"]["resourceVersion"])
        if version != found["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", name)
        if subresource == "status":
            _merge(found.setdefault("status", {}), patch["status"])
        else:
            _merge(found["metadata"], asked)
        self.version(found)
        self.collect(resource.kind, name)
        return copy.deepcopy(found)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, status: Mapping[str, Any]
    ) -> Object:
        return await self.merge(resource, namespace, name, {"status": status}, subresource="status")

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str | None = None
    ) -> bool:
        self._write("delete", resource.kind, name)
        return self.remove(resource.kind, name)

    def _write(self, verb: str, kind: str, name: str) -> None:
        for what in (kind, name):
            if (verb, what) in self.refused:
                raise self.refused[verb, what]
        self.writes.append(f"{verb} {kind} {name}")

    # --- objects ----------------------------------------------------------------------------------

    def put(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, or apply one."""
        key = (body["kind"], body["metadata"]["name"])
        held = self.objects.get(key)
        found = copy.deepcopy(dict(body))
        found["metadata"].setdefault("namespace", NAMESPACE)
        if held is not None:
            found["metadata"]["uid"] = held["metadata"]["uid"]
        else:
            found["metadata"].setdefault("uid", f"uid-{key[0]}-{key[1]}-{self.changes}")
        self.objects[key] = found
        self.version(found)
        return found

    def version(self, found: dict[str, Any]) -> None:
        self.changes += 1
        found["metadata"]["resourceVersion"] = str(self.changes)

    def remove(self, kind: str, name: str) -> bool:
        """As the API server does it: what has a finalizer stays, and is marked."""
        found = self.objects.get((kind, name))
        if found is None:
            return False
        found["metadata"].setdefault("deletionTimestamp", timestamp(self._now()))
        self.version(found)
        self.collect(kind, name)
        return True

    def collect(self, kind: str, name: str) -> None:
        """Take away what is deleted and has no finalizer, and what it owns."""
        found = self.objects[kind, name]["metadata"]
        if "deletionTimestamp" not in found or found.get("finalizers"):
            return
        del self.objects[kind, name]
        self.changes += 1
        for other_kind, other in list(self.objects):
            owned = self.objects.get((other_kind, other))
            if owned is not None and names.is_owned_by(owned, found["uid"]):
                self.remove(other_kind, other)


def _merge(held: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            held.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(held.get(name), dict):
            _merge(held[name], value)
        else:
            held[name] = copy.deepcopy(value)

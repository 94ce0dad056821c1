"""Which SwarmConfigs have to be looked at when something changes, by what was last seen of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""


class _Seen(msgspec.Struct, frozen=True):
    """What of a SwarmConfig decides when it has to be looked at."""

    identity: tuple[str, int, bool]
    """Uid, generation and whether it is being deleted: its own status changes nothing of this."""
    swarm: str
    config_maps: frozenset[str]


class Dependents:
    """Learns from what is watched. Every method returns the SwarmConfigs to be looked at."""

    def __init__(self) -> None:
        self._seen: dict[Key, _Seen] = {}
        self._swarms: dict[Key, tuple[Any, ...]] = {}
        self._config_maps: dict[Key, str] = {}

    def config(self, found: Mapping[str, Any], *, gone: bool) -> set[Key]:
        """A SwarmConfig was seen, or went. Its neighbours may have to give way to it, or take over from it."""
        key = _key(found)
        before = self._seen.pop(key, None)
        if gone:
            return {key} | self._of_swarm(key[0], _read(found).swarm)
        now = _read(found)
        self._seen[key] = now
        if before is not None and before.identity == now.identity:
            return set()
        is_new = before is None or before.identity[0] != now.identity[0]
        return {key} | (self._of_swarm(key[0], now.swarm) if is_new else set())

    def config_map(self, found: Mapping[str, Any], *, gone: bool) -> set[Key]:
        """A ConfigMap was seen, or went. Those that nobody refers to are not remembered."""
        namespace, name = key = _key(found)
        users = {
            user
            for user, seen in self._seen.items()
            if user[0] == namespace and name in seen.config_maps
        }
        version = str(found["metadata"].get("resourceVersion") or "")
        if not users or gone:
            self._config_maps.pop(key, None)
            return users
        if self._config_maps.get(key) == version:
            return set()
        self._config_maps[key] = version
        return users

    def swarm(self, found: Mapping[str, Any], *, gone: bool) -> set[Key]:
        """A GossipSwarm was seen, or went."""
        key = _key(found)
        users = self._of_swarm(*key)
        if gone:
            self._swarms.pop(key, None)
            return users
        metadata, status = found["metadata"], found.get("status") or {}
        now = (
            metadata.get("uid"),
            metadata.get("generation"),
            "deletionTimestamp" in metadata,
            status.get("replicas"),
            status.get("readyReplicas"),
            status.get("partition"),
        )
        if self._swarms.get(key) == now:
            return set()
        self._swarms[key] = now
        return users

    def _of_swarm(self, namespace: str, swarm: str) -> set[Key]:
        return {
            key for key, seen in self._seen.items() if key[0] == namespace and seen.swarm == swarm
        }


def _key(found: Mapping[str, Any]) -> Key:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _read(found: Mapping[str, Any]) -> _Seen:
    metadata, spec = found["metadata"], found.get("spec") or {}
    refs = (entry.get("configMapRef") or {} for entry in spec.get("valuesFrom") or ())
    return _Seen(
        (
            str(metadata.get("uid")),
            int(metadata.get("generation") or 0),
            "deletionTimestamp" in metadata,
        ),
        str((spec.get("swarmRef") or {}).get("name") or ""),
        frozenset(str(ref["name"]) for ref in refs if "name" in ref),
    )

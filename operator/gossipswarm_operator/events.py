"""Events of Kubernetes, by which ``kubectl describe`` tells what the operator did and why.

An event that says the same of the same object again raises the count of the first, at most once a minute. An event that
cannot be written is logged and forgotten: telling must never stop doing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator.client import EVENTS, KubeClient
from gossipswarm_operator.conditions import timestamp
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.names import MANAGER_NAME

Type = Literal["Normal", "Warning"]

REPEAT_SECONDS: Final = 60.0
REMEMBERED: Final = 4096
"""Events that repetitions are recognised of; beyond, the oldest is forgotten and would be written anew."""
MESSAGE_LIMIT: Final = 1024
"""Characters; the API refuses longer ones."""
_NAME_LIMIT: Final = 240

_log = logging.getLogger(__name__)


class _Told(msgspec.Struct):
    name: str
    count: int
    at: float
    """Monotonic time of the last write."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Events:
    """Writes events about objects."""

    def __init__(
        self,
        kube: KubeClient,
        component: str = MANAGER_NAME,
        instance: str = "",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._kube = kube
        self._component = component
        self._instance = instance
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()

    async def normal(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        """Something happened as it should. ``about`` is an object as the API server gives it."""
        await self._tell(about, "Normal", reason, message)

    async def warning(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        """Something needs attention."""
        await self._tell(about, "Warning", reason, message)

    async def _tell(self, about: Mapping[str, Any], kind: Type, reason: str, message: str) -> None:
        metadata = about["metadata"]
        level = logging.WARNING if kind == "Warning" else logging.INFO
        facts = {
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "reason": reason,
        }
        _log.log(level, message, extra={"object": facts})
        try:
            await self._write(about, kind, reason, message[:MESSAGE_LIMIT])
        except ApiError as error:
            _log.warning("cannot write an event", extra={"object": facts, "error": error.message})

    async def _write(self, about: Mapping[str, Any], kind: Type, reason: str, message: str) -> None:
        metadata = about["metadata"]
        identity = (metadata.get("uid", ""), kind, reason, message)
        now = asyncio.get_running_loop().time()
        told = self._told.get(identity)
        if told is not None:
            self._told.move_to_end(identity)
            told.count += 1
            if now - told.at < REPEAT_SECONDS or await self._repeat(metadata["namespace"], told):
                return
        name = f"{metadata['name'][:_NAME_LIMIT]}.{secrets.token_hex(8)}"
        self._told[identity] = _Told(name, 1, now)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        await self._kube.create(self._event(about, name, kind, reason, message))

    async def _repeat(self, namespace: str, told: _Told) -> bool:
        """Raise the count of an event; False if it is gone, as they go after an hour."""
        told.at = asyncio.get_running_loop().time()
        patch = {"count": told.count, "lastTimestamp": timestamp(self._clock())}
        try:
            await self._kube.merge(EVENTS, namespace, told.name, patch)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _event(
        self, about: Mapping[str, Any], name: str, kind: Type, reason: str, message: str
    ) -> dict[str, Any]:
        metadata = about["metadata"]
        at = timestamp(self._clock())
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance or self._component,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }

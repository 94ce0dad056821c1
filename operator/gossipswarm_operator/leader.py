"""Which replica works: the one that holds a Lease, as in client-go's leader election.

A holder that has not renewed for ``lease_seconds`` is followed by another. Clocks are never compared between replicas: each
counts on its own from when it saw the Lease change. A holder gives up after two thirds of that time without a renewal, so
it has stopped before anybody else begins. One that was kept from running, and comes to when another leads already, finds
by its own clock that it is too late (``check``) before it finishes what it was about to write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from gossipswarm_operator.client import LEASES, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.names import MANAGER_NAME

NOT_LEADING: Final = "NotLeading"

_log = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Leadership:
    """A replica's claim to the Lease."""

    def __init__(
        self,
        kube: KubeClient,
        namespace: str,
        identity: str,
        lease_seconds: float = 15.0,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self.identity = identity
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._seen: tuple[str, float] | None = None
        """Version of the Lease, and when it was first seen (monotonic)."""
        self._renewed: float | None = None
        """When the newest renewal was asked for (monotonic)."""

    def check(self) -> None:
        """Raise ApiError unless this replica leads for certain: nothing may be written otherwise."""
        if self._left() <= 0:
            raise ApiError(
                0, NOT_LEADING, "this replica does not lead, or has not renewed its Lease"
            )

    def _left(self) -> float:
        """Seconds for which nobody else can lead; none once they are over."""
        if self._renewed is None:
            return 0.0
        passed = asyncio.get_running_loop().time() - self._renewed
        return self._lease_seconds * 2 / 3 - passed

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        while True:
            try:
                if await self._try():
                    _log.info("leading", extra={"identity": self.identity})
                    return
            except ApiError as error:
                _log.warning("cannot get the Lease", extra={"error": error.message})
            await asyncio.sleep(self._lease_seconds / 5)

    async def keep(self) -> None:
        """Renew for as long as that works; returns when another leads or may soon."""
        while True:
            await asyncio.sleep(self._lease_seconds / 5)
            if self._left() <= 0:
                _log.error("the Lease was not renewed in time", extra={"identity": self.identity})
                return
            try:
                async with asyncio.timeout(self._left()):
                    if not await self._try():
                        _log.error("another replica leads", extra={"identity": self.identity})
                        self._renewed = None
                        return
            except (ApiError, TimeoutError) as error:
                _log.warning("cannot renew the Lease", extra={"error": str(error)})

    async def release(self) -> None:
        """Let the next replica begin at once."""
        try:
            found = await self._kube.get(LEASES, self._namespace, MANAGER_NAME)
            if found is not None and found["spec"].get("holderIdentity") == self.identity:
                found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.replace({**found, "kind": LEASES.kind})
        except ApiError as error:
            _log.warning("cannot release the Lease", extra={"error": error.message})

    async def _try(self) -> bool:
        """Take or renew the Lease; False if somebody else holds it."""
        asked = asyncio.get_running_loop().time()
        found = await self._kube.get(LEASES, self._namespace, MANAGER_NAME)
        try:
            if found is None:
                await self._kube.create(self._lease({}, {}))
            elif self._is_free(found):
                # With its resourceVersion: of two that try, one gets a conflict.
                await self._kube.replace(self._lease(found["metadata"], found["spec"]))
            else:
                return False
        except ApiError as error:
            if error.kind == "conflict":
                return False
            raise
        self._renewed = asked
        return True

    def _is_free(self, found: dict[str, Any]) -> bool:
        holder = found["spec"].get("holderIdentity")
        if holder == self.identity or not holder:
            return True
        now = asyncio.get_running_loop().time()
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        duration = float(found["spec"].get("leaseDurationSeconds") or self._lease_seconds)
        return now - self._seen[1] > duration

    def _lease(self, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        at = self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        renewed = dict(spec) | {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._lease_seconds)),
            "renewTime": at,
        }
        if spec.get("holderIdentity") != self.identity:
            renewed["acquireTime"] = at
            renewed["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": dict(metadata) or {"name": MANAGER_NAME, "namespace": self._namespace},
            "spec": renewed,
        }

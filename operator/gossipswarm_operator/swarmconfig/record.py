"""One SwarmConfig object during a reconcile: its status and its finalizer, and the only writes to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from gossipswarm_operator import conditions
from gossipswarm_operator.client import CONFIGS, KubeClient, Object
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.events import Events
from gossipswarm_operator.names import GROUP
from gossipswarm_operator.swarmconfig import status as statuses
from gossipswarm_operator.swarmconfig.status import Outcome

FINALIZER: Final = f"{GROUP}/swarmconfig"
"""Holds the object until what it delivered is deleted at the agents."""


class TooLarge(Exception):
    """The object would not fit into the API server with what has to be remembered of it."""


class Record:
    """Starts from ``source``, the object as it was read, and follows what is written."""

    def __init__(
        self, kube: KubeClient, events: Events, source: Object, now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._events = events
        self._now = now
        self.source = source
        self.now = now()

    @property
    def status(self) -> dict[str, Any]:
        """The status as it is now."""
        found: dict[str, Any] = self.source.get("status") or {}
        return found

    @property
    def _place(self) -> tuple[str, str]:
        metadata = self.source["metadata"]
        return metadata["namespace"], metadata["name"]

    @property
    def deleted_at(self) -> datetime | None:
        """Since when the object is to go."""
        text = self.source["metadata"].get("deletionTimestamp")
        return datetime.fromisoformat(text) if text else None

    async def save(self, outcome: Outcome) -> None:
        """Write what changed in the status, and an event for each condition that did.

        Raises TooLarge, or ApiError.
        """
        before = self.status
        generation = self.source["metadata"].get("generation", 0)
        patch = statuses.patch(before, outcome, generation=generation, now=self._now())
        if not patch:
            return
        try:
            stored = await self._kube.patch_status(CONFIGS, *self._place, patch)
        except ApiError as error:
            if outcome.ledger is not None and (
                error.status == 413 or "too large" in error.message.lower()
            ):
                raise TooLarge(error.message) from None
            raise
        self.source = stored
        await self._tell(before, patch)

    async def _tell(self, before: dict[str, Any], patch: dict[str, Any]) -> None:
        changed = [
            transition.now
            for transition in conditions.transitions(
                before.get("conditions"), patch.get("conditions") or ()
            )
        ]
        told = {condition.type for condition in changed}
        if patch.get("version") and before.get("version") and "Synced" not in told:
            found = conditions.find(patch, "Synced") or conditions.find(self.status, "Synced")
            if found is not None:
                await self._events.normal(self.source, found["reason"], found["message"])
        for condition in changed:
            tell = self._events.warning if statuses.is_trouble(condition) else self._events.normal
            await tell(self.source, condition.reason, condition.message)

    async def warn(self, reason: str, message: str) -> None:
        """An event that is no condition."""
        await self._events.warning(self.source, reason, message)

    # --- finalizer --------------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """The object stays until ``release``."""
        return FINALIZER in (self.source["metadata"].get("finalizers") or ())

    async def hold(self) -> None:
        """Have the object stay until ``release``. Raises ApiError 409 if somebody changed it meanwhile."""
        if not self.is_held:
            held = self.source["metadata"].get("finalizers") or []
            await self._set_finalizers([*held, FINALIZER])

    async def release(self) -> None:
        """Let the object go once it is deleted. Raises ApiError 409 if somebody changed it meanwhile."""
        if self.is_held:
            held = self.source["metadata"]["finalizers"]
            await self._set_finalizers([name for name in held if name != FINALIZER])

    async def _set_finalizers(self, finalizers: list[str]) -> None:
        metadata = self.source["metadata"]
        patch = {
            "metadata": {
                "finalizers": finalizers or None,
                "resourceVersion": metadata["resourceVersion"],
                "uid": metadata["uid"],
            }
        }
        status = self.status
        self.source = await self._kube.merge(CONFIGS, *self._place, patch)
        self.source.setdefault("status", status)

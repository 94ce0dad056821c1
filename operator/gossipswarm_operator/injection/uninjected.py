"""Pods that asked for a sidecar and run without: an event on each says why, and a metric counts them.

The webhook itself tells nobody but whoever makes the pod, and often that is a controller that drops warnings; and while it
is down nobody asks it. So the leader looks at the pods that there are, and decides again what would have become of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.client import PODS, KubeClient
from gossipswarm_operator.events import Events
from gossipswarm_operator.injection.decision import Inject, Leave, Refuse, asked
from gossipswarm_operator.injection.server import Injector
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.queue import Key

SYSTEM: Final = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces that the webhook is never asked about."""
NOT_INJECTED: Final = "NotInjected"
AGAIN_SECONDS: Final = 300.0
"""Until the reason is looked for again: somebody may have mended it, and then the pod must only be made anew."""
_OVER: Final = ("Succeeded", "Failed")


def lacks(pod: Mapping[str, Any]) -> bool:
    """Whether a pod asked for a sidecar, has none, and is not on its way out."""
    metadata = pod["metadata"]
    return (
        asked(pod) is not None
        and metadata["namespace"] not in SYSTEM
        and "deletionTimestamp" not in metadata
        and (pod.get("status") or {}).get("phase") not in _OVER
    )


class Uninjected:
    """Knows the pods that lack their sidecar."""

    def __init__(
        self, kube: KubeClient, events: Events, metrics: Metrics, injector: Injector
    ) -> None:
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._injector = injector
        self._reasons: dict[Key, str] = {}
        self._looked_at: set[Key] = set()
        """Pods that are being looked at and were not forgotten meanwhile."""

    def forget(self, key: Key) -> None:
        """A pod is gone, or has what it asked for."""
        self._looked_at.discard(key)
        if self._reasons.pop(key, None) is not None:
            self._show()

    async def reconcile(self, key: Key) -> float | None:
        """Look at one pod; seconds until it is to be looked at again. Raises ApiError."""
        namespace, name = key
        self._looked_at.add(key)
        pod = await self._kube.get(PODS, namespace, name)
        if pod is None or not lacks(pod):
            self.forget(key)
            return None
        decision = await self._injector.decide(pod, namespace)
        if isinstance(decision, Leave):
            self.forget(key)
            return None
        if key not in self._looked_at:
            return None  # what was read is from before it went
        reason, message = _told(decision)
        self._reasons[key] = reason
        self._show()
        await self._events.warning(pod, reason, message)
        return AGAIN_SECONDS

    def _show(self) -> None:
        counts = Counter((namespace, why) for (namespace, _), why in self._reasons.items())
        self._metrics.show_uninjected(counts)


def _told(decision: Refuse | Inject) -> tuple[str, str]:
    """Reason and message of the event."""
    if isinstance(decision, Refuse):
        return decision.reason, f"no sidecar: {decision.message}; then make the pod anew"
    return NOT_INJECTED, (
        f"no sidecar: the webhook was not reached, or was not there, when the pod was made with label "
        f"{names.INJECT_LABEL}; make the pod anew"
    )

"""What controllers of the cluster say in events only: why there is no pod, and why there is no volume. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gossipswarm_operator import names
from gossipswarm_operator.client import EVENTS, KubeClient
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Pod

_NO_POD: Final = "FailedCreate"
_NO_VOLUME: Final = "ProvisioningFailed"


async def of_stateful_sets(
    kube: KubeClient, swarm: Swarm, objects: Mapping[tuple[str, str], Object], pods: Sequence[Pod]
) -> dict[str, str]:
    """By StatefulSet that lacks pods: why they cannot be made. Raises ApiError."""
    found: dict[str, str] = {}
    for (kind, name), body in objects.items():
        wanted = body["spec"].get("replicas", 0) if kind == "StatefulSet" else 0
        there = sum(names.stateful_set(swarm.name, pod.region) == name for pod in pods)
        if there < wanted:
            fields = f"involvedObject.kind=StatefulSet,involvedObject.name={name},type=Warning"
            events = await kube.list_all(EVENTS, swarm.namespace, fields=fields)
            found |= _latest(events, _NO_POD)
    return found


async def of_claims(kube: KubeClient, swarm: Swarm, claims: Mapping[str, Object]) -> dict[str, str]:
    """By claim that waits for a volume: why there is none. Raises ApiError."""
    waiting = {
        name for name, claim in claims.items() if claim.get("status", {}).get("phase") == "Pending"
    }
    if not waiting:
        return {}
    fields = "involvedObject.kind=PersistentVolumeClaim,type=Warning"
    events = await kube.list_all(EVENTS, swarm.namespace, fields=fields)
    return {name: why for name, why in _latest(events, _NO_VOLUME).items() if name in waiting}


def _latest(events: Sequence[Object], reason: str) -> dict[str, str]:
    """The newest message of each object that these events are about."""
    told = sorted((event for event in events if event.get("reason") == reason), key=_last_seen)
    return {event["involvedObject"]["name"]: str(event.get("message", "")) for event in told}


def _last_seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")

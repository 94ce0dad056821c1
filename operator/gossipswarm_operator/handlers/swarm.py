"""Watches GossipSwarms and what belongs to them, and asks for a reconcile of the swarm that a change is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import kopf

from gossipswarm_operator import names
from gossipswarm_operator.client import NETWORK_POLICIES, PODS
from gossipswarm_operator.observe import OWNED
from gossipswarm_operator.queue import Key, Queue

_WATCHED: Final = (*OWNED, PODS)


def register(registry: kopf.OperatorRegistry, queue: Queue) -> None:
    """Fill ``queue``. Events carry no meaning but whom they are about: a missed or doubled one does no harm."""
    seen: dict[Key, tuple[str, int]] = {}
    """Uid and generation: while nobody watched, an object may have gone and another have come."""

    async def swarm_seen(event: kopf.RawEvent, **_: Any) -> None:
        metadata: dict[str, Any] = dict(event["object"]["metadata"])
        key = (metadata["namespace"], metadata["name"])
        version = (metadata["uid"], int(metadata.get("generation", 0)))
        if event["type"] == "DELETED":
            seen.pop(key, None)
        elif seen.get(key) == version:
            return  # only its status or annotations: our own doing, mostly
        else:
            seen[key] = version
        queue.forgive(key)
        queue.add(key)

    async def child_seen(event: kopf.RawEvent, **_: Any) -> None:
        metadata = event["object"]["metadata"]
        queue.add((metadata["namespace"], metadata["labels"][names.SWARM_LABEL]))

    async def policy_seen(event: kopf.RawEvent, **_: Any) -> None:
        """Policies add up: one of somebody else may open what ours closes. Ours are about their swarm alone."""
        metadata = event["object"]["metadata"]
        if names.SWARM_LABEL in (metadata.get("labels") or {}):
            await child_seen(event)
            return
        for key in [key for key in seen if key[0] == metadata["namespace"]]:
            queue.add(key)

    on: Callable[..., Any] = kopf.on.event
    on(names.GROUP, names.VERSION, "gossipswarms", id="swarm", registry=registry)(swarm_seen)
    for resource in _WATCHED:
        group, _, version = resource.api_version.rpartition("/")
        policies = resource is NETWORK_POLICIES
        on(
            group,
            version,
            resource.plural,
            id=f"swarm-{resource.plural}",
            labels=None if policies else {names.SWARM_LABEL: kopf.PRESENT},
            registry=registry,
        )(policy_seen if policies else child_seen)

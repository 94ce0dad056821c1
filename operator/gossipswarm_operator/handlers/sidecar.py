"""Watches pods that ask for a sidecar, for those that have none."""

from __future__ import annotations

from typing import Any

import kopf

from gossipswarm_operator.injection.uninjected import Uninjected, lacks
from gossipswarm_operator.names import INJECT_LABEL
from gossipswarm_operator.queue import Queue


def register(registry: kopf.OperatorRegistry, queue: Queue, uninjected: Uninjected) -> None:
    """Fill ``queue`` with pods that lack what they asked for, and forget those that do not any more."""

    async def pod_seen(event: kopf.RawEvent, **_: Any) -> None:
        pod: dict[str, Any] = dict(event["object"])
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        if event["type"] == "DELETED" or not lacks(pod):
            uninjected.forget(key)
        else:
            queue.add(key)

    on: Any = kopf.on.event
    on("", "v1", "pods", id="sidecar", labels={INJECT_LABEL: kopf.PRESENT}, registry=registry)(
        pod_seen
    )

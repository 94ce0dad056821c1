"""Watches SwarmPartitions and what they depend on, and asks for a look at the cuts of the swarm that a change is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from gossipswarm_operator import names
from gossipswarm_operator.client import NETWORK_POLICIES, PODS, Resource
from gossipswarm_operator.partition.model import swarm_of
from gossipswarm_operator.queue import Key, Queue

_GONE: Final = "DELETED"


def register(registry: kopf.OperatorRegistry, queue: Queue, swarms: Queue) -> None:
    """Fill ``queue`` with swarms whose cuts have to be looked at, and ``swarms`` with those whose cuts changed.

    Events carry no meaning but whom they are about: a missed or doubled one does no harm.
    """
    cuts: dict[Key, Key] = {}
    """Swarm by SwarmPartition, of those that there are."""
    seen: dict[Key, tuple[Any, ...]] = {}

    async def partition_seen(event: kopf.RawEvent, **_: Any) -> None:
        found = event["object"]
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        swarm = swarm_of(found)
        if swarm is None:
            return
        key = (namespace, swarm)
        if event["type"] == _GONE:
            cuts.pop((namespace, name), None)
            seen.pop((namespace, name), None)
        else:
            cuts[namespace, name] = key
            said = _decisive(found)
            if seen.get((namespace, name)) == said:
                return  # only what its status tells: our own doing
            seen[namespace, name] = said
        queue.forgive(key)
        queue.add(key)
        swarms.add(key)

    async def swarm_seen(event: kopf.RawEvent, **_: Any) -> None:
        metadata = event["object"]["metadata"]
        add((metadata["namespace"], metadata["name"]))

    async def child_seen(event: kopf.RawEvent, **_: Any) -> None:
        metadata = event["object"]["metadata"]
        add((metadata["namespace"], metadata["labels"][names.SWARM_LABEL]))

    def add(key: Key) -> None:
        if key in cuts.values():
            queue.add(key)

    on: Callable[..., Any] = kopf.on.event
    group, version = names.GROUP, names.VERSION
    on(group, version, "swarmpartitions", id="partition", registry=registry)(partition_seen)
    on(group, version, "gossipswarms", id="partition-swarm", registry=registry)(swarm_seen)
    _on_labelled(registry, NETWORK_POLICIES, names.PARTITION_LABEL, child_seen)
    _on_labelled(registry, PODS, names.ROLE_LABEL, child_seen)


def _decisive(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything of a SwarmPartition on which it depends what is cut."""
    metadata, status = found["metadata"], found.get("status") or {}
    return (
        *(metadata.get(field) for field in ("uid", "generation", "deletionTimestamp")),
        *(status.get(field) for field in ("appliedAt", "healedAt", "mechanism")),
    )


def _on_labelled(
    registry: kopf.OperatorRegistry, resource: Resource, label: str, seen: Callable[..., Any]
) -> None:
    group, _, version = resource.api_version.rpartition("/")
    labels: dict[str, Any] = {names.SWARM_LABEL: kopf.PRESENT, label: kopf.PRESENT}
    on: Callable[..., Any] = kopf.on.event
    where = f"partition-{resource.plural}"
    on(group, version, resource.plural, id=where, labels=labels, registry=registry)(seen)

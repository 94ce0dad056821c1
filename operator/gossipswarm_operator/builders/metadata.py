"""Name, labels and owner of an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossipswarm_operator import names
from gossipswarm_operator.model import Swarm


def described(
    swarm: Swarm,
    api_version: str,
    kind: str,
    name: str,
    *,
    component: str = "agent",
    region: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The head of an object that belongs to a swarm."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": swarm.namespace,
        "labels": names.labels(swarm.name, component, region),
        "ownerReferences": [names.owner_reference(swarm.source)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}

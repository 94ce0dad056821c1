"""The StatefulSet of a region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.builders import pod
from gossipswarm_operator.builders.facts import Facts
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.model import Region, Swarm
from gossipswarm_operator.quantities import quantity

_REVISIONS_KEPT: Final = 5


def stateful_set(swarm: Swarm, region: Region, facts: Facts) -> dict[str, Any]:
    """Agents of a region. How far an update may go is in its partition."""
    name = names.stateful_set(swarm.name, region.name)
    selector = names.agent_selector(swarm.name, region.name)
    progress = facts.regions[region.name]
    storage = swarm.spec.storage
    body = described(swarm, "apps/v1", "StatefulSet", name, region=region.name)
    body["spec"] = {
        "replicas": progress.replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector},
        "template": pod.template(swarm, region, facts),
        "updateStrategy": _update(swarm, progress.partition),
        "revisionHistoryLimit": _REVISIONS_KEPT,
    }
    if storage.type == "Persistent":
        body["spec"]["persistentVolumeClaimRetentionPolicy"] = {
            "whenDeleted": storage.retention,
            "whenScaled": storage.retention,
        }
        body["spec"]["volumeClaimTemplates"] = [_claim(swarm, region)]
    return body


def _update(swarm: Swarm, partition: int) -> dict[str, Any]:
    if swarm.spec.update.strategy == "OnDelete":
        return {"type": "OnDelete"}
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}


def _claim(swarm: Swarm, region: Region) -> dict[str, Any]:
    storage = swarm.spec.storage
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": region.storage.size or storage.size}},
    }
    storage_class = region.storage.storage_class_name or storage.storage_class_name
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": spec,
    }


def storage_of(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Size and class of a StatefulSet's volumes; None for no volumes, or the default class."""
    for claim in body["spec"].get("volumeClaimTemplates") or ():
        spec = claim["spec"]
        return spec["resources"]["requests"]["storage"], spec.get("storageClassName")
    return None, None


def frozen_difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The first field that differs and that a StatefulSet cannot change; None if there is none."""
    for field in ("serviceName", "podManagementPolicy", "selector"):
        if wanted["spec"][field] != found["spec"].get(field):
            return f"spec.{field}"
    size, storage_class = storage_of(wanted)
    old_size, old_class = storage_of(found)
    if (size is None) != (old_size is None):
        return "spec.volumeClaimTemplates"
    if size is not None and old_size is not None and quantity(size) != quantity(old_size):
        return "spec.volumeClaimTemplates[data].spec.resources.requests.storage"
    if storage_class is not None and storage_class != old_class:
        return "spec.volumeClaimTemplates[data].spec.storageClassName"
    return None

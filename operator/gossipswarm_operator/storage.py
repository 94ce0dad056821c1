"""Volumes that grow: claims first, then the StatefulSet that is to make further ones. Pure."""

from __future__ import annotations

from typing import Any

from gossipswarm_operator import names
from gossipswarm_operator.actions import Action, Delete, ResizeClaim, Wait
from gossipswarm_operator.builders.stateful_set import frozen_difference, storage_of
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed
from gossipswarm_operator.quantities import quantity


def reconcile(
    swarm: Swarm, observed: Observed, region: str, wanted: dict[str, Any], found: Object
) -> tuple[dict[str, Any], list[Action], list[Wait]]:
    """The StatefulSet that can be applied to the one found, and what has to be done before it can be the one wanted.

    Fields that a StatefulSet cannot change need another StatefulSet: the one there is deleted without its pods, which
    go on running and belong to the next one.
    """
    waits = _refusals(region, wanted, found)
    if waits:
        return _with_storage_of(wanted, found), [], waits
    grow: list[Action] = list(_growing(swarm, observed, region, wanted))
    field = frozen_difference(wanted, found)
    if field is None:
        return wanted, grow, []
    if grow:
        # One after the other, so that an operator that stops in between leaves no volume behind.
        return _with_storage_of(wanted, found), grow, []
    why = f"{field} cannot be changed in place; its pods go on running"
    uid = found["metadata"]["uid"]
    delete = Delete("StatefulSet", found["metadata"]["name"], uid, why, "Orphan")
    return _with_storage_of(wanted, found), [delete], []


def _growing(
    swarm: Swarm, observed: Observed, region: str, wanted: dict[str, Any]
) -> list[ResizeClaim]:
    size, _ = storage_of(wanted)
    if size is None:
        return []
    prefix = names.volume_claim(swarm.name, region, 0)[:-1]
    return [
        ResizeClaim(name, size)
        for name, claim in sorted(observed.claims.items())
        if name.startswith(prefix)
        and name[len(prefix) :].isdigit()
        and quantity(claim["spec"]["resources"]["requests"]["storage"]) < quantity(size)
    ]


def _refusals(region: str, wanted: dict[str, Any], found: Object) -> list[Wait]:
    size, storage_class = storage_of(wanted)
    old_size, old_class = storage_of(found)
    if (size is None) != (old_size is None):
        message = f"the storage of {region} cannot change between Persistent and Ephemeral"
        return [Wait("StorageImmutable", message, blocked=True)]
    if size is None or old_size is None:
        return []
    if quantity(size) < quantity(old_size):
        message = f"volumes of {region} have {old_size}; they cannot shrink to {size}"
        return [Wait("StorageCannotShrink", message, blocked=True)]
    if storage_class is not None and old_class is not None and storage_class != old_class:
        message = f"volumes of {region} are of storage class {old_class}, not {storage_class}"
        return [Wait("StorageImmutable", message, blocked=True)]
    return []


def _with_storage_of(wanted: dict[str, Any], found: Object) -> dict[str, Any]:
    """As wanted, but with the fields that cannot change as they are."""
    frozen = ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates")
    spec = {name: value for name, value in wanted["spec"].items() if name not in frozen}
    kept = {name: found["spec"][name] for name in frozen if name in found["spec"]}
    return {**wanted, "spec": {**spec, **kept}}

"""Volumes that grow: claims first, then the StatefulSet that is to make further ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.actions import Action, Delete, ResizeClaim, Wait
from gossipswarm_operator.builders.stateful_set import frozen_difference, storage_of
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed
from gossipswarm_operator.quantities import quantity

_RESIZE_ERRORS: Final = ("ControllerResizeError", "NodeResizeError")
"""Conditions of a volume claim (Kubernetes, "Recovering from failure when expanding volumes")."""


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
    claims = _claims(swarm, observed, region)
    grow: list[Action] = list(_growing(claims, wanted))
    waits = _not_grown(claims)
    field = frozen_difference(wanted, found)
    if field is None:
        return wanted, grow, waits
    if grow:
        # One after the other, so that an operator that stops in between leaves no volume behind.
        return _with_storage_of(wanted, found), grow, waits
    why = f"{field} cannot be changed in place; its pods go on running"
    uid = found["metadata"]["uid"]
    delete = Delete("StatefulSet", found["metadata"]["name"], uid, why, "Orphan")
    return _with_storage_of(wanted, found), [delete], waits


def _claims(swarm: Swarm, observed: Observed, region: str) -> dict[str, Object]:
    prefix = names.volume_claim(swarm.name, region, 0)[:-1]
    return {
        name: claim
        for name, claim in sorted(observed.claims.items())
        if name.startswith(prefix) and name[len(prefix) :].isdigit()
    }


def _growing(claims: Mapping[str, Object], wanted: dict[str, Any]) -> list[ResizeClaim]:
    size, _ = storage_of(wanted)
    if size is None:
        return []
    return [
        ResizeClaim(name, size)
        for name, claim in claims.items()
        if quantity(claim["spec"]["resources"]["requests"]["storage"]) < quantity(size)
    ]


def _not_grown(claims: Mapping[str, Object]) -> list[Wait]:
    """Claims that the API server let grow, and the driver then could not."""
    found: list[Wait] = []
    for name, claim in claims.items():
        status = claim.get("status", {})
        said = {
            each["type"]: each.get("message", "")
            for each in status.get("conditions", ())
            if each["type"] in _RESIZE_ERRORS and each["status"] == "True"
        }
        step = status.get("allocatedResourceStatuses", {}).get("storage", "")
        if said or step.endswith("Infeasible"):
            why = next(iter(said.values()), "") or step
            found.append(Wait("VolumeNotGrown", f"volume claim {name}: {why}", blocked=True))
    return found


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

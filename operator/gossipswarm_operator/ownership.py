"""Whose an object is: the operator changes only what is its own, and says whose the rest is."""

from __future__ import annotations

from typing import Literal

from gossipswarm_operator import names
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed

Standing = Literal["ours", "orphan", "former", "foreign"]
"""orphan: made for this swarm, without an owner now. former: of a swarm of the same name that was deleted; the garbage
collector takes it away."""


def standing(swarm: Swarm, found: Object) -> Standing:
    """How an object that has a name of ours relates to the swarm."""
    controller = names.controller_of(found)
    if controller is not None:
        if controller.get("uid") == swarm.uid:
            return "ours"
        same = controller.get("kind") == "GossipSwarm" and controller.get("name") == swarm.name
        return "former" if same else "foreign"
    labels = found["metadata"].get("labels") or {}
    made_for = labels.get(names.SWARM_LABEL) == swarm.name
    return (
        "orphan"
        if made_for and labels.get(names.MANAGED_BY_LABEL) == names.MANAGER_NAME
        else "foreign"
    )


def whose(found: Object) -> str:
    """Who an object of somebody else belongs to, as far as it says."""
    metadata = found["metadata"]
    controller = names.controller_of(found)
    if controller is not None:
        return f"belongs to {controller.get('kind')} {controller.get('name')}"
    release = (metadata.get("annotations") or {}).get("meta.helm.sh/release-name")
    if release:
        return f"belongs to Helm release {release}"
    manager = (metadata.get("labels") or {}).get(names.MANAGED_BY_LABEL)
    if manager:
        return f"is managed by {manager}"
    managers = [entry.get("manager") for entry in metadata.get("managedFields") or ()]
    return f"was made by {managers[0]}" if managers and managers[0] else "belongs to somebody else"


def region_of(swarm: Swarm, found: Object) -> str | None:
    """The region that an object of the swarm is for; None if it is for all, or not of the swarm."""
    if found["kind"] == "Pod" or standing(swarm, found) == "foreign":
        return None
    region = (found["metadata"].get("labels") or {}).get(names.REGION_LABEL)
    return None if region is None else str(region)


def stateful_set(swarm: Swarm, observed: Observed, region: str) -> Object | None:
    """The StatefulSet of a region, if it is the swarm's own."""
    found = observed.objects.get(("StatefulSet", names.stateful_set(swarm.name, region)))
    if found is None or standing(swarm, found) not in ("ours", "orphan"):
        return None
    return found

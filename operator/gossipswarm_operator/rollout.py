"""Replacing agents after a change of their template: region by region, one at a time, each time only while all is well.

A StatefulSet replaces pods from the highest ordinal down to its ``partition``. At rest that is above every ordinal, so a
new template changes nothing by itself; this module lowers it agent by agent. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from gossipswarm_operator.actions import Wait
from gossipswarm_operator.builders import HOLD
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed, Pod
from gossipswarm_operator.ownership import stateful_set
from gossipswarm_operator.quantities import seconds, share_of


class Rollout(msgspec.Struct, frozen=True):
    """Partition of each region's StatefulSet, and what stands in the way of a lower one."""

    partitions: Mapping[str, int]
    waits: tuple[Wait, ...]
    outdated: tuple[str, ...]
    """Pods that do not match their template."""


class _Region(msgspec.Struct, frozen=True):
    name: str
    pods: tuple[Pod, ...]
    outdated: tuple[Pod, ...]
    """By ordinal, the highest first."""
    partition: int
    unfinished: str = ""
    """What a rollout that was begun here still lacks."""


def roll(
    swarm: Swarm, observed: Observed, changing: frozenset[str], converged: bool, now: datetime
) -> Rollout:
    """How far each region may go now.

    ``changing`` are regions whose template is being changed, so that what the cluster says of their pods is out of date.
    """
    regions = [_region(swarm, observed, name, changing) for name in swarm.regions]
    behind = [region for region in regions if region.outdated or region.unfinished]
    outdated = tuple(pod.name for region in behind for pod in region.outdated)
    partitions = dict.fromkeys(swarm.regions, HOLD)
    if swarm.spec.update.strategy == "OnDelete":
        waits = (_on_delete(outdated),) if outdated else ()
        return Rollout(partitions, waits, outdated)
    active = behind
    if swarm.spec.update.strategy == "RegionByRegion":
        # What is broken and out of date first: it has nothing to lose. Then what was begun, then as in the spec.
        ordered = sorted(behind, key=lambda region: (not _is_broken(region), not _begun(region)))
        active = ordered[:1]
    found: list[Wait] = []
    for region in active:
        partition, wait = _step(swarm, observed, region, converged, now)
        partitions[region.name] = partition
        if wait is not None:
            found.append(wait)
    return Rollout(partitions, tuple(found), outdated)


def _region(swarm: Swarm, observed: Observed, name: str, changing: frozenset[str]) -> _Region:
    found = stateful_set(swarm, observed, name)
    pods = tuple(pod for pod in observed.of_region(name) if not pod.deleting)
    if found is None or name in changing or not _settled(found):
        return _Region(name, pods, (), HOLD)
    wanted = found["status"].get("updateRevision", "")
    outdated = sorted(
        (pod for pod in pods if pod.revision != wanted), key=lambda pod: pod.ordinal, reverse=True
    )
    partition = _partition(found)
    unfinished = _unfinished(found, pods) if partition < HOLD else ""
    return _Region(name, pods, tuple(outdated), partition, unfinished)


def _unfinished(found: Object, pods: Sequence[Pod]) -> str:
    """What is missing until the StatefulSet's new revision is its current one.

    Until then the controller makes a pod at or above the partition from the new template and any other from the old
    one: raising the partition any earlier would bring back the old agent in place of the one that is being replaced.
    """
    status = found["status"]
    present = {pod.ordinal for pod in pods}
    for ordinal in range(int(found["spec"].get("replicas", 0))):
        if ordinal not in present:
            return f"{found['metadata']['name']}-{ordinal} is being replaced"
    late = next((pod for pod in pods if not pod.ready), None)
    if late is not None:
        return f"waits for {late.name}, which is not ready"
    if status.get("currentRevision") != status.get("updateRevision"):
        return f"waits until {found['metadata']['name']} has taken the new revision for its own"
    return ""


def _settled(found: Object) -> bool:
    """The controller has seen the template, so its revision is that of the template."""
    seen = (found.get("status") or {}).get("observedGeneration", 0)
    return int(seen) >= int(found["metadata"].get("generation", 0))


def _partition(found: Object) -> int:
    rolling = (found["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return int(rolling.get("partition", HOLD))


def _begun(region: _Region) -> bool:
    return region.partition < HOLD


def _is_broken(region: _Region) -> bool:
    return bool(region.outdated) and not region.outdated[0].ready


def _step(
    swarm: Swarm, observed: Observed, region: _Region, converged: bool, now: datetime
) -> tuple[int, Wait | None]:
    """Partition of the region that is on its turn."""
    if not region.outdated:
        wait = _late(swarm, region, now) or Wait("Updating", region.unfinished)
        return region.partition, wait
    target = region.outdated[0].ordinal
    broken = _broken(region.outdated)
    replacing = Wait("Updating", f"{region.outdated[0].name} is being replaced")
    if broken is not None:
        return min(broken, region.partition), _late(swarm, region, now) or replacing
    if region.partition <= target:
        return region.partition, _late(swarm, region, now) or replacing
    obstacle = _late(swarm, region, now) or _obstacle(swarm, observed, region, converged)
    if obstacle is not None:
        return region.partition, obstacle
    return max(0, target - _at_once(swarm, region) + 1), None


def _broken(outdated: Sequence[Pod]) -> int | None:
    """Lowest ordinal of the run of pods, from the highest, that are out of date and not ready anyway."""
    lowest = None
    for pod in outdated:
        if pod.ready:
            break
        lowest = pod.ordinal
    return lowest


def _at_once(swarm: Swarm, region: _Region) -> int:
    return max(1, share_of(swarm.spec.pdb.max_unavailable, len(region.pods)))


def _obstacle(swarm: Swarm, observed: Observed, region: _Region, converged: bool) -> Wait | None:
    """Why no further agent may be taken down now."""
    old = {pod.name for pod in region.outdated}
    for pod in observed.pods:
        if not pod.ready and pod.name not in old and not pod.deleting:
            return Wait("Updating", f"waits for {pod.name}, which is not ready")
    desired = swarm.replicas(region.name)
    least = desired - _at_once(swarm, region)
    if swarm.spec.update.min_ready is not None:
        # Somebody has to go, or nothing would ever change.
        least = min(share_of(swarm.spec.update.min_ready, desired), desired - 1)
    ready = sum(pod.ready for pod in region.pods)
    if ready - 1 < least:
        return Wait(
            "Updating",
            f"{region.name} has {ready} of {desired} agents ready, and {least} have to stay so",
        )
    if observed.partitioned:
        return Wait("Updating", "waits until the partition is over")
    if not converged:
        return Wait("Updating", "waits until all agents hold the same")
    return None


def _late(swarm: Swarm, region: _Region, now: datetime) -> Wait | None:
    """A replaced agent that takes too long; the update stays where it is, and goes on by itself when that changes."""
    timeout = timedelta(seconds=seconds(swarm.spec.update.timeout))
    old = {pod.name for pod in region.outdated}
    for pod in region.pods:
        if not pod.ready and pod.name not in old and now - pod.since > timeout:
            why = f": {pod.trouble}" if pod.trouble else ""
            message = f"{pod.name} has not become ready within {swarm.spec.update.timeout}{why}"
            return Wait("UpdateTimedOut", message, blocked=True)
    return None


def _on_delete(outdated: Sequence[str]) -> Wait:
    return Wait(
        "UpdatePending",
        f"{len(outdated)} agents run an older template until somebody deletes their pods",
        blocked=True,
    )

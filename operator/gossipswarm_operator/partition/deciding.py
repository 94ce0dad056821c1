"""Which cuts of a swarm are to be in force now, and why others are not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object
from gossipswarm_operator.ownership import whose
from gossipswarm_operator.partition import probing, union
from gossipswarm_operator.partition.actions import Action, Begin, GiveUp, HandOver, Hold
from gossipswarm_operator.partition.model import SwarmPartition
from gossipswarm_operator.partition.observed import Memory, Observed
from gossipswarm_operator.partition.policies import side_policies
from gossipswarm_operator.partition.severing import (
    Cut,
    combined,
    nothing_to_cut,
    refusal,
    severed_by,
)


class Decided(msgspec.Struct):
    """What is to be in force, and what has to be written down before it is."""

    partitions: list[SwarmPartition] = []
    """All of the swarm, as they are after the actions."""
    actions: list[Action] = []
    live: list[SwarmPartition] = []
    """Those whose cuts are to be in force."""
    cut: Cut = Cut()
    """All of the swarm that is to be cut."""
    refused: dict[str, tuple[str, str]] = {}
    """By uid: why a cut cannot be made, or one in force not as it ought to be, as a reason and a message."""
    overrides: dict[str, tuple[str, ...]] = {}
    """By uid: policies of others that open again what the cut closes."""


def decide(observed: Observed, memory: Memory, now: datetime) -> Decided:
    """Which cuts are to be in force."""
    found = Decided()
    for partition in observed.partitions:
        if partition.is_live(now):
            found.partitions.append(_keep(partition, observed, memory, now, found))
        elif _is_new(partition):
            found.partitions.append(_begin(partition, observed, now, found))
        else:
            found.partitions.append(partition)
    found.live = [partition for partition in found.partitions if partition.is_live(now)]
    found.cut = combined(found.live, observed.regions)
    found.refused |= _impeded(observed, found.live, found.cut)
    return found


def _is_new(partition: SwarmPartition) -> bool:
    return (
        partition.applied_at is None
        and partition.healed_at is None
        and partition.deleting_since is None
    )


def _begin(
    partition: SwarmPartition, observed: Observed, now: datetime, found: Decided
) -> SwarmPartition:
    obstacle = _obstacle(partition, observed)
    if obstacle is not None:
        found.refused[partition.uid] = obstacle
        return partition
    if not partition.held:
        found.actions.append(Hold(partition))
    found.actions.append(Begin(partition, now))
    return msgspec.structs.replace(partition, applied_at=now, held=True)


def _obstacle(partition: SwarmPartition, observed: Observed) -> tuple[str, str] | None:
    """Why a cut cannot be made now."""
    if observed.swarm is None:
        return observed.absence
    refused = refusal(partition, observed.swarm.regions)
    if refused is not None:
        return refused
    exposed = observed.on_host_network
    if exposed and partition.by_network:
        why = "is on the network of its node, where no NetworkPolicy applies"
        hint = "take it off that, or make the cut with mechanism: Agent"
        return ("HostNetwork", f"{exposed[0]} {why}; {hint}")
    return _name_taken(observed.swarm, partition, combined([partition], observed.regions), observed)


def _name_taken(
    swarm: Swarm, partition: SwarmPartition, cut: Cut, observed: Observed
) -> tuple[str, str] | None:
    """A policy of somebody else stands where one of the cut belongs."""
    for body in side_policies(swarm, partition, cut, observed.regions):
        if is_taken(body, partition, observed):
            name = body["metadata"]["name"]
            return ("NameTaken", f"NetworkPolicy {name} {whose(observed.policies[name])}")
    return None


def is_taken(body: Object, partition: SwarmPartition, observed: Observed) -> bool:
    """Somebody else's policy has the name of one of a cut."""
    there = observed.policies.get(body["metadata"]["name"])
    return there is not None and not names.is_owned_by(there, partition.uid)


def _keep(
    partition: SwarmPartition, observed: Observed, memory: Memory, now: datetime, found: Decided
) -> SwarmPartition:
    """A cut that is in force: whether it is, and what follows if it is not."""
    if observed.swarm is None:
        # Without its swarm there is nothing to cut; the object stays as a record.
        return msgspec.structs.replace(partition, given_up=True)
    if not partition.held:
        # Somebody took the finalizer away; a deletion would leave more behind than policies.
        found.actions.append(Hold(partition))
    overrides: tuple[str, ...] = ()
    if not partition.by_agents:
        overrides = union.reopening(observed, partition)
        found.overrides[partition.uid] = overrides
    verdict = probing.verdict(memory.trial(partition, now), now)
    if partition.by_agents or not (overrides or verdict.state == "open"):
        return partition
    if partition.on_unenforced == "Fail":
        reason = "OverriddenByPolicy" if overrides else "NotEnforced"
        message = union.described(overrides) if overrides else verdict.message
        found.actions.append(GiveUp(partition, reason, message))
        return msgspec.structs.replace(partition, given_up=True)
    if partition.on_unenforced == "Fallback" and not overrides:
        found.actions.append(HandOver(partition, verdict.message))
        return msgspec.structs.replace(partition, by_agents=True)
    return partition


def _impeded(
    observed: Observed, live: Sequence[SwarmPartition], cut: Cut
) -> dict[str, tuple[str, str]]:
    """Cuts in force that came to lack a side, or cannot have a policy for a new one."""
    found = {}
    for partition in live:
        assert observed.swarm is not None
        why = None
        if not severed_by(partition, observed.regions):
            why = nothing_to_cut(observed.regions)
        elif partition.by_network:
            why = _name_taken(observed.swarm, partition, cut.for_policies(), observed)
        if why is not None:
            found[partition.uid] = why
    return found

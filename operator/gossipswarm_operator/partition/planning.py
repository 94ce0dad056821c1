"""From what is wanted and what was found to what is to be done about the cuts of a swarm now. Pure.

What was decided stands in the SwarmPartitions themselves: ``appliedAt`` before the first policy, ``mechanism`` before agents
are told, ``healedAt`` after the last policy is gone. So an operator may stop after any action, and the next plan goes on
from there, whoever makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from gossipswarm_operator import drift, names
from gossipswarm_operator.agent_documents import OURS, AgentInfo
from gossipswarm_operator.builders.cuts import cut_config_map
from gossipswarm_operator.builders.policies import network_policy
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object
from gossipswarm_operator.ownership import standing
from gossipswarm_operator.partition import probing
from gossipswarm_operator.partition.actions import Action, Drop, Finish, Put, Remove, Reset
from gossipswarm_operator.partition.deciding import decide, is_taken
from gossipswarm_operator.partition.model import SwarmPartition
from gossipswarm_operator.partition.observed import Memory, Observed, labels_of
from gossipswarm_operator.partition.policies import COMPONENT, side_policies
from gossipswarm_operator.partition.severing import Cut, combined

PATIENCE: Final = timedelta(seconds=60)
"""After which a deleted object goes although its cut could not be undone: its policies are its own, and go with it."""


class Plan(msgspec.Struct, frozen=True):
    """What to do now, in order, and what for."""

    actions: tuple[Action, ...]
    live: tuple[SwarmPartition, ...]
    """Those whose cuts are to be in force, as they are after the actions."""
    ended: tuple[SwarmPartition, ...]
    """Those whose cuts are undone by the actions."""
    refused: dict[str, tuple[str, str]]
    """By uid: why a cut cannot be made, or one in force not as it ought to be, as a reason and a message."""
    cut: Cut
    """All of the swarm that is to be cut."""
    overrides: dict[str, tuple[str, ...]]
    """By uid: policies of others that open again what the cut closes."""
    verdicts: dict[str, probing.Verdict]
    """By uid: what probes have shown of a cut that is to be in force."""


def plan(observed: Observed, memory: Memory, now: datetime) -> Plan:
    """What to do now."""
    decided = decide(observed, memory, now)
    live, cut = decided.live, decided.cut
    ended = [p for p in decided.partitions if _has_ended(p, now)]
    tried = [p for p in live if p.uid not in decided.refused and not decided.overrides.get(p.uid)]
    actions = list(decided.actions)
    if observed.swarm is not None:
        actions += _network(observed.swarm, observed, live, cut)
        actions += _drops(observed, memory, live, cut)
        actions += _resets(observed, memory, live, tried, now)
    else:
        actions += _leftovers(observed, set())
    actions += [_finish(p, observed, now) for p in ended]
    actions += probing.rounds(observed, memory, tried, now)
    return Plan(
        tuple(actions),
        tuple(live),
        tuple(ended),
        decided.refused,
        cut,
        decided.overrides,
        {p.uid: probing.verdict(memory.trial(p, now), now) for p in live},
    )


# --- the network ----------------------------------------------------------------------------------


def _network(
    swarm: Swarm, observed: Observed, live: Sequence[SwarmPartition], cut: Cut
) -> list[Action]:
    """Policies and the cut for new agents, exactly as the swarm's own reconcile makes them too."""
    actions: list[Action] = []
    bodies: list[dict[str, Any]] = []
    if cut:
        there = observed.birth_cut
        if there is None or standing(swarm, there) in ("ours", "orphan"):
            bodies.append(cut_config_map(swarm, cut))
    policed = cut.for_policies()
    # Those on their way out included: to hand over what they hold, they have to be heard once the cut is over.
    for region in observed.regions:
        baseline = observed.baseline(region)
        wanted = swarm.spec.network_policy.mode == "Enabled"
        if baseline is not None and wanted and standing(swarm, baseline) in ("ours", "orphan"):
            bodies.append(network_policy(swarm, region, policed, observed.regions, observed.ports))
    sides = [
        body
        for partition in live
        if partition.by_network
        for body in side_policies(swarm, partition, policed, observed.regions, observed.ports)
        if not is_taken(body, partition, observed)
    ]
    for body in [*bodies, *sides]:
        body = drift.stamped(body)
        if _differs(body, _standing_for(body, observed)):
            actions.append(Put(body))
    actions += _leftovers(observed, {body["metadata"]["name"] for body in sides})
    if not cut and observed.birth_cut is not None and _is_ours(swarm, observed.birth_cut):
        metadata = observed.birth_cut["metadata"]
        actions.append(Remove("ConfigMap", metadata["name"], metadata["uid"]))
    return actions


def _is_ours(swarm: Swarm, found: Object) -> bool:
    return standing(swarm, found) == "ours" and "deletionTimestamp" not in found["metadata"]


def _standing_for(body: Object, observed: Observed) -> Object | None:
    if body["kind"] == "ConfigMap":
        return observed.birth_cut
    return observed.policies.get(body["metadata"]["name"])


def _differs(body: Object, there: Object | None) -> bool:
    if there is None:
        return True
    held = (there["metadata"].get("annotations") or {}).get(names.APPLIED_ANNOTATION)
    wanted = body["metadata"]["annotations"][names.APPLIED_ANNOTATION]
    return held != wanted or drift.difference(body, there) is not None


def _leftovers(observed: Observed, wanted: set[str]) -> list[Action]:
    """Policies of cuts that are over, or that have other sides by now."""
    return [
        Remove("NetworkPolicy", name, found["metadata"]["uid"])
        for name, found in sorted(observed.policies.items())
        if name not in wanted
        and labels_of(found).get(names.COMPONENT_LABEL) == COMPONENT
        and labels_of(found).get(names.SWARM_LABEL) == observed.name
        and "deletionTimestamp" not in found["metadata"]
    ]


# --- the agents -----------------------------------------------------------------------------------


def _drops(
    observed: Observed, memory: Memory, live: Sequence[SwarmPartition], cut: Cut
) -> list[Action]:
    """What agents are to drop. One that was born into a cut keeps to it until that is lifted, whoever makes it."""
    by_agents = combined([p for p in live if p.by_agents], observed.regions)
    orders = {}
    for name, info in sorted(observed.agents.items()):
        ours = info.cut_by in OURS
        needed = bool(by_agents.beyond(info.region))
        if not (ours or needed):
            continue
        wanted = cut.beyond(info.region)
        if not _drops_as_told(name, info, memory, wanted, cut.until):
            orders[name] = wanted
    return [Drop(orders, cut.until)] if orders else []


def _drops_as_told(
    name: str, info: AgentInfo, memory: Memory, wanted: tuple[str, ...], until: datetime | None
) -> bool:
    if info.cut_by is None:
        return not wanted
    told = memory.told.get(name)
    return (
        told is not None
        and told.started_at == info.started_at
        and (told.regions, told.until) == (wanted, until)
    )


def _resets(
    observed: Observed,
    memory: Memory,
    live: Sequence[SwarmPartition],
    tried: Sequence[SwarmPartition],
    now: datetime,
) -> list[Action]:
    """Who has to give up connections that are older than the cut, which many networks let pass for as long as they last.

    Once when policies were applied, and once more when new flows were seen to be closed: a network takes a moment to apply
    a policy, and what was opened in that moment lasts as well.
    """
    networked = [p for p in live if p.by_network and not p.by_agents]
    cut = combined(networked, observed.regions)
    if not cut:
        return []
    sealed = all(memory.trial(p, now).settled for p in networked if p in tried)
    stage, mark = (2 if sealed else 1), drift.digest(sorted(cut.severed))
    due = [
        name
        for name, info in sorted(observed.agents.items())
        if cut.beyond(info.region)
        and not _was_reset(memory.reset.get(name), info.started_at, mark, stage)
    ]
    return [Reset(tuple(due), mark, stage)] if due else []


def _was_reset(last: tuple[str, str, int] | None, started_at: str, mark: str, stage: int) -> bool:
    return last == (started_at, mark, stage)


# --- the end --------------------------------------------------------------------------------------


def _has_ended(partition: SwarmPartition, now: datetime) -> bool:
    """Its cut is to be undone, as far as there is one."""
    if partition.deleting_since is not None:
        return partition.held
    begun = partition.applied_at is not None and partition.healed_at is None
    return begun and not partition.is_live(now)


def _finish(partition: SwarmPartition, observed: Observed, now: datetime) -> Finish:
    if partition.deleting_since is not None:
        return Finish(partition, "Deleted", "it was deleted", now)
    if observed.swarm is None:
        return Finish(partition, observed.absence[0], observed.absence[1], now)
    if partition.given_up:
        return Finish(partition, "GivenUp", "it could not be enforced", now)
    return Finish(partition, "Expired", "its duration is over", now)


def may_go_anyway(partition: SwarmPartition, now: datetime) -> bool:
    """A deletion has waited for long enough."""
    since = partition.deleting_since
    return since is not None and now - since > PATIENCE

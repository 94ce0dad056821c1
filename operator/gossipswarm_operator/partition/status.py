"""What the status of a SwarmPartition says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from gossipswarm_operator import conditions
from gossipswarm_operator.conditions import Condition, false, true, unknown
from gossipswarm_operator.failures import Failure
from gossipswarm_operator.partition import probing, union
from gossipswarm_operator.partition.model import SwarmPartition, moment
from gossipswarm_operator.partition.observed import Observed
from gossipswarm_operator.partition.planning import Plan
from gossipswarm_operator.partition.severing import Pair, described, pair, severed_by

HEALING: Final = timedelta(seconds=60)
"""Within which agents are expected to hear each other again."""
PENDING: Final = "Pending"
PROBING: Final = "Probing"


def status(
    partition: SwarmPartition,
    observed: Observed,
    plan: Plan,
    failures: Sequence[Failure],
    now: datetime,
) -> dict[str, Any]:
    """The whole status of one that is not over, from what was found before the plan and what became of the plan."""
    live = next((p for p in plan.live if p.uid == partition.uid), None)
    if live is not None:
        return _of_live(live, observed, plan, failures, now)
    refused = plan.refused.get(partition.uid)
    if refused is not None:
        return _stored(partition, _of_refused(*refused), now, groups=_groups(partition, observed))
    # What is undone says so when that is done (``finished``); until then only why it is not.
    trouble = _trouble(failures)
    return _stored(partition, [false("Healed", "Healing", trouble or "is being undone")], now)


def invalid(source: Mapping[str, Any], message: str, now: datetime) -> dict[str, Any]:
    """The status of an object whose spec cannot be used at all."""
    return _merged(source, [*_of_refused("InvalidSpec", message)], now)


def begun(partition: SwarmPartition, at: datetime, now: datetime) -> dict[str, Any]:
    """What stands in the status before the first policy is made: the cut is in force from here on."""
    found = [
        false("Applied", PENDING, "is being made"),
        false("Enforced", PENDING, "is being made"),
        false("Healed", "InForce", "has not ended"),
    ]
    mechanism = "Agent" if partition.by_agents else "NetworkPolicy"
    return _stored(partition, found, now, appliedAt=moment(at), mechanism=mechanism)


def handed_over(partition: SwarmPartition, message: str, now: datetime) -> dict[str, Any]:
    """What stands in the status before agents are told."""
    said = f"the network does not enforce it ({message}): agents are to make the cut"
    return _stored(partition, [false("Enforced", PROBING, said)], now, mechanism="Agent")


def given_up(partition: SwarmPartition, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """What stands in the status before the cut is undone because it could not be enforced."""
    found = [false("Applied", reason, message), false("Enforced", reason, message)]
    return _stored(partition, found, now)


def finished(
    partition: SwarmPartition, reason: str, message: str, at: datetime, now: datetime
) -> dict[str, Any]:
    """What stands in the status once the cut is undone."""
    found = [false("Healed", "Merging", f"{message}; agents are to hear each other again")]
    if not partition.given_up or reason != "GivenUp":
        found.append(false("Applied", reason, message))
        found.append(false("Enforced", reason, message))
    return _stored(partition, found, now, healedAt=moment(at), remaining="-")


def merging(
    partition: SwarmPartition, observed: Observed, plan: Plan, now: datetime
) -> dict[str, Any]:
    """The status of one whose cut is undone, until agents say that they hear each other."""
    assert partition.healed_at is not None
    pairs = severed_by(partition, observed.regions) - plan.cut.severed
    lacking = sorted(
        name for name, cuts in _cuts_seen(observed).items() if any(found in pairs for found in cuts)
    )
    took = now - partition.healed_at
    if observed.silent and not observed.views:
        said = f"none of {len(observed.silent)} agents answers"
        return _stored(partition, [false("Healed", "Merging", said)], now)
    if not lacking:
        said = "every agent that answers hears all regions that it is to hear"
        return _stored(partition, [true("Healed", "Whole", said)], now)
    reason = "Merging" if took < HEALING else "StillCut"
    said = f"{len(lacking)} of {len(observed.views)} agents do not hear all regions yet"
    if reason == "StillCut":
        said = f"{said}, {lacking[0]} for one: something else cuts them off"
    return _stored(partition, [false("Healed", reason, said)], now)


# --- conditions of a cut that is in force ---------------------------------------------------------


def _of_live(
    partition: SwarmPartition,
    observed: Observed,
    plan: Plan,
    failures: Sequence[Failure],
    now: datetime,
) -> dict[str, Any]:
    found = [
        _applied(partition, observed, plan.refused.get(partition.uid), failures),
        _enforced(partition, plan, failures),
        _detected(partition, observed),
        false("Healed", "InForce", "has not ended"),
    ]
    ends = partition.expires_at
    assert partition.applied_at is not None
    return _stored(
        partition,
        found,
        now,
        groups=described(partition, observed.regions),
        mechanism="Agent" if partition.by_agents else "NetworkPolicy",
        appliedAt=moment(partition.applied_at),
        expiresAt=None if ends is None else moment(ends),
        remaining="-" if ends is None else remaining(ends - now),
    )


def _applied(
    partition: SwarmPartition,
    observed: Observed,
    impeded: tuple[str, str] | None,
    failures: Sequence[Failure],
) -> Condition:
    trouble = _trouble(failures)
    if trouble is not None:
        return false("Applied", failures[0].reason, trouble)
    if impeded is not None:
        return false("Applied", *impeded)
    sides = described(partition, observed.regions)
    if partition.by_agents:
        return true("Applied", "AgentsTold", f"agents drop what crosses {sides}")
    return true("Applied", "PoliciesApplied", f"the gossip ports are closed across {sides}")


def _enforced(partition: SwarmPartition, plan: Plan, failures: Sequence[Failure]) -> Condition:
    overrides = plan.overrides.get(partition.uid)
    if overrides:
        return false("Enforced", "OverriddenByPolicy", union.described(overrides))
    impeded = plan.refused.get(partition.uid)
    if impeded is not None:
        return false("Enforced", "NotApplied", impeded[1])
    verdict = plan.verdicts[partition.uid]
    if failures:
        return false("Enforced", PROBING, "is not applied yet")
    match verdict.state:
        case "closed":
            reason = "AgentsDrop" if partition.by_agents else "Probed"
            return true("Enforced", reason, verdict.message)
        case "open":
            who = "agents do not drop" if partition.by_agents else "the network does not enforce"
            return false("Enforced", "NotEnforced", f"{who} it: {verdict.message}")
        case "unknown":
            return unknown("Enforced", "NotProbed", verdict.message)
    held = conditions.find(partition.source.get("status"), "Enforced")
    if verdict == probing.TRYING and held is not None and held["status"] == "True":
        # Another operator looked before, and nothing has been seen to pass since.
        return true("Enforced", held["reason"], held["message"])
    return false("Enforced", PROBING, verdict.message)


def _detected(partition: SwarmPartition, observed: Observed) -> Condition:
    held = conditions.find(partition.source.get("status"), "Detected")
    if held is not None and held["status"] == "True":
        return true("Detected", held["reason"], held["message"])
    pairs = severed_by(partition, _inhabited(observed))
    concerned = {
        name: [found for found in pairs if observed.agents[name].region in found]
        for name in observed.views
        if name in observed.agents
    }
    concerned = {name: own for name, own in concerned.items() if own}
    if not concerned:
        return unknown("Detected", "NoAgents", "no agent has said which regions it hears")
    off = [name for name in concerned if observed.views[name].status == "detection-off"]
    if off:
        return false("Detected", "DetectionOff", f"{off[0]} is not to detect partitions")
    seen = _cuts_seen(observed)
    noticed = [name for name, own in concerned.items() if all(cut in seen[name] for cut in own)]
    if len(noticed) < len(concerned):
        said = f"{len(noticed)} of {len(concerned)} agents have noticed"
        return false("Detected", "NotNoticed", said)
    slowest = max(seen[name][cut] for name, own in concerned.items() for cut in own)
    said = f"all {len(concerned)} agents have noticed, within {slowest:.0f} ms"
    return true("Detected", "Noticed", said)


def _inhabited(observed: Observed) -> set[str]:
    return {info.region for info in observed.agents.values()}


def _cuts_seen(observed: Observed) -> dict[str, dict[Pair, float]]:
    """By agent: the links that it knows to be down, and after how many milliseconds of silence it did."""
    return {
        name: {pair(cut.a, cut.b): cut.detection_ms or 0.0 for cut in view.cuts}
        for name, view in observed.views.items()
    }


def _of_refused(reason: str, message: str) -> list[Condition]:
    return [
        false("Applied", reason, message),
        false("Enforced", "NotApplied", message),
        unknown("Detected", "NotApplied", "there is no cut"),
        unknown("Healed", "NotApplied", "there is no cut"),
    ]


def _groups(partition: SwarmPartition, observed: Observed) -> str:
    if observed.swarm is not None:
        return described(partition, observed.regions)
    return " | ".join(",".join(group) for group in partition.groups)


def _trouble(failures: Sequence[Failure]) -> str | None:
    return failures[0].message if failures else None


# --- storing --------------------------------------------------------------------------------------


def _stored(
    partition: SwarmPartition, found: Sequence[Condition], now: datetime, **fields: Any
) -> dict[str, Any]:
    return _merged(partition.source, found, now) | fields


def _merged(source: Mapping[str, Any], found: Sequence[Condition], now: datetime) -> dict[str, Any]:
    generation = source["metadata"].get("generation", 0)
    held = (source.get("status") or {}).get("conditions")
    return {
        "observedGeneration": generation,
        "conditions": conditions.merge(
            conditions.PARTITION_CONDITIONS, held, found, generation=generation, now=now
        ),
    }


def remaining(left: timedelta) -> str:
    """``4m30s``: in steps, so that it need not be written anew each second."""
    total = max(0, round(left.total_seconds()))
    step = 5 if total <= 60 else 30 if total <= 600 else 300
    total = -(-total // step) * step
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"

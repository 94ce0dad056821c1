"""What a GossipSwarm's status says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from gossipswarm_operator import conditions, names
from gossipswarm_operator.actions import Wait
from gossipswarm_operator.conditions import Condition, Transition, false, true, unknown
from gossipswarm_operator.failures import Failure
from gossipswarm_operator.model import Swarm, split_image
from gossipswarm_operator.observed import Observed, Pod
from gossipswarm_operator.ownership import stateful_set
from gossipswarm_operator.planner import Plan

_GOOD: Final = {
    "Ready": "True",
    "Available": "True",
    "Converged": "True",
    "KeyringInSync": "True",
    "NetworkPolicyEnforced": "True",
    "Partitioned": "False",
}
_HARMLESS: Final = {
    "Progressing": ("UpToDate", "Paused"),
    "Ready": ("AgentsNotReady", "NotCreated"),
}
"""Reasons for which these are False without anybody having to do something."""


def status(
    swarm: Swarm,
    observed: Observed,
    plan: Plan,
    failures: Sequence[Failure],
    now: datetime,
) -> dict[str, Any]:
    """The whole status, from what was found before the plan and what became of the plan.

    Without what cannot be told yet: that stays as it was.
    """
    ready = sum(pod.ready for pod in observed.pods)
    found = plan.convergence
    agreeing = {"convergedAgents": f"{found.agreeing}/{swarm.total}"}
    return {
        "observedGeneration": swarm.generation,
        "replicas": len(observed.pods),
        "readyReplicas": ready,
        "ready": f"{ready}/{swarm.total}",
        "selector": names.selector_text(names.agent_selector(swarm.name)),
        "regionCount": len(swarm.regions),
        "regions": [_region(swarm, observed, plan, region) for region in swarm.regions],
        "partition": _partition(observed),
        "version": _versions(_pods_by_age(observed.pods, plan)),
        **(agreeing if found.holds is not None else {}),
        "settingsVersion": max(
            (info.settings_version for info in observed.agents.values()), default=0
        ),
        "keyring": _keyring(plan),
        "conditions": conditions.merge(
            conditions.SWARM_CONDITIONS,
            (swarm.source.get("status") or {}).get("conditions"),
            _conditions(swarm, observed, plan, failures),
            generation=swarm.generation,
            now=now,
        ),
    }


def refused(swarm_source: Mapping[str, Any], message: str, now: datetime) -> dict[str, Any]:
    """The status of an object whose spec cannot be used at all; the rest of it stays as it is."""
    generation = swarm_source["metadata"].get("generation", 0)
    found = [
        false("Progressing", "InvalidSpec", message),
        false("Ready", "InvalidSpec", message),
    ]
    return {
        "observedGeneration": generation,
        "conditions": conditions.merge(
            conditions.SWARM_CONDITIONS,
            (swarm_source.get("status") or {}).get("conditions"),
            found,
            generation=generation,
            now=now,
        ),
    }


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """What to merge into the status that is stored; empty if it says so already."""
    held = before or {}
    return {name: value for name, value in after.items() if held.get(name) != value}


def tone(found: Transition) -> Literal["Normal", "Warning"] | None:
    """How an event is to tell of a condition that changed; None for not at all."""
    now = found.now
    if now.status == "Unknown":
        return None
    harmless = _HARMLESS.get(now.type)
    stuck = now.status == "False" and harmless is not None and now.reason not in harmless
    if found.before == now.status and not stuck:
        return None  # it only has another reason
    fell = found.before == _GOOD.get(now.type) != now.status
    return "Warning" if stuck or fell else "Normal"


# --- figures --------------------------------------------------------------------------------------


def _region(swarm: Swarm, observed: Observed, plan: Plan, region: str) -> dict[str, Any]:
    pods = observed.of_region(region)
    return {
        "name": region,
        "desired": swarm.replicas(region),
        "replicas": len(pods),
        "ready": sum(pod.ready for pod in pods),
        "updated": sum(pod.name not in plan.outdated for pod in pods),
        "version": _versions(_pods_by_age(pods, plan)),
    }


def _pods_by_age(pods: Iterable[Pod], plan: Plan) -> list[Pod]:
    """Those of an older template first."""
    return sorted(pods, key=lambda pod: (pod.name not in plan.outdated, pod.name))


def _versions(pods: Sequence[Pod]) -> str:
    """``1.0.0``, or ``1.0.0 -> 1.1.0`` on the way from one to the other; "-" without pods."""
    seen = list(dict.fromkeys(_version(pod.image) for pod in pods if pod.image))
    return " -> ".join(seen) or "-"


def _version(image: str) -> str:
    _, tag, digest = split_image(image)
    return digest[:19] if digest else tag


def _partition(observed: Observed) -> str:
    """``us-east | us-west,eu-central``; "-" while the swarm is whole."""
    if not observed.divided:
        return "-"
    return " | ".join(",".join(group) for group in observed.groups)


def _keyring(plan: Plan) -> dict[str, Any] | None:
    ring = plan.keyring.ring if plan.keyring is not None else None
    if plan.keyring is None or ring is None or plan.keyring.before_secret:
        return None  # keys of no Secret yet are made anew by the next plan
    return {
        "primary": ring.primary,
        "ids": list(ring.ids),
        "generation": ring.generation,
        "step": plan.keyring.step,
    }


# --- conditions -----------------------------------------------------------------------------------


def _conditions(
    swarm: Swarm, observed: Observed, plan: Plan, failures: Sequence[Failure]
) -> list[Condition]:
    return [
        _ready(swarm, observed, plan),
        _available(swarm, observed),
        _progressing(swarm, plan, failures),
        *_converged(plan),
        _keyring_in_sync(plan),
        _network_policy(swarm, observed),
        _partitioned(observed),
        _paused(swarm),
    ]


def _ready(swarm: Swarm, observed: Observed, plan: Plan) -> Condition:
    for region in swarm.regions:
        if stateful_set(swarm, observed, region) is None:
            return false("Ready", "NotCreated", f"region {region} has no StatefulSet yet")
    pods = {pod.name: pod for pod in observed.pods if pod.name not in plan.leaving}
    wanted = [
        names.agent(swarm.name, region, ordinal)
        for region in swarm.regions
        for ordinal in range(swarm.replicas(region))
    ]
    unready = [name for name in wanted if name not in pods or not pods[name].ready]
    if unready:
        counted = f"{len(wanted) - len(unready)} of {len(wanted)} agents are ready"
        reason, why = _why(observed, unready)
        return false("Ready", reason, f"{counted}; {why}")
    return true("Ready", "AgentsReady", f"all {len(wanted)} agents are ready")


def _why(observed: Observed, unready: Sequence[str]) -> tuple[str, str]:
    """What is known of the first one that says what is wrong: in CamelCase, and for people."""
    for name, why in sorted(observed.creation_failures.items()):
        return "PodsRefused", f"{name}: {why}"
    for name, why in sorted(observed.claim_failures.items()):
        return "VolumesMissing", f"volume claim {name}: {why}"
    pods = {pod.name: pod for pod in observed.pods}
    for name in unready:
        pod = pods.get(name)
        if pod is not None and pod.trouble:
            reason, _, why = pod.trouble.partition(": ")
            return reason if reason.isalnum() else "AgentsFailing", f"{name}: {reason}: {why}"
    more = f" and {len(unready) - 1} more" if len(unready) > 1 else ""
    return "AgentsNotReady", f"{unready[0]}{more} {'are' if more else 'is'} not"


def _available(swarm: Swarm, observed: Observed) -> Condition:
    served = Counter(pod.region for pod in observed.pods if pod.ready)
    empty = [region for region in swarm.regions if swarm.replicas(region) and not served[region]]
    if swarm.total == 0:
        return false("Available", "NoAgents", "the swarm is to have no agents")
    if empty:
        return false("Available", "RegionUnavailable", f"{', '.join(empty)} has no ready agent")
    return true("Available", "EveryRegionServes", "every region has an agent that is ready")


def _progressing(swarm: Swarm, plan: Plan, failures: Sequence[Failure]) -> Condition:
    if swarm.paused:
        return false("Progressing", "Paused", "nothing is changed while reconciliation is Paused")
    if failures:
        worst = failures[0]
        return false("Progressing", worst.reason, worst.message)
    blocked = [wait for wait in plan.waits if wait.blocked]
    if blocked:
        return false("Progressing", blocked[0].reason, _joined(blocked))
    if plan.waits:
        return true("Progressing", plan.waits[0].reason, _joined(plan.waits))
    if plan.actions:
        return true("Progressing", "Reconciling", f"{len(plan.actions)} changes were made")
    return false("Progressing", "UpToDate", "everything is as the spec wants it")


def _joined(waits: Sequence[Wait]) -> str:
    return "; ".join(dict.fromkeys(wait.message for wait in waits))


def _converged(plan: Plan) -> list[Condition]:
    """Nothing while that cannot be told: then the condition stays as it was."""
    found = plan.convergence
    if found.holds is None:
        return []
    make = true if found.holds else false
    return [make("Converged", found.reason, found.message)]


def _keyring_in_sync(plan: Plan) -> Condition:
    kind, found = "KeyringInSync", plan.keyring
    if found is None:
        return false(kind, "EncryptionDisabled", "gossip is neither encrypted nor authenticated")
    if found.ring is None:
        return false(kind, "NoKeys", found.waiting or "there are no keys")
    if found.before_secret:
        return false(kind, "NoKeys", "the Secret with the keys is not there yet")
    if found.in_sync:
        return true(kind, "InSync", f"every agent seals with key {found.ring.primary}")
    if found.step != "Idle":
        detail = found.waiting or "is under way"
        return false(kind, f"Rotating{found.step}", f"key rotation {detail}")
    if found.silent:
        return unknown(kind, "AgentsMissing", f"no word from {found.silent[0]}")
    return false(kind, "RotationDue", f"key rotation {found.waiting or 'begins'}")


def _network_policy(swarm: Swarm, observed: Observed) -> Condition:
    kind = "NetworkPolicyEnforced"
    if swarm.spec.network_policy.mode == "Disabled":
        return false(kind, "Disabled", "spec.networkPolicy.mode is Disabled")
    if observed.gossip_port_open is None:
        return unknown(kind, "NotProbed", "there is no agent whose gossip port could be tried")
    if observed.gossip_port_open:
        message = "the operator, which is not of the swarm, gets at the gossip port of an agent"
        return false(kind, "NotEnforced", f"{message}: the cluster does not enforce policies")
    return true(kind, "Probed", "the gossip port of an agent is closed to the operator")


def _partitioned(observed: Observed) -> Condition:
    kind = "Partitioned"
    if not observed.groups:
        return unknown(kind, "NoAgents", "no agent has said which regions it hears")
    if observed.divided:
        return true(kind, "RegionsCutOff", f"cut: {_partition(observed)}")
    return false(kind, "Whole", "every region hears every other")


def _paused(swarm: Swarm) -> Condition:
    if swarm.paused:
        return true("Paused", "ReconciliationPaused", "spec.reconciliation is Paused")
    return false("Paused", "ReconciliationActive")

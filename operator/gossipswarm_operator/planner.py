"""From what is wanted and what was found to what is to be done now. Pure: the same input gives the same plan.

A plan is made anew for every reconcile and carries nothing from the one before: whatever it depends on is in the spec, in
the cluster or at the agents. So an operator may stop after any action, and the next plan goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from gossipswarm_operator import convergence, drift, keyring, names, restarts, storage, tuning
from gossipswarm_operator.actions import (
    Action,
    Apply,
    ChangeSettings,
    Delete,
    InstallKeys,
    LiftCut,
    RemoveKeys,
    ReplaceKeyring,
    UseKey,
    Wait,
)
from gossipswarm_operator.agent_documents import OURS
from gossipswarm_operator.builders import Facts, RegionFacts, build
from gossipswarm_operator.builders.configuration import read_config
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.convergence import Convergence
from gossipswarm_operator.keyring import Decision, Key
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed
from gossipswarm_operator.ownership import region_of, standing, stateful_set, whose
from gossipswarm_operator.rollout import Rollout, roll
from gossipswarm_operator.scaling import Scale, scale


class Fresh(msgspec.Struct, frozen=True):
    """Random secrets, for use where a plan needs new ones."""

    key: Key
    read_token: str
    write_token: str


class Plan(msgspec.Struct, frozen=True):
    """What to do now, in order, and what for."""

    actions: tuple[Action, ...]
    waits: tuple[Wait, ...]
    convergence: Convergence
    keyring: Decision | None
    """None where gossip is not encrypted."""
    outdated: tuple[str, ...]
    leaving: frozenset[str]

    @property
    def settled(self) -> bool:
        """Everything is as the spec wants it."""
        return not self.actions and not self.waits


class _Differences(msgspec.Struct):
    """What is gathered on the way."""

    actions: list[Action]
    waits: list[Wait]


def plan(
    swarm: Swarm,
    observed: Observed,
    fresh: Fresh,
    default_image: str,
    now: datetime,
    ports: OpenPorts = RANGES,
) -> Plan:
    """What to do now. A paused swarm is only looked at."""
    scaling = scale(swarm, observed, now)
    declared = _declared(swarm, observed, scaling)
    staying = [name for name in declared if name not in scaling.leaving]
    converged = convergence.assess(observed, staying)
    keys = _keys(swarm, observed, declared, fresh)
    facts = _facts(swarm, observed, scaling, declared, keys, fresh, default_image, ports)
    rollout = _rollout(swarm, observed, facts, staying, now)
    if swarm.paused:
        return Plan((), (), converged, keys, rollout.outdated, scaling.leaving)
    found = _Differences([], list(_missing(observed)))
    facts = msgspec.structs.replace(
        facts,
        regions={
            region: RegionFacts(scaling.replicas[region], rollout.partitions[region])
            for region in swarm.regions
        },
    )
    # Agents first: what they are told is what the Secret says already, and some of them may be about to go.
    _rotate(keys, found)
    _tune(observed, facts, scaling, found)
    found.actions += _stale_cuts(observed)
    found.actions += scaling.drains
    found.waits += [*scaling.waits, *rollout.waits]
    _apply_all(swarm, observed, facts, keys, found)
    _delete_excess(swarm, observed, scaling, rollout, facts, found)
    return Plan(
        tuple(found.actions),
        tuple(found.waits),
        converged,
        keys,
        rollout.outdated,
        scaling.leaving,
    )


# --- what is wanted -------------------------------------------------------------------------------


def _declared(swarm: Swarm, observed: Observed, scaling: Scale) -> dict[str, str]:
    """Agent to region of everyone who ought to exist, and of those who still do."""
    found = {
        names.agent(swarm.name, region, ordinal): region
        for region in swarm.regions
        for ordinal in range(scaling.replicas[region])
    }
    return found | {pod.name: pod.region for pod in observed.pods if pod.region}


def _keys(
    swarm: Swarm, observed: Observed, declared: Mapping[str, str], fresh: Fresh
) -> Decision | None:
    if not swarm.encrypted:
        return None
    named = swarm.spec.encryption.secret_name
    decision = keyring.decide(
        observed.ring,
        swarm.spec.encryption.rotation.generation,
        observed.keys,
        declared,
        fresh=fresh.key if named is None else None,
        partitioned=observed.partitioned,
    )
    if decision.ring is not None:
        return decision
    why = observed.ring_error or f"Secret {named}, which is to hold the keys, is not there"
    return msgspec.structs.replace(decision, waiting=why)


def _facts(
    swarm: Swarm,
    observed: Observed,
    scaling: Scale,
    declared: Mapping[str, str],
    keys: Decision | None,
    fresh: Fresh,
    default_image: str,
    ports: OpenPorts,
) -> Facts:
    config = observed.objects.get(("ConfigMap", names.config_map(swarm.name)))
    before = read_config(config).get("settings")
    read_token, write_token = observed.tokens or (fresh.read_token, fresh.write_token)
    ours = keys is not None and swarm.spec.encryption.secret_name is None
    ring = keys.ring if keys is not None and ours else None
    return Facts(
        default_image=default_image,
        regions={region: RegionFacts(scaling.replicas[region]) for region in swarm.regions},
        declared=declared,
        settings=tuning.enforced(swarm.settings, before if isinstance(before, dict) else {}),
        keys=ring.data() if ring is not None else {},
        key_annotations=ring.annotations() if ring is not None else {},
        read_token=read_token,
        write_token=write_token,
        restart=restarts.hashes(swarm, observed),
        cut=observed.cut,
        ports=ports,
    )


def _rollout(
    swarm: Swarm, observed: Observed, facts: Facts, staying: list[str], now: datetime
) -> Rollout:
    changing = set()
    for body in build(swarm, facts):
        found = observed.objects.get((body["kind"], body["metadata"]["name"]))
        if body["kind"] == "StatefulSet" and found is not None:
            region = body["metadata"]["labels"][names.REGION_LABEL]
            if drift.template_changes(drift.stamped(body), found):
                changing.add(region)
    # An agent that does not run anyway must not keep its own replacement waiting.
    running = {pod.name for pod in observed.pods if pod.ready}
    counted = [name for name in staying if name in running]
    whole = convergence.assess(observed, counted).holds is True
    return roll(swarm, observed, frozenset(changing), whole, now)


# --- what differs ---------------------------------------------------------------------------------


def _missing(observed: Observed) -> list[Wait]:
    return [
        Wait("ReferenceMissing", f"{what} is not there, and agents need it", blocked=True)
        for what in observed.missing
    ]


def _apply_all(
    swarm: Swarm, observed: Observed, facts: Facts, keys: Decision | None, found: _Differences
) -> None:
    """Make or repair every object that is not as it ought to be."""
    for body in build(swarm, facts):
        identity = (body["kind"], body["metadata"]["name"])
        there = observed.objects.get(identity)
        if there is None:
            _create(drift.stamped(body), keys, found)
            continue
        whom = standing(swarm, there)
        if whom == "foreign":
            message = f"{identity[0]} {identity[1]} {whose(there)}; it is left alone"
            found.waits.append(Wait("NameTaken", message, blocked=True))
            continue
        if whom == "former" or "deletionTimestamp" in there["metadata"]:
            found.waits.append(
                Wait("Deleting", f"{identity[0]} {identity[1]} is still being deleted")
            )
            continue
        if body["kind"] == "StatefulSet":
            region = body["metadata"]["labels"][names.REGION_LABEL]
            body, actions, waits = storage.reconcile(swarm, observed, region, body, there)
            found.actions += actions
            found.waits += waits
            if any(isinstance(action, Delete) for action in actions):
                continue
        if identity == ("Secret", names.keyring_secret(swarm.name)) and observed.ring_error:
            # An apply would leave what somebody else put among the keys, and agents stumble over it.
            found.actions.append(
                Delete("Secret", identity[1], there["metadata"]["uid"], observed.ring_error)
            )
            _create(drift.stamped(body), keys, found)
            continue
        _repair(drift.stamped(body), there, found)


def _create(body: dict[str, Any], keys: Decision | None, found: _Differences) -> None:
    action = Apply(body, "Created")
    if keys is not None and keys.before_secret and keys.install and _is_keyring(body):
        assert keys.ring is not None
        agents = tuple(sorted(keys.install))
        found.actions.append(ReplaceKeyring(agents, keys.ring.keys[0], action))
        return
    found.actions.append(action)


def _is_keyring(body: Mapping[str, Any]) -> bool:
    return bool(body["metadata"]["labels"][names.COMPONENT_LABEL] == "keyring")


def _repair(body: dict[str, Any], there: Object, found: _Differences) -> None:
    annotations = there["metadata"].get("annotations") or {}
    applied = body["metadata"]["annotations"][names.APPLIED_ANNOTATION]
    field = drift.difference(body, there)
    if field is None and annotations.get(names.APPLIED_ANNOTATION) == applied:
        return
    # The hash tells a change of mind from somebody else's change.
    drifted = annotations.get(names.APPLIED_ANNOTATION) == applied
    found.actions.append(Apply(body, "Repaired" if drifted else "Updated", field or ""))


def _delete_excess(
    swarm: Swarm,
    observed: Observed,
    scaling: Scale,
    rollout: Rollout,
    facts: Facts,
    found: _Differences,
) -> None:
    """Delete what is ours and not wanted any more, once nothing needs it."""
    wanted = {(body["kind"], body["metadata"]["name"]) for body in build(swarm, facts)}
    pods_change = bool(rollout.outdated) or any(
        isinstance(action, Apply) and action.body["kind"] == "StatefulSet"
        for action in found.actions
    )
    for (kind, name), there in sorted(observed.objects.items()):
        if (kind, name) in wanted or standing(swarm, there) != "ours":
            continue
        if "deletionTimestamp" in there["metadata"]:
            continue
        region = region_of(swarm, there)
        why = "the spec does not want it any more"
        if region is not None and region not in swarm.regions:
            inhabited = stateful_set(swarm, observed, region) or observed.of_region(region)
            if region not in scaling.removable or (kind != "StatefulSet" and inhabited):
                continue
            why = f"region {region} is not in the spec any more"
        elif kind == "Secret" and pods_change:
            continue  # pods that are still to be replaced mount it
        found.actions.append(Delete(kind, name, there["metadata"]["uid"], why))


# --- what agents are told -------------------------------------------------------------------------


def _tune(observed: Observed, facts: Facts, scaling: Scale, found: _Differences) -> None:
    if observed.settings is None:
        return
    changes = tuning.changes(facts.settings, observed.settings)
    ready = [name for name, info in sorted(observed.agents.items()) if info.ready]
    agents = [name for name in ready if name not in scaling.leaving] or ready
    if changes and agents:
        found.actions.append(ChangeSettings(agents[0], changes))


def _stale_cuts(observed: Observed) -> list[LiftCut]:
    """Agents that were told to keep to their side, of which there is none any more."""
    return [
        LiftCut(name)
        for name, info in sorted(observed.agents.items())
        if info.cut_by in OURS and not observed.cut.beyond(info.region)
    ]


def _rotate(keys: Decision | None, found: _Differences) -> None:
    if keys is None:
        return
    ring = keys.ring
    if ring is None:
        found.waits.append(Wait("NoKeys", keys.waiting or "there are no keys", blocked=True))
        return
    if keys.waiting is not None:
        found.waits.append(Wait("KeyRotation", f"key rotation {keys.waiting}"))
    if keys.before_secret:
        return
    found.actions += [
        *(InstallKeys(agent, lacking) for agent, lacking in sorted(keys.install.items())),
        *(UseKey(agent, ring.primary) for agent in keys.use),
        *(RemoveKeys(agent, ids) for agent, ids in sorted(keys.remove.items())),
    ]

"""Cuts between regions: SwarmPartition objects, what agents say about them, and healing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from time import monotonic
from typing import Any

from gossipctl import durations
from gossipctl.failures import CommandFailed, NotConverged, UsageError
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.resources import (
    API_VERSION,
    MANAGED_BY_LABEL,
    MANAGER,
    PARTITION_LABEL,
    REGION_LABEL,
    SWARM_LABEL,
    core,
    network_policies,
    partitions,
)
from gossipctl.kubernetes.roster import Roster, condition, holds
from gossipctl.kubernetes.watching import snapshots
from gossipctl.noticing import summary
from gossipctl.suggest import did_you_mean, listing

ENFORCE_SECONDS = 30.0
HEAL_SECONDS = 15.0
"""The operator heals within a second. Where it does not, it is done without it."""
EXAMPLE = "for example: --group1 us-east --group2 us-west,eu-central"

Cut = Mapping[str, Any]
"""A SwarmPartition."""


# --- what was asked for ---------------------------------------------------------------------------


def sides_of(request: Mapping[str, Any], regions: Sequence[str]) -> tuple[list[list[str]], bool]:
    """The groups of a partition request, and whether regions that it does not name pass on between them.

    Raises:
        UsageError: it names unknown regions, one twice, or nothing to cut off.
    """
    if request.get("one_way"):
        raise UsageError(
            "a cluster cuts both directions or none",
            "one-way cuts are possible on this machine, with --backend local",
        )
    pair = request.get("pair")
    groups = (
        [[region] for region in pair]
        if pair
        else request.get("groups")
        or [request[name] for name in ("group1", "group2") if name in request]
    )
    named = [region for group in groups for region in group]
    for region in named:
        if region not in regions:
            raise UsageError(
                f"no region {region!r}",
                did_you_mean(region, regions, otherwise=f"there is {listing(regions)}"),
            )
        if named.count(region) > 1:
            raise UsageError(f"region {region} is named twice", EXAMPLE)
    if len(groups) == 1 and len(named) == len(regions):
        raise UsageError("the only group holds every region, so nothing would be cut off", EXAMPLE)
    return groups, bool(pair)


def manifest(
    roster: Roster, groups: list[list[str]], *, transit: bool, milliseconds: int | None
) -> dict[str, Any]:
    """The SwarmPartition that cuts these groups off from each other."""
    spec: dict[str, Any] = {"swarmRef": {"name": roster.name}, "groups": groups}
    if transit:
        spec["transit"] = "Enabled"
    if milliseconds is not None:
        spec["duration"] = f"{milliseconds}ms"
    return {
        "apiVersion": API_VERSION,
        "kind": "SwarmPartition",
        "metadata": {
            "generateName": f"{roster.name}-",
            "namespace": roster.namespace,
            "labels": {SWARM_LABEL: roster.name, MANAGED_BY_LABEL: MANAGER},
        },
        "spec": spec,
    }


# --- in force -------------------------------------------------------------------------------------


def of_swarm(api: Api, roster: Roster) -> list[Cut]:
    """The SwarmPartitions of a swarm that are not over, oldest first."""
    items = api.get(partitions(roster.namespace)).get("items") or []
    mine = [
        each
        for each in items
        if each["spec"]["swarmRef"]["name"] == roster.name and not holds(each, "Healed")
    ]
    return sorted(mine, key=lambda each: str(each["metadata"].get("creationTimestamp")))


def until_enforced(api: Api, cut: Cut, seconds: float = ENFORCE_SECONDS) -> Cut:
    """The SwarmPartition once it is in force.

    Raises:
        CommandFailed: it cannot be enforced; the object says why.
        NotConverged: nobody says that it is, in that time (exit 3).
    """
    namespace, name = cut["metadata"]["namespace"], cut["metadata"]["name"]
    selector = f"metadata.name={name}"
    for found in snapshots(api, partitions(namespace), seconds, fieldSelector=selector):
        if name not in found:
            raise CommandFailed(f"partition {name} was deleted meanwhile")
        cut = found[name]
        if holds(cut, "Enforced"):
            return cut
        for kind in ("Applied", "Enforced"):
            state = condition(cut, kind)
            if state.get("status") == "False" and state.get("reason") not in ("Pending", "Probing"):
                raise CommandFailed(
                    f"partition {name} is not in force: {state.get('message') or state.get('reason')}",
                    f"it stays until it is healed; see: kubectl -n {namespace} describe spart {name}",
                )
    said = condition(cut, "Enforced").get("message") or "does the operator run?"
    raise NotConverged(
        f"nobody says that partition {name} is in force, after {seconds:g} s: {said}",
        "the order stands; withdraw it with: gossipctl network heal-partition",
    )


def describe(cut: Cut, regions: Sequence[str]) -> dict[str, Any]:
    """A cut in the terms of ``local.requests.Partition``."""
    spec, status = cut["spec"], cut.get("status") or {}
    started = status.get("appliedAt") or cut["metadata"].get("creationTimestamp")
    expires = status.get("expiresAt")
    if expires is None and spec.get("duration") and started:
        length = durations.parse(spec["duration"]) / 1_000
        ends = datetime.fromisoformat(started).timestamp() + length
        expires = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": cut["metadata"]["name"],
        "kind": "pair" if spec.get("transit") == "Enabled" else "groups",
        "groups": sides(cut, regions),
        "started_at": started,
        "expires_at": expires,
        "remaining_ms": _left(expires),
        "mechanism": status.get("mechanism"),
        "enforced": condition(cut, "Enforced").get("status", "Unknown"),
    }


def _left(expires: str | None) -> int | None:
    if expires is None:
        return None
    left = datetime.fromisoformat(expires) - datetime.now(UTC)
    return max(0, round(left.total_seconds() * 1_000))


def sides(cut: Cut, regions: Sequence[str]) -> list[list[str]]:
    """Its groups; regions that it does not name are one more, unless they pass on between the others."""
    groups = [list(group) for group in cut["spec"]["groups"]]
    if cut["spec"].get("transit") == "Enabled":
        return groups
    named = {region for group in groups for region in group}
    rest = [region for region in regions if region not in named]
    return [*groups, rest] if rest else groups


def components(cuts: Sequence[Cut], regions: Sequence[str]) -> list[list[str]]:
    """Groups of regions that still reach each other, directly or through others."""
    severed = {
        frozenset((a, b))
        for cut in cuts
        for one, other in combinations(sides(cut, regions), 2)
        for a in one
        for b in other
    }
    found: list[list[str]] = []
    left = list(regions)
    while left:
        group = [left.pop(0)]
        for region in group:
            joined = [other for other in left if frozenset((region, other)) not in severed]
            group += joined
            left = [other for other in left if other not in joined]
        found.append(sorted(group))
    return found


def status(
    roster: Roster, cuts: Sequence[Cut], reports: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What is in force and who has noticed, in the terms of ``local.requests.PartitionStatus``.

    ``reports``: name and region of each agent, with its own view as ``partition``.
    """
    groups = components(cuts, roster.regions)
    agents = [_noticed(report) for report in reports]
    enforced = bool(cuts) and all(holds(cut, "Enforced") for cut in cuts)
    return {
        "status": "partitioned" if cuts else "healthy",
        "cuts": [describe(cut, roster.regions) for cut in cuts],
        "groups": groups,
        "enforced": {"agents": roster.total if enforced else 0, "of": roster.total if cuts else 0},
        "detection": summary(agents if cuts else [], groups, "detected_ms"),
        "healing": summary(agents, groups, "healed_ms"),
        "agents": agents,
    }


def _noticed(report: Mapping[str, Any]) -> dict[str, Any]:
    seen = report["partition"]
    detected = [each["detection_ms"] for each in seen["cuts"] if each["detection_ms"] is not None]
    over = [each for each in seen["history"] if each["partition_end"] is not None]
    return {
        "name": report["name"],
        "region": report["region"],
        "inbound": [],
        "outbound": [],
        "dropped": None,
        "detected_ms": max(detected, default=0) if seen["cuts"] else None,
        "healed_ms": over[0]["healing_time_ms"] if over and not seen["cuts"] else None,
    }


def overdue(cuts: Sequence[Cut], regions: Sequence[str]) -> list[str]:
    """Those whose duration has been over for longer than an operator that runs takes to end them."""
    now, found = datetime.now(UTC), []
    for cut in cuts:
        expires = describe(cut, regions)["expires_at"]
        if expires and (now - datetime.fromisoformat(expires)).total_seconds() > HEAL_SECONDS:
            found.append(str(cut["metadata"]["name"]))
    return found


# --- healing --------------------------------------------------------------------------------------


def heal(api: Api, roster: Roster, cuts: Sequence[Cut]) -> bool:
    """Withdraw every cut, and return when they are gone; False if that took doing without the operator.

    Without it, whatever holds a cut is found by its labels: the policies of regions are widened, the rest is deleted, and
    the objects are released from waiting for it.
    """
    for cut in cuts:
        api.delete(partitions(roster.namespace, cut["metadata"]["name"]))
    names = {cut["metadata"]["name"] for cut in cuts}
    ends = monotonic() + HEAL_SECONDS
    for found in snapshots(api, partitions(roster.namespace), HEAL_SECONDS):
        if not names & set(found):
            return True
        if monotonic() > ends:
            break
    # Policies, and the cut that new agents are born into.
    for kind in (network_policies(roster.namespace), core("configmaps", roster.namespace)):
        held = api.get(kind, labelSelector=f"{SWARM_LABEL}={roster.name},{PARTITION_LABEL}")
        for found in held.get("items") or []:
            path = f"{kind}/{found['metadata']['name']}"
            if REGION_LABEL in found["metadata"]["labels"]:
                _widen(api, path, found)
            else:
                api.delete(path)
    for name in sorted(names):
        try:
            api.merge(partitions(roster.namespace, name), {"metadata": {"finalizers": None}})
        except Refusal as refusal:
            if not refusal.is_absent:
                raise
    return False


def _widen(api: Api, path: str, policy: Mapping[str, Any]) -> None:
    """Have the policy that a region has at all times let gossip in from every region again, and still from nobody else."""
    rules = [
        rule if "from" not in rule else {**rule, "from": [_of_any_region(p) for p in rule["from"]]}
        for rule in policy["spec"].get("ingress") or ()
    ]
    metadata = {
        "labels": {PARTITION_LABEL: None},
        "resourceVersion": policy["metadata"]["resourceVersion"],
    }
    try:
        api.merge(path, {"metadata": metadata, "spec": {"ingress": rules}})
    except Refusal as refusal:
        # An operator that came to life was faster.
        if not refusal.is_absent and refusal.reason != "Conflict":
            raise


def _of_any_region(peer: Mapping[str, Any]) -> dict[str, Any]:
    selector = {
        field: value for field, value in peer["podSelector"].items() if field != "matchExpressions"
    }
    return {**peer, "podSelector": selector}

"""Agents come and go by the replicas of their region. However many commands change them at once, each counts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic, sleep
from typing import Any

from gossipctl.failures import CommandFailed, NotConverged, UsageError
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.resources import (
    DOWN_ANNOTATION,
    agent,
    agents_of,
    core,
    swarms,
    volume_claim,
)
from gossipctl.kubernetes.roster import Place, Roster, describe, state_of
from gossipctl.kubernetes.watching import snapshots
from gossipctl.suggest import did_you_mean, listing

Operations = list[dict[str, Any]]
Plan = Callable[[Roster], Operations]

EDIT_SECONDS = 60.0
"""For so long others may get in first."""
LONGEST_PAUSE = 1.0
START_SECONDS = 180.0
STOP_SECONDS = 180.0


def edit(api: Api, namespace: str, name: str, plan: Plan) -> Roster:
    """Change a GossipSwarm by a JSON patch whose tests hold only for the object that it was planned on.

    Where another was faster, it is planned again on what the other left.

    Raises:
        Refusal: the server refuses the change itself.
        CommandFailed: others were always faster.
    """
    path = swarms(namespace, name)
    ends = monotonic() + EDIT_SECONDS
    pause = 0.02
    current = api.get(path)
    while True:
        operations = plan(Roster(current))
        if not operations:
            return Roster(current)
        try:
            return Roster(api.edit(path, operations))
        except Refusal as refusal:
            if not refusal.is_conflict:
                raise
            current = api.get(path)
            if refusal.status != 409 and plan(Roster(current)) == operations:
                raise  # nobody changed it: it is the change that is refused
            if monotonic() > ends:
                raise CommandFailed(
                    f"swarm {name} is changed by others all the time", "try again"
                ) from None
        sleep(random.uniform(0, pause))
        pause = min(pause * 2, LONGEST_PAUSE)


def set_replicas(roster: Roster, region: str, replicas: int) -> Operations:
    """Operations that give a region so many agents, if it is still as it was read."""
    index = roster.regions.index(region)
    entry = roster.spec["regions"][index]
    where = f"/spec/regions/{index}"
    tests: Operations = [{"op": "test", "path": where, "value": entry}]
    if "replicas" not in entry and "replicasPerRegion" in roster.spec:
        common = roster.spec["replicasPerRegion"]
        tests.append({"op": "test", "path": "/spec/replicasPerRegion", "value": common})
    return [*tests, {"op": "add", "path": f"{where}/replicas", "value": replicas}]


def everyone(roster: Roster) -> list[Place]:
    """All agents that a swarm ought to have."""
    return [
        Place(agent(roster.name, region, ordinal), region, ordinal)
        for region in roster.regions
        for ordinal in range(roster.replicas(region))
    ]


# --- starting -------------------------------------------------------------------------------------


def add(api: Api, roster: Roster, region: str | None, number: int) -> list[Place]:
    """Raise a region's replicas (by default of the one with the fewest); the agents that are new by that."""
    if region is not None and region not in roster.regions:
        raise UsageError(
            f"no region {region!r}",
            did_you_mean(region, roster.regions, otherwise=f"there is {listing(roster.regions)}"),
        )
    new: list[Place] = []

    def plan(now: Roster) -> Operations:
        where = region or min(now.regions, key=now.replicas)
        first = now.replicas(where)
        _check_room(now, number)
        new[:] = [
            Place(agent(now.name, where, ordinal), where, ordinal)
            for ordinal in range(first, first + number)
        ]
        return set_replicas(now, where, first + number)

    edit(api, roster.namespace, roster.name, plan)
    return new


def _check_room(roster: Roster, number: int) -> None:
    if roster.total + number > roster.max_agents:
        raise UsageError(
            f"{number} more would exceed the {roster.max_agents} agents that swarm {roster.name} "
            f"admits; it has {roster.total}",
            "raise the limit with: gossipctl gossip config --max-agents N",
        )


def until_active(
    api: Api, roster: Roster, places: Sequence[Place], seconds: float = START_SECONDS
) -> Iterator[dict[str, Any]]:
    """Each of these agents once it is active.

    Raises:
        NotConverged: not all were in time; the message says what keeps the first of them (exit 3).
    """
    waiting = {place.name for place in places}
    pods: Mapping[str, dict[str, Any]] = {}
    for pods in snapshots(
        api, core("pods", roster.namespace), seconds, **_selectors(roster, places)
    ):
        for name in sorted(waiting & set(pods)):
            if state_of(pods[name]) == "active":
                waiting.discard(name)
                yield describe(pods[name])
        if not waiting:
            return
    first = min(waiting)
    raise NotConverged(
        f"{len(waiting)} of {len(places)} agents are not ready after {seconds:g} s; {first}: "
        + _what_keeps(pods.get(first)),
        f"the order stands; see: kubectl -n {roster.namespace} describe gossipswarm {roster.name}",
    )


def _what_keeps(pod: Mapping[str, Any] | None) -> str:
    if pod is None:
        return "has no pod yet (does the operator run?)"
    found = describe(pod)
    return f"{found['status']}{': ' + found['error'] if found['error'] else ''}"


def _selectors(roster: Roster, places: Sequence[Place]) -> dict[str, str]:
    regions = {place.region for place in places}
    found = {"labelSelector": agents_of(roster.name, *(regions if len(regions) == 1 else ()))}
    if len(places) == 1:
        found["fieldSelector"] = f"metadata.name={places[0].name}"
    return found


# --- stopping -------------------------------------------------------------------------------------


def drop_last(api: Api, roster: Roster, place: Place) -> list[Place]:
    """Take the last agent of a region away. Raises UsageError for any other than the last."""

    def plan(now: Roster) -> Operations:
        replicas = now.replicas(place.region)
        if place.ordinal >= replicas:
            raise UsageError(f"no agent {place.name!r}", "see them with: gossipctl agent list")
        if place.ordinal != replicas - 1:
            last = agent(now.name, place.region, replicas - 1)
            raise UsageError(
                f"{place.name} is not the last of its region: a StatefulSet gives up {last} first",
                f"stop {last}, or have {place.name} restarted with: "
                f"kubectl -n {now.namespace} delete pod {place.name}",
            )
        return set_replicas(now, place.region, replicas - 1)

    edit(api, roster.namespace, roster.name, plan)
    return [place]


def empty(api: Api, roster: Roster, regions: Sequence[str]) -> list[Place]:
    """Take all agents of these regions away."""
    gone: list[Place] = []

    def plan(now: Roster) -> Operations:
        gone[:] = [
            Place(agent(now.name, region, ordinal), region, ordinal)
            for region in regions
            for ordinal in range(now.replicas(region))
        ]
        filled = [region for region in regions if now.replicas(region)]
        return [each for region in filled for each in set_replicas(now, region, 0)]

    edit(api, roster.namespace, roster.name, plan)
    return gone


def until_gone(
    api: Api, roster: Roster, places: Sequence[Place], seconds: float = STOP_SECONDS
) -> Iterator[str]:
    """The name of each of these agents once its pod is gone. Raises NotConverged (exit 3) after that time."""
    waiting = {place.name for place in places}
    if not waiting:
        return
    for pods in snapshots(
        api, core("pods", roster.namespace), seconds, **_selectors(roster, places)
    ):
        for name in sorted(waiting - set(pods)):
            waiting.discard(name)
            yield name
        if not waiting:
            return
    raise NotConverged(
        f"{len(waiting)} of {len(places)} agents are still there after {seconds:g} s, "
        f"{min(waiting)} among them",
        "the order stands; does the operator run?",
    )


def erase(api: Api, namespace: str, name: str) -> None:
    """Delete the volume of an agent that is gone; nothing if it had none."""
    api.delete(core("persistentvolumeclaims", namespace, volume_claim(name)))


# --- down and up ----------------------------------------------------------------------------------


def take_down(api: Api, roster: Roster) -> bool:
    """Give every region no agents, and remember how many there were; False if it was down already."""
    was_up: list[bool] = []

    def plan(now: Roster) -> Operations:
        was_up[:] = [now.down is None]
        if now.down is not None:
            return []
        counts = {region: now.replicas(region) for region in now.regions}
        return [
            *(each for region in now.regions for each in set_replicas(now, region, 0)),
            *_annotate(now, json.dumps(counts)),
        ]

    edit(api, roster.namespace, roster.name, plan)
    return was_up[0]


def bring_up(api: Api, roster: Roster) -> Roster:
    """Give every region the agents that it had before ``take_down``; the swarm as it is then."""

    def plan(now: Roster) -> Operations:
        before = now.down
        if before is None:
            return []
        operations = _annotate(now, None)
        for region in now.regions:
            # Who was given agents meanwhile keeps those.
            wanted = max(now.replicas(region), int(before.get(region, 0)))
            operations += set_replicas(now, region, wanted)
        return operations

    return edit(api, roster.namespace, roster.name, plan)


def _annotate(roster: Roster, text: str | None) -> Operations:
    where = f"/metadata/annotations/{DOWN_ANNOTATION.replace('/', '~1')}"
    if text is None:
        return [{"op": "remove", "path": where}]
    if not roster.source["metadata"].get("annotations"):
        return [{"op": "add", "path": "/metadata/annotations", "value": {DOWN_ANNOTATION: text}}]
    return [{"op": "add", "path": where, "value": text}]

"""How many agents a region has on its way to as many as it is to have: nobody leaves before others hold its data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from gossipswarm_operator.actions import Drain, Wait
from gossipswarm_operator.conditions import timestamp
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Observed, Pod
from gossipswarm_operator.ownership import region_of, stateful_set
from gossipswarm_operator.quantities import seconds

DRAINED_FOR_AT_LEAST = timedelta(seconds=5)
"""What must be left of an agent's promise when it is told to go."""


class Scale(msgspec.Struct, frozen=True):
    """Replicas of each region now, and what has to happen before there may be fewer."""

    replicas: dict[str, int]
    """By region of the spec."""
    drains: tuple[Drain, ...]
    waits: tuple[Wait, ...]
    removable: tuple[str, ...]
    """Regions that the spec does not name any more and whose agents may go."""
    leaving: frozenset[str]
    """Agents that are to go."""


def scale(swarm: Swarm, observed: Observed, now: datetime) -> Scale:
    """What may be done now."""
    leaving = _leaving(swarm, observed)
    names = tuple(sorted(pod.name for pods in leaving.values() for pod in pods))
    replicas: dict[str, int] = {}
    drains: list[Drain] = []
    waits: list[Wait] = []
    removable: list[str] = []
    for region in swarm.regions:
        replicas[region] = max(swarm.replicas(region), _present(swarm, observed, region))
    for region, pods in leaving.items():
        held = [pod for pod in pods if not _may_go(swarm, observed, pod, now)]
        if not held:
            if region in replicas:
                replicas[region] = swarm.replicas(region)
            else:
                removable.append(region)
            if pods:
                # Kubernetes ends them, a while after it is told that there are to be fewer.
                waits.append(Wait("Leaving", f"{pods[0].name} may go and has not been told to yet"))
            continue
        drains += [
            Drain(pod.name, names, timestamp(pod.draining_since or now))
            for pod in held
            if pod.name in observed.agents
        ]
        waits.append(_waiting(region, held, observed))
    # Whoever goes with the last of a promise has to be asked again, so all of a region go together.
    return Scale(replicas, tuple(drains), tuple(waits), tuple(removable), frozenset(names))


def _leaving(swarm: Swarm, observed: Observed) -> dict[str, list[Pod]]:
    """By region: pods that there should not be, and regions without pods that should not be at all."""
    found: dict[str, list[Pod]] = {}
    for region in swarm.regions:
        excess = [
            pod for pod in observed.of_region(region) if pod.ordinal >= swarm.replicas(region)
        ]
        if excess or _present(swarm, observed, region) > swarm.replicas(region):
            found[region] = [pod for pod in excess if not pod.deleting]
    for region in former_regions(swarm, observed):
        found[region] = [pod for pod in observed.of_region(region) if not pod.deleting]
    return found


def former_regions(swarm: Swarm, observed: Observed) -> list[str]:
    """Regions of which something is left and that the spec does not name."""
    known = {region_of(swarm, found) for found in observed.objects.values()}
    return sorted(region for region in known if region is not None and region not in swarm.regions)


def _present(swarm: Swarm, observed: Observed, region: str) -> int:
    found = stateful_set(swarm, observed, region)
    return 0 if found is None else int(found["spec"].get("replicas", 1))


def _may_go(swarm: Swarm, observed: Observed, pod: Pod, now: datetime) -> bool:
    if pod.drained_until is not None and pod.drained_until - now >= DRAINED_FOR_AT_LEAST:
        return True
    if pod.address is None:
        return True  # it never ran, so it holds nothing of its own
    if swarm.total == 0:
        return True  # nobody is to be left who could take over
    timeout = timedelta(seconds=seconds(swarm.spec.update.timeout))
    since = pod.draining_since
    return since is not None and now - since > timeout and pod.name not in observed.agents


def _waiting(region: str, held: Sequence[Pod], observed: Observed) -> Wait:
    silent = [pod.name for pod in held if pod.name not in observed.agents]
    if silent:
        why = observed.silent.get(silent[0], "it does not run")
        return Wait("Draining", f"{silent[0]} is to hand over what it holds, but {why}")
    count = len(held)
    who = held[0].name if count == 1 else f"{count} agents of {region}"
    return Wait("Draining", f"{who} must hand over what others lack before leaving")

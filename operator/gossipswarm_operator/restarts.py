"""What agents read at their start only: its hash stands on their pods, so that they start again when it changes. Pure."""

from __future__ import annotations

from gossipswarm_operator.model import Swarm
from gossipswarm_operator.names import HOOKS_ANNOTATION
from gossipswarm_operator.observed import Observed
from gossipswarm_operator.ownership import stateful_set


def hashes(swarm: Swarm, observed: Observed) -> dict[str, str]:
    """Annotations of agents' pods.

    What is referred to and not there keeps the hash that it had: an agent that were replaced because of that could not
    start, whereas those that run have what they need.
    """
    found = dict(observed.restart)
    if swarm.spec.hooks.config_map_name is not None and HOOKS_ANNOTATION not in found:
        former = _former(swarm, observed, HOOKS_ANNOTATION)
        if former is not None:
            found[HOOKS_ANNOTATION] = former
    return found


def _former(swarm: Swarm, observed: Observed, annotation: str) -> str | None:
    for region in swarm.regions:
        there = stateful_set(swarm, observed, region)
        if there is None:
            continue
        held = there["spec"]["template"]["metadata"].get("annotations") or {}
        if annotation in held:
            return str(held[annotation])
    return None

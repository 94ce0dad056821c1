"""The swarm's parameters: ``spec.gossip`` says what is wanted, agents say what holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any

from gossipctl import output, spelling
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.resources import swarms
from gossipctl.kubernetes.roster import Roster

APPLY_SECONDS = 10.0
"""The operator passes a change on within a second; it may be starting, or not be there."""
POLL_SECONDS = 0.1

Ask = Callable[[], dict[str, Any] | None]
"""The settings that an agent applies; None where there is no agent."""


def change(api: Api, roster: Roster, changes: Mapping[str, Any]) -> Roster:
    """Have the spec say so; the swarm as it is then.

    Raises:
        Refusal: a value is out of range (exit 2), or it is not allowed.
    """
    return Roster(api.merge(swarms(roster.namespace, roster.name), {"spec": patch(changes)}))


def patch(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, by the agents' names, as a part of a spec."""
    spec: dict[str, Any] = {}
    for name, value in changes.items():
        part = spec if name in spelling.TOP_LEVEL else spec.setdefault("gossip", {})
        part[spelling.camel(name)] = spelling.write(name, value)
    return spec


def until_applied(changes: Mapping[str, Any], ask: Ask) -> dict[str, Any] | None:
    """What an agent applies, once that is what was asked for; says so where it is not in time."""
    ends = monotonic() + APPLY_SECONDS
    while True:
        found = ask()
        if found is None or all(found.get(name) == value for name, value in changes.items()):
            return found
        if monotonic() > ends:
            output.warn(
                f"no agent applies it yet after {APPLY_SECONDS:g} s; the order stands (does the operator run?)"
            )
            return {**found, **changes}
        sleep(POLL_SECONDS)

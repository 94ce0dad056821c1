"""Whether every agent has what every other has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from gossipswarm_operator.observed import Observed


class Convergence(msgspec.Struct, frozen=True):
    """The answer, a reason for programs and one for people. ``agreeing`` agents hold the commonest state."""

    holds: bool | None
    """None: it cannot be told yet, and what was said before stays."""
    reason: str
    message: str
    agreeing: int


def assess(observed: Observed, expected: Collection[str]) -> Convergence:
    """Judge by the agents named: those that ought to be there, without those that are on their way out."""
    here = {name: info for name, info in observed.agents.items() if name in expected}
    _, agreeing = observed.commonest_state
    agreeing = min(agreeing, len(here))

    def no(reason: str, message: str) -> Convergence:
        return Convergence(False, reason, message, agreeing)

    if not expected:
        return Convergence(True, "NoAgents", "the swarm is to have no agents", 0)
    absent = sorted(name for name in expected if name not in here)
    if absent:
        why = observed.silent.get(absent[0])
        return no("AgentsMissing", f"no word from {_some(absent)}" + (f": {why}" if why else ""))
    if observed.divided:
        return no("Partitioned", "regions are cut off from each other")
    unready = sorted(name for name, info in here.items() if not info.ready)
    if unready:
        return no("AgentsCatchingUp", f"{_some(unready)} has not caught up")
    lonely = sorted(name for name, info in here.items() if info.members_alive < len(expected))
    if lonely:
        seen = here[lonely[0]].members_alive
        return no("MembersMissing", f"{lonely[0]} sees {seen} of {len(expected)} agents")
    if len({info.state_hash for info in here.values()}) == 1:
        return Convergence(True, "StatesEqual", f"all {len(here)} agents hold the same", agreeing)
    if observed.delivered:
        message = "writes go on, and come to every agent within seconds"
        return Convergence(True, "WritesDelivered", message, len(here))
    message = f"{agreeing} of {len(expected)} agents hold the same"
    return Convergence(observed.delivered, "StatesDiffer", message, agreeing)


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest

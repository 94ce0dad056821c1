"""Whether clients should be sent to an agent.

Ready is who has caught up with a member of its swarm, for as long as it lives: an agent that is cut off goes on
serving. One that meets nobody serves what it has after a while, because being alone, with all others gone, is no reason to
refuse; unless others do talk to it and it cannot understand them, which is a mistake in its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gossipswarm_agent.runtime.clocks import read_clocks

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

ALONE_SECONDS: Final = 20.0
"""How long an agent looks for others before it serves without having met any."""
_LOCKED_OUT: Final = ("key", "tag")
"""Reasons to drop a frame that somebody of this swarm sent under keys that are not ours."""


def unreadiness(agent: Agent, declared: Mapping[str, str] | None) -> str | None:
    """Why an agent is not ready, in words; None = it is."""
    node = agent.node
    if agent.departure.under_way:
        return "the agent takes no more writes, because it is about to leave"
    if node.repair.synced:
        return None
    others = {member.name for member in node.membership.live() if _is_open(agent, member.name)}
    if others:
        return "the agent has met its swarm and is catching up with it"
    if declared is not None:
        expected = bool(declared.keys() - {agent.config.name})
    else:
        expected = bool(agent.config.seeds)
    if not expected:
        return None
    locked_out = sum(agent.transport.counters.dropped.get(reason, 0) for reason in _LOCKED_OUT)
    if locked_out:
        return f"others send what none of this agent's keys opens ({locked_out} frames so far)"
    if read_clocks().mono - agent.started_mono < ALONE_SECONDS:
        return "the agent has not yet met anybody of its swarm"
    return None


def _is_open(agent: Agent, name: str) -> bool:
    """Whether this member may be caught up with, as the network and the healing strategy have it."""
    node = agent.node
    member = node.membership.members[name]
    return node.membership.reachable(member.region) and not node.meetings.closed(name)

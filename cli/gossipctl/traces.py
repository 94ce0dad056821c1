"""Finding traced writes: each is known to the agent where it was made."""

from __future__ import annotations

from typing import Any

from gossipctl.backend import Agent, Swarm
from gossipctl.failures import CommandFailed


class Trace:
    """One traced write, and the agent that counts its receipts."""

    def __init__(self, agent: Agent, dot: str) -> None:
        self.agent = agent
        self.dot = dot
        self.convergence: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Ask again how far it has come."""
        self.convergence = dict(self.agent.convergence(self.dot).raw)

    @property
    def complete(self) -> bool:
        """Every agent has it."""
        return self.convergence["full_ms"] is not None


def newest(swarm: Swarm, agent: str | None = None) -> Trace | None:
    """The newest traced write at ``agent``, or in the whole swarm; None if there is none."""
    found = [
        (each["newest_trace"][2], each["name"], each["newest_trace"][0])
        for each in swarm.stats()
        if each["newest_trace"] and agent in (None, each["name"])
    ]
    if not found:
        return None
    _, name, dot = max(found)
    return Trace(swarm.agent(name), dot)


def required(swarm: Swarm, agent: str | None, dot: str | None) -> Trace:
    """The write that is meant: ``origin:sequence``, or the newest.

    Raises:
        CommandFailed: nothing has been written yet.
    """
    if dot:
        return Trace(swarm.agent(dot.rpartition(":")[0].partition("/")[0]), dot)
    if agent:
        swarm.agent(agent)
    trace = newest(swarm, agent)
    if trace is None:
        where = f"at {agent}" if agent else f"in {swarm.name}"
        raise CommandFailed(
            f"no traced write {where} yet",
            "make one with: gossipctl gossip state-update --key demo --value 1",
        )
    return trace

"""Finding traced writes: each is known to the agent where it was made."""

from __future__ import annotations

from typing import Any

from gossipctl.backend import Agent, Swarm
from gossipctl.failures import CommandFailed


class Trace:
    """One traced write, and the agent that counts its receipts."""

    def __init__(self, agent: Agent, convergence: dict[str, Any]) -> None:
        self.agent = agent
        self.convergence = convergence

    @property
    def dot(self) -> str:
        """Identity of the write."""
        return str(self.convergence["dot"])

    def refresh(self) -> dict[str, Any]:
        """Ask again how far it has come."""
        self.convergence = dict(self.agent.convergence(self.dot).raw)
        return self.convergence

    @property
    def complete(self) -> bool:
        """Every agent has it."""
        return bool(self.convergence.get("full_ms") is not None or self.convergence["share"] >= 1)


def newest(swarm: Swarm, agent: str | None = None) -> Trace | None:
    """The newest traced write at ``agent``, or in the whole swarm; None if there is none."""
    agents = [swarm.agent(agent)] if agent else swarm.agents()
    best: Trace | None = None
    for each in agents:
        latest = next(iter(each.recent_convergence()), None)
        if latest and (best is None or latest.started_at > best.convergence["started_at"]):
            best = Trace(each, dict(latest.raw))
    return best


def of_dot(swarm: Swarm, dot: str) -> Trace:
    """The traced write ``origin:sequence``; its origin counts the receipts."""
    name = dot.rpartition(":")[0].partition("/")[0]
    agent = swarm.agent(name)
    return Trace(agent, dict(agent.convergence(dot).raw))


def required(swarm: Swarm, agent: str | None, dot: str | None) -> Trace:
    """The write that is meant.

    Raises:
        CommandFailed: nothing has been written yet.
    """
    trace = of_dot(swarm, dot) if dot else newest(swarm, agent)
    if trace is None:
        where = f"at {agent}" if agent else f"in {swarm.name}"
        raise CommandFailed(
            f"no traced write {where} yet",
            "make one with: gossipctl gossip state-update --key demo --value 1",
        )
    return trace

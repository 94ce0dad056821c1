"""From what the core knows to what the API says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gossipswarm_agent.api import types
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import timestamp

if TYPE_CHECKING:
    from gossipswarm_agent.core.receipts import Convergence
    from gossipswarm_agent.runtime.agent import Agent


def convergence(known: Convergence) -> types.Convergence:
    """How far one write has come."""
    return types.Convergence(
        dot=known.dot,
        key=known.key,
        origin=known.origin,
        started_at=timestamp(known.started_ms),
        agents=known.agents,
        received=known.received,
        share=known.share,
        threshold=known.threshold,
        converged=known.converged,
        duration_ms=known.duration_ms,
        full_ms=known.full_ms,
        mode=known.mode,
        rounds=[
            types.Round(
                round=each.round,
                agents=each.agents,
                share=each.share,
                duration_ms=each.duration_ms,
            )
            for each in known.rounds
        ],
        missing=known.missing,
    )


async def converged(
    agent: Agent, dot: str, threshold: float | None, timeout_ms: int
) -> types.Convergence:
    """Wait until the share of agents has the write.

    Raises:
        Problem: 504 at the timeout, carrying how far it came; the write stands. 404 for an unknown dot.
    """
    reached = convergence(await agent.wait_converged(dot, threshold, timeout_ms / 1000))
    if reached.converged:
        return reached
    raise Problem(
        504,
        "not-converged",
        f"{reached.received} of {reached.agents} agents confirmed within {timeout_ms} ms; "
        f"{reached.threshold:.0%} were waited for. The write stands and goes on spreading",
        convergence=reached,
    )

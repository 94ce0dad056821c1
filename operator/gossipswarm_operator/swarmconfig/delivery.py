"""Writing at agents: one batch at one agent, and at another one if that does not take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gossipswarm_operator.agent_documents import AgentError, Line, LineProblem
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.swarmconfig.survey import SwarmAgent
from gossipswarm_operator.swarmconfig.writing import traced

ATTEMPTS: Final = 3
"""Agents that are tried."""
RECEIPT_SECONDS: Final = 2.0
"""To wait for every agent to say that it has a write; who has not by then is asked later."""
_ELSEWHERE: Final = (429, 503, 507)
"""Statuses of agents that take no writes for reasons of their own."""


class Changed(Exception):
    """What was planned for is no longer what is there: look again."""


class Refused(Exception):
    """No agent took the batch. ``reason`` stands in the condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def deliver(
    api: AgentsApi, agents: Sequence[SwarmAgent], lines: Sequence[Line]
) -> SwarmAgent:
    """Write all lines at the first of the agents that takes them; which it was.

    Returns once it is durable there and the other agents had their chance to receive it.

    Raises:
        Changed: a condition of a line does not hold.
        Refused: no agent takes it.
    """
    failures: list[str] = []
    degraded = False
    reachable = [agent for agent in agents if agent.address is not None]
    for agent in reachable[:ATTEMPTS]:
        assert agent.address is not None
        try:
            acks = await api.batch(agent.address, traced(lines))
        except AgentError as error:
            failures.append(str(error))
            continue
        problem = next((ack.error for ack in acks if ack.error is not None), None)
        if problem is None:
            await _await_receipts(api, agent, acks[-1].dot)
            return agent
        if problem.status == 412:
            raise Changed(problem.detail)
        failures.append(f"{agent.name}: {problem.detail}")
        degraded = degraded or _is_degraded(problem)
        if problem.status not in _ELSEWHERE:
            raise Refused("WriteRefused", failures[-1])
    raise Refused(
        "SwarmReadOnly" if degraded else "AgentsUnreachable",
        "; ".join(failures) or "no agent has an address",
    )


def _is_degraded(problem: LineProblem) -> bool:
    return problem.reason == "degraded"


async def _await_receipts(api: AgentsApi, agent: SwarmAgent, dot: str | None) -> None:
    assert agent.address is not None
    if dot:
        try:
            await api.receipts(agent.address, dot, wait=RECEIPT_SECONDS)
        except AgentError:
            # The write is durable; how far it has come is asked for anyhow.
            return

"""Asking every agent of a swarm what it holds below a prefix: one request each, answered by 304 where nothing is new."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from gossipswarm_operator.agent_documents import AgentAddress, AgentError, Value
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.swarmconfig.keys import Leaves, leaves_of
from gossipswarm_operator.swarmconfig.status import Spread

SAMPLE: Final = 3
"""Agents that are asked for everything; the others are asked whether they hold the same."""


class SwarmAgent(msgspec.Struct, frozen=True):
    """The agent of one pod."""

    name: str
    region: str
    ready: bool
    """Its pod is Ready."""
    address: AgentAddress | None
    """None while its pod has none."""


class Holding(msgspec.Struct, frozen=True):
    """What an agent holds at and below a key."""

    leaves: Leaves
    etag: str
    """Empty where there is nothing."""


NOTHING: Final = Holding({}, "")


class Survey(msgspec.Struct, frozen=True):
    """What agents hold below one key, by agent; those that did not answer are in ``silent``, with why."""

    key: str
    holdings: Mapping[str, Holding]
    silent: Mapping[str, str]

    def judge(self, accept: Callable[[Leaves], bool]) -> dict[str, bool]:
        """Which agents hold what is accepted. Agents that hold the same are judged once."""
        known: dict[int, bool] = {}
        judged = {}
        for name, holding in self.holdings.items():
            identity = id(holding)
            if identity not in known:
                known[identity] = accept(holding.leaves)
            judged[name] = known[identity]
        return judged

    def spread(self, total: int, accept: Callable[[Leaves], bool]) -> Spread:
        """How many of ``total`` agents hold what is accepted."""
        judged = self.judge(accept)
        lacking = tuple(sorted(name for name, good in judged.items() if not good))
        return Spread(total, sum(judged.values()), lacking, tuple(sorted(self.silent)))

    def best(
        self, agents: Sequence[SwarmAgent], score: Callable[[Leaves], int]
    ) -> SwarmAgent | None:
        """The agent that answered and scores least; of equals the first that is Ready. None if nobody answered."""
        scores: dict[int, int] = {}
        chosen: tuple[tuple[int, bool], SwarmAgent] | None = None
        for agent in agents:
            holding = self.holdings.get(agent.name)
            if holding is None:
                continue
            identity = id(holding)
            if identity not in scores:
                scores[identity] = score(holding.leaves)
            rank = (scores[identity], not agent.ready)
            if chosen is None or rank < chosen[0]:
                chosen = (rank, agent)
        return chosen[1] if chosen is not None else None


async def take(api: AgentsApi, agents: Sequence[SwarmAgent], key: str) -> Survey:
    """Ask all of these agents."""
    silent = {agent.name: "its pod has no address" for agent in agents if agent.address is None}
    ordered = sorted(agents, key=lambda agent: not agent.ready)
    addresses = [agent.address for agent in ordered if agent.address is not None]
    holdings: dict[str, Holding] = {}
    by_etag: dict[str, Holding] = {}

    def note(answers: Mapping[str, Value | bool | AgentError | None], same: Holding) -> None:
        for name, answer in answers.items():
            if isinstance(answer, AgentError):
                silent[name] = answer.detail
            elif isinstance(answer, bool):
                holdings[name] = same
            elif answer is None:
                holdings[name] = by_etag.setdefault("", NOTHING)
            else:
                held = by_etag.get(answer.etag)
                if held is None:
                    held = by_etag[answer.etag] = Holding(leaves_of(answer.value), answer.etag)
                holdings[name] = held

    async def whole(address: AgentAddress) -> Value | None:
        return await api.read(address, key)

    note(await ask_all(addresses[:SAMPLE], whole), NOTHING)
    # Most often they hold the same; otherwise whoever holds something else says so, at the cost of a body.
    reference = next(
        (
            holdings[address.name]
            for address in addresses[:SAMPLE]
            if holdings.get(address.name, NOTHING).etag
        ),
        NOTHING,
    )
    etag = reference.etag or None

    async def unless(address: AgentAddress) -> Value | bool | None:
        return await api.read_unless(address, key, etag)

    note(await ask_all(addresses[SAMPLE:], unless), reference)
    return Survey(key, holdings, silent)

"""Writing at real agents, and asking all of them who holds what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gossipswarm_agent.core.events import Mutation
from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.swarmconfig import delivery, keys, planning, survey, writing
from gossipswarm_operator.swarmconfig.digests import Digests
from gossipswarm_operator.swarmconfig.survey import SwarmAgent
from served import Served, served

DIGESTS = Digests(b"token")


@pytest.fixture
async def api() -> AsyncIterator[AgentsApi]:
    async with AgentsApi(seconds=2.0) as made:
        yield made


@pytest.fixture
async def swarm() -> AsyncIterator[list[Served]]:
    async with served("east", "east", "east", "east", "west") as found:
        yield found


def members(swarm: list[Served]) -> list[SwarmAgent]:
    return [
        SwarmAgent(
            one.agent.config.name,
            one.agent.config.region,
            ready=True,
            address=AgentAddress(one.agent.config.name, one.agent.config.region, one.url),
        )
        for one in swarm
    ]


def plan(wanted: dict[str, Any], live: Any, known: dict[str, Any] | None = None) -> planning.Delta:
    ledger = {key: (DIGESTS.leaf(value),) for key, value in keys.leaves_of(known or {}).items()}
    return planning.plan(
        keys.leaves_of(wanted),
        live,
        ledger,
        DIGESTS,
        override=True,
        prune=True,
        delivered=False,
    )


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ({}, {"a": 1, "b": {"c": None, "d": {}, "e.f": [1, {"x": None}]}}),
        ({"a": 1, "b": 2}, {"a": {"x": 1}, "c": 2.5}),
        ({"a": {"x": 1, "y": {"z": 1}}}, {"a": 5}),
        ({"a": {"x": 1}}, {"a": {}}),
        ({"a": {}}, {"a": {"x": None}}),
        ({"a": None, "b": [1]}, {}),
    ],
)
async def test_a_plan_carried_out_by_an_agent_ends_with_what_is_wanted_everywhere(
    api: AgentsApi, swarm: list[Served], before: dict[str, Any], wanted: dict[str, Any]
) -> None:
    agents = members(swarm)
    if before:
        await delivery.deliver(api, agents, writing.base_lines("app", plan(before, {})))
    held = await survey.take(api, agents, "app")
    assert all(holding.leaves == keys.leaves_of(before) for holding in held.holdings.values())
    delta = plan(wanted, held.holdings["agent-0"].leaves, before)
    await delivery.deliver(api, agents, writing.base_lines("app", delta))
    after = await survey.take(api, agents, "app")
    for holding in after.holdings.values():
        assert keys.tree_of(holding.leaves) == wanted
    assert after.spread(5, lambda leaves: delta.is_done(leaves, keys.leaves_of(wanted))).is_complete


async def test_a_version_is_one_write_for_its_readers(api: AgentsApi, swarm: list[Served]) -> None:
    delta = plan({f"k{n}": n for n in range(500)}, {})
    await delivery.deliver(api, members(swarm), writing.base_lines("app", delta))
    assert swarm[0].agent.node.state.sequence == 1


async def test_a_survey_tells_agents_that_hold_something_else(
    api: AgentsApi, swarm: list[Served]
) -> None:
    agents = members(swarm)
    await delivery.deliver(api, agents, writing.base_lines("app", plan({"a": 1}, {})))
    agents.append(SwarmAgent("agent-5", "west", ready=False, address=None))
    gone = AgentAddress("agent-6", "west", "http://127.0.0.1:1")
    agents.append(SwarmAgent("agent-6", "west", ready=False, address=gone))
    held = await survey.take(api, agents, "app")
    assert set(held.silent) == {"agent-5", "agent-6"}
    spread = held.spread(len(agents), lambda leaves: leaves == {"a": 1})
    assert (spread.holding, spread.total, spread.silent) == (5, 7, ("agent-5", "agent-6"))
    assert not spread.is_complete
    best = held.best(agents, len)
    assert best is not None and best.name == "agent-0"


async def test_an_agent_that_takes_no_writes_is_passed_over(
    api: AgentsApi, swarm: list[Served]
) -> None:
    agents = members(swarm)
    swarm[0].agent.degrade(True)
    lines = writing.base_lines("app", plan({"a": 1}, {}))
    assert (await delivery.deliver(api, agents, lines)).name == "agent-1"
    for one in swarm:
        one.agent.degrade(True)
    with pytest.raises(delivery.Refused) as refused:
        await delivery.deliver(api, agents, lines)
    assert refused.value.reason == "SwarmReadOnly"
    with pytest.raises(delivery.Refused) as refused:
        await delivery.deliver(api, [], lines)
    assert refused.value.reason == "AgentsUnreachable"


async def test_a_write_that_was_overtaken_is_planned_again(
    api: AgentsApi, swarm: list[Served]
) -> None:
    agents = members(swarm)
    held = await survey.take(api, agents, "app")
    lines = writing.base_lines("app", plan({"a": 1}, {}), held.holdings["agent-0"].etag)
    await swarm[0].agent.write([Mutation("put", "app.a", "faster")])
    with pytest.raises(delivery.Changed):
        await delivery.deliver(api, agents, lines)

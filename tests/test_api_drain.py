"""An agent that is drained takes no writes, and answers once others hold everything."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gossipswarm_agent.api import types
from gossipswarm_agent.runtime import departure
from gossipswarm_agent.runtime.drops import DropList
from served import Answer, Served, one_agent, served, until

HOME = ("us-east", "us-east", "us-east")
PATIENT = {"probe_interval": 60_000, "suspicion_timeout": 600_000}


async def drain(agent: Served, **order: Any) -> types.Drained:
    answer = await agent.ask("POST", "/v1/admin/drain", order)
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=types.Drained)


async def takes_writes(agent: Served) -> bool:
    answer = await agent.ask("PUT", "/v1/state/probe", 1)
    if answer.status == 200:
        return True
    assert (answer.status, answer.reason) == (503, "leaving")
    assert answer.headers["Retry-After"] == "1"
    return False


async def readiness(agent: Served) -> Answer:
    return await agent.ask("GET", "/readyz")


async def test_a_drained_agent_takes_no_writes_and_is_not_ready_until_the_hold_is_over(tmp_path):
    async with served(*HOME, data_dir=tmp_path) as agents:
        await agents[0].ask("PUT", "/v1/state/app", {"a": 1})
        drained = await drain(agents[0], hold="1h")
        assert drained.holders == ["agent-1", "agent-2"]
        assert drained.until is not None
        assert all(
            each.agent.read("app").value == {"a": 1} for each in agents if each.agent.read("app")
        )
        assert not await takes_writes(agents[0])
        refused = await readiness(agents[0])
        assert refused.status == 503
        assert "about to leave" in refused.document["detail"]
        assert (await agents[0].ask("GET", "/v1/state/app")).status == 200
        assert await takes_writes(agents[1])

        shorter = await drain(agents[0], hold="200ms")
        assert shorter.holders == ["agent-1", "agent-2"]
        assert shorter.until is not None
        assert shorter.until < drained.until
        await until(lambda: takes_writes(agents[0]))
        assert (await readiness(agents[0])).status == 200


async def test_a_drain_can_be_ended_at_once():
    async with served(*HOME) as agents:
        await drain(agents[0], hold="1h")
        drained = await drain(agents[0], hold="0")
        assert (drained.holders, drained.until) == ([], None)
        assert await takes_writes(agents[0])


async def test_everything_written_before_the_drain_is_with_the_holders(tmp_path):
    async with served(*HOME, data_dir=tmp_path) as agents:
        going, *others = agents
        writes = [going.ask("PUT", f"/v1/state/k{number}", number) for number in range(50)]
        answers, drained = await asyncio.gather(
            asyncio.gather(*writes), drain(going, copies=2, hold="1m")
        )
        acknowledged = [n for n, answer in enumerate(answers) if answer.status == 200]
        assert {answer.status for answer in answers} <= {200, 503}
        for other in others:
            assert other.agent.config.name in drained.holders
            assert [other.agent.read(f"k{n}").value for n in acknowledged] == acknowledged


async def test_agents_that_go_as_well_do_not_count():
    async with served(*HOME) as agents:
        assert (await drain(agents[0], leaving=["agent-1"])).holders == ["agent-2"]
        answer = await agents[0].ask(
            "POST", "/v1/admin/drain", {"leaving": ["agent-1", "agent-2"], "hold": "1m"}
        )
        assert (answer.status, answer.reason) == (504, "not-drained")
        assert answer.document["holders"] == []
        assert "no other agent in reach" in answer.document["detail"]


async def test_peers_that_do_not_confirm_in_time_are_said():
    # Who does not confirm must not be held for dead meanwhile: of the dead none is waited for.
    async with served("us-east", "us-west", "us-west", settings=PATIENT) as agents:
        nobody = DropList(
            frozenset({"us-east", "us-west"}), frozenset({"us-east", "us-west"}), None
        )
        agents[2].agent.set_drops(nobody)
        order = {"timeout": "3s", "copies": 2, "hold": "1m"}
        answer = await agents[0].ask("POST", "/v1/admin/drain", order)
        assert (answer.status, answer.reason) == (504, "not-drained")
        assert answer.document["holders"] == ["agent-1"]
        assert not await takes_writes(agents[0]), "whoever asked will ask again"


async def test_a_write_repeated_by_its_id_is_still_answered():
    async with served(*HOME) as agents:
        sent = {"headers": {"X-Request-Id": "one"}}
        first = await agents[0].ask("PUT", "/v1/state/a", 1, **sent)
        await drain(agents[0], hold="1h")
        again = await agents[0].ask("PUT", "/v1/state/a", 1, **sent)
        assert (again.status, again.document["dot"]) == (200, first.document["dot"])


async def test_a_lone_agent_has_nobody_to_hand_to_and_leaves_at_once(monkeypatch):
    monkeypatch.setattr(departure, "LEAVE_SECONDS", 3600.0)
    async with one_agent() as agent:
        answer = await agent.ask("POST", "/v1/admin/drain", {"hold": "1m"})
        assert (answer.status, answer.reason) == (504, "not-drained")
        async with asyncio.timeout(60):
            await agent.agent.departure.leave()
        assert not await takes_writes(agent)
        await drain(agent, hold="0")
        assert not await takes_writes(agent), "nothing brings back who ends"


async def test_leaving_waits_no_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(departure, "LEAVE_SECONDS", 0.3)
    async with served("us-east", "us-west") as agents:
        agents[1].agent.set_drops(DropList(frozenset({"us-east"}), frozenset({"us-east"}), None))
        async with asyncio.timeout(9):  # less than what it waits by default
            await agents[0].agent.departure.leave()
        assert not await takes_writes(agents[0])


@pytest.mark.parametrize(
    ("order", "field"),
    [({"copies": 0}, "copies"), ({"timeout": "soon"}, "timeout"), ({"leaving": "a"}, "leaving")],
)
async def test_orders_of_no_use_are_refused(order, field):
    async with one_agent() as agent:
        answer = await agent.ask("POST", "/v1/admin/drain", order)
        assert (answer.status, answer.document["field"]) == (422, field)
        assert await takes_writes(agent)

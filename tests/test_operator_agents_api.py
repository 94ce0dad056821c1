"""The operator's client of the agents' API, against real agents."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator

import pytest

from gossipswarm_agent.runtime.config import Tokens
from gossipswarm_operator.agent_documents import (
    AgentAddress,
    AgentRefused,
    AgentUnreachable,
    Line,
)
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from served import Served, served, until

TOKENS = Tokens(read="reads", write="writes")


def address_of(one: Served, token: str | None = "writes") -> AgentAddress:
    config = one.agent.config
    return AgentAddress(config.name, config.region, one.url, token)


@pytest.fixture
async def api() -> AsyncIterator[AgentsApi]:
    async with AgentsApi() as made:
        yield made


@pytest.fixture
async def agents() -> AsyncIterator[list[AgentAddress]]:
    async with served("us-east", "us-east", "us-west", tokens=TOKENS) as found:
        yield [address_of(one) for one in found]


async def test_says_what_an_agent_knows_of_itself_and_its_swarm(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    first = agents[0]
    info = await api.info(first)
    assert (info.name, info.region, info.ready, info.members_alive) == (
        "agent-0",
        "us-east",
        True,
        3,
    )
    assert info.journal.trouble is None
    assert [member.name for member in await api.members(first)] == ["agent-0", "agent-1", "agent-2"]
    assert [(r.name, r.agents) for r in await api.regions(first)] == [
        ("us-east", 2),
        ("us-west", 1),
    ]
    assert (await api.partition(first)).status == "healthy"


async def test_changes_parameters_whole_or_not_at_all(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    changed = await api.change_config(agents[0], {"fanout": 5, "interval": 200})
    assert changed.settings["fanout"] == 5

    async def applied() -> bool:
        return (await api.config(agents[2])).settings["fanout"] == 5

    await until(applied)
    with pytest.raises(AgentRefused, match="fanout") as refused:
        await api.change_config(agents[0], {"fanout": 99, "interval": 300})
    assert (refused.value.status, refused.value.reason) == (422, "invalid-setting")
    assert (await api.config(agents[0])).settings["interval"] == 200


async def test_reads_and_writes_state_and_follows_a_write_to_every_agent(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    first = agents[0]
    assert await api.read(first, "app") is None
    written = await api.put(first, r"app.a\.b/c d", {"x": [1, None], "y": {}})
    assert written.changed == 2
    found = await api.read(first, "app")
    assert found is not None
    assert found.value == {"a.b/c d": {"x": [1, None], "y": {}}}

    async def everywhere() -> bool:
        receipts = await api.receipts(first, written.dot)
        assert receipts is not None
        return receipts.received == receipts.agents == 3

    await until(everywhere)
    outcomes = await ask_all(agents, lambda agent: api.read_unless(agent, "app", found.etag))
    assert outcomes == dict.fromkeys(("agent-0", "agent-1", "agent-2"), True)
    assert (await api.delete(first, "app")).changed == 2
    assert await api.read_unless(first, "app", found.etag) is None


async def test_a_refused_line_of_a_batch_does_not_stop_the_others(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    acks = await api.batch(
        agents[0],
        [
            Line("app", "merge", {"a": 1, "b": {"c": 2}}, trace=True),
            Line("$swarm.config", "put", 1),
            Line("app.b", "delete"),
            Line("app.a", "put", None, if_match="0000000000000000"),
        ],
    )
    assert [ack.error and ack.error.reason for ack in acks] == [
        None,
        "invalid-key",
        None,
        "precondition-failed",
    ]
    found = await api.read(agents[0], "app")
    assert found is not None
    assert found.value == {"a": 1}
    assert await api.batch(agents[0], []) == []


async def test_rotates_a_key_and_resets_peers(api: AgentsApi) -> None:
    old, new = os.urandom(32), os.urandom(32)
    async with served("us-east", tokens=TOKENS, keys=[old]) as [one]:
        agent = address_of(one)
        [old_id] = await api.keyring(agent)
        [first, new_id] = await api.install_key(agent, base64.b64encode(new).decode())
        assert first == old_id
        assert await api.use_key(agent, new_id) == [new_id, old_id]
        assert await api.remove_key(agent, old_id) == [new_id]
        with pytest.raises(AgentRefused) as refused:
            await api.remove_key(agent, new_id)
        assert refused.value.reason == "invalid-key-material"
        assert await api.reset_peers(agent) == 0


async def test_a_drained_agent_takes_no_writes_and_has_handed_over_what_it_had(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    leaving = agents[2]
    await api.put(leaving, "mine", "kept")

    drained = await api.drain(leaving, [leaving.name], hold=600, wait=60)
    assert drained.holders
    assert drained.until is not None
    kept = await api.read(agents[0], "mine")
    assert kept is not None and kept.value == "kept"
    with pytest.raises(AgentRefused) as refused:
        await api.put(leaving, "mine", "too late")
    assert (refused.value.status, refused.value.reason) == (503, "leaving")
    await api.drain(leaving, [leaving.name], hold=0, wait=60)
    await api.put(leaving, "mine", "again")


async def test_an_agent_that_is_not_there_or_does_not_answer_is_unreachable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi!")
        await writer.drain()
        writer.close()

    async with AgentsApi(seconds=0.3) as impatient, AgentsApi(seconds=60.0) as api:
        servers = [await asyncio.start_server(how, "127.0.0.1", 0) for how in (silent, nonsense)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        async with served("us-east") as [one]:
            gone = one.url
        agents = [
            AgentAddress("silent", "r", f"http://127.0.0.1:{ports[0]}"),
            AgentAddress("nonsense", "r", f"http://127.0.0.1:{ports[1]}"),
            AgentAddress("gone", "r", gone),
            AgentAddress("unspeakable", "r", "http://[::1"),
        ]
        outcomes = {
            **await ask_all(agents[:1], impatient.info),
            **await ask_all(agents[1:], api.info),
        }
        for server in servers:
            server.close()
    assert all(isinstance(outcome, AgentUnreachable) for outcome in outcomes.values()), outcomes
    assert "in time" in str(outcomes["silent"])
    assert "no sense" in str(outcomes["nonsense"])


async def test_a_token_that_may_not_is_a_refusal(
    api: AgentsApi, agents: list[AgentAddress]
) -> None:
    stranger = AgentAddress("agent-0", "us-east", agents[0].url, "wrong")
    with pytest.raises(AgentRefused) as refused:
        await api.info(stranger)
    assert (refused.value.status, refused.value.reason) == (401, "unauthorised")

"""An edge turns from one agent to another in time, and agents bear whatever edges do."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from edges import api_of, edge_of
from gossipswarm_agent.edge import attended, finding, frames, hub, silence, upstream, writes
from gossipswarm_agent.edge.frames import decode_from_agent
from gossipswarm_agent.runtime.config import Tokens
from served import Served, one_agent, served, until


async def test_an_edge_turns_to_another_agent_and_is_sent_only_what_it_lacks():
    async with served("us-east", "us-east") as agents:
        for number in range(20):
            await agents[0].ask("PUT", f"/v1/state/k{number}", number)

        async def everywhere() -> bool:
            return all(agents[1].agent.read(f"k{number}") is not None for number in range(20))

        await until(everywhere)
        async with edge_of(agents) as edge:
            first = edge.follows
            [lost, other] = agents if first == "agent-0" else reversed(agents)
            rows = edge.edge.replica.rows
            await lost.server.close()

            async def turned() -> bool:
                return edge.follows == other.agent.config.name

            await until(turned)
            await other.ask("PUT", "/v1/state/late", 1)
            await edge.has("late", 1)
            assert edge.edge.replica.rows == rows + 1
            assert edge.edge.upstream.failovers == 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge waits for the agent that it tries first, which may be slow to answer, instead of turning back to the former; and
    takes no pause of its own for a reason to begin the search again.
    """
    monkeypatch.setattr(finding, "STAGGER_SECONDS", 60.0)
    monkeypatch.setattr(finding, "OPEN_SECONDS", 60.0)
    monkeypatch.setattr(silence, "LATE_SECONDS", 3600.0)


def fall_silent(agent: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an agent say nothing more to its edges, as one that stands still."""

    async def nothing() -> None:
        pass

    edges = agent.agent.edges
    assert edges is not None
    for said in ("_beat", "_round"):
        monkeypatch.setattr(edges, said, nothing)


@pytest.mark.usefixtures("patient")
async def test_a_successor_is_found_during_a_silence_and_takes_over_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(frames, "SILENCE_SECONDS", 3600.0)
    monkeypatch.setattr(hub, "SILENT_SECONDS", 3600.0)  # a successor says nothing
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        [silent, other] = agents if edge.follows == "agent-0" else reversed(agents)
        fall_silent(silent, monkeypatch)

        async def found() -> bool:
            return other.agent.edges is not None and len(other.agent.edges) == 1

        await until(found)
        assert edge.follows == silent.agent.config.name
        [waiting] = other.agent.edges
        monkeypatch.setattr(frames, "SILENCE_SECONDS", 2.0)

        async def turned() -> bool:
            return edge.follows == other.agent.config.name

        await until(turned)
        assert list(other.agent.edges) == [waiting], "it was there before and is still"
        await other.ask("PUT", "/v1/state/k", 1)
        await edge.has("k", 1)


@pytest.mark.usefixtures("patient")
async def test_a_successor_is_let_go_when_its_agent_speaks_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames, "SILENCE_SECONDS", 3600.0)
    monkeypatch.setattr(silence, "DOUBT_SECONDS", (1.0, 1.0))
    monkeypatch.setattr(hub, "SILENT_SECONDS", 3600.0)  # who is let go says so
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        [slow, other] = agents if edge.follows == "agent-0" else reversed(agents)
        with monkeypatch.context() as silenced:
            fall_silent(slow, silenced)

            async def found() -> bool:
                return other.agent.edges is not None and len(other.agent.edges) == 1

            await until(found)

        async def alone() -> bool:
            return len(other.agent.edges) == 0

        await until(alone)
        assert edge.follows == slow.agent.config.name
        assert edge.edge.upstream.failovers == 0


async def test_an_agent_that_leaves_is_followed_until_another_one_is_found():
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        leaving = next(each for each in agents if each.agent.config.name == edge.follows)
        seen: list[str | None] = []
        draining = asyncio.ensure_future(
            leaving.ask("POST", "/v1/admin/drain", {"timeout": "60s", "hold": "60s"})
        )

        async def turned() -> bool:
            seen.append(edge.follows)
            return edge.follows != leaving.agent.config.name

        await until(turned)
        assert None not in seen, "there was an agent all the time"
        assert (await draining).status == 200
        assert (await edge.ask("PUT", "/v1/state/k", 1)).status == 200


async def test_a_write_that_meets_a_leaving_agent_is_done_by_another(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(writes, "FAILOVER_SECONDS", 60.0)
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        leaving = next(each for each in agents if each.agent.config.name == edge.follows)
        leaving.agent._writes.closed = True
        written = await edge.ask("PUT", "/v1/state/k", 1)
        assert written.status == 200
        assert written.document["agent"] != leaving.agent.config.name


@pytest.mark.usefixtures("patient")
async def test_an_edge_prefers_agents_of_its_region(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upstream, "AWAY_SECONDS", 0.1)
    async with served("us-east", "us-west") as [home, away]:
        seeds = [api_of(home), api_of(away)]
        regional = [
            type(seed)(seed.host, seed.port, region)
            for seed, region in zip(seeds, ("us-east", "us-west"), strict=True)
        ]
        async with edge_of([home, away], upstream=regional) as edge:
            assert edge.follows == "agent-0"
            home.agent._writes.closed = True  # it says that it is leaving

            async def is_away() -> bool:
                return edge.follows == "agent-1"

            await until(is_away)
            home.agent._writes.closed = False

            async def is_home() -> bool:
                return edge.follows == "agent-0"

            await until(is_home)


async def test_an_edge_goes_to_another_agent_now_and_then_so_that_all_have_their_share(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(upstream, "STAY_SECONDS", 0.05)
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        seen = set()

        async def both() -> bool:
            seen.add(edge.follows)
            return seen == {"agent-0", "agent-1"}

        await until(both)
    async with one_agent() as agent, edge_of([agent]) as edge:
        await asyncio.sleep(0.3)  # three times as long as it stays where there is another one
        assert edge.edge.upstream.failovers == 0


# --- what an agent bears --------------------------------------------------------------------------


async def follow(agent: Served, **more: str) -> aiohttp.ClientWebSocketResponse:
    return await agent.session.ws_connect(
        f"{agent.url}/v1/replica", params={"swarm": "tests", "version": "1"}, headers=more
    )


def hello(**others: object) -> bytes:
    given = {"name": "raw", "region": "us-east", "prefixes": None, "seen": {}, **others}
    return frames.encode(frames.Hello(**given))


async def test_an_edge_that_reads_nothing_is_given_up_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attended, "STALLED_SECONDS", 3.0)  # the other edge may be slow, too
    async with one_agent() as agent, edge_of([agent]) as edge:
        host, _, port = agent.server.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.transport.get_extra_info("socket").setsockopt(1, 8, 4096)  # SO_RCVBUF
        writer.write(
            b"GET /v1/replica?swarm=tests HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        said = hello()
        writer.write(bytes([0x82, 0x80 | len(said), 0, 0, 0, 0]) + said)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()

        async def two() -> bool:
            return agent.agent.edges is not None and len(agent.agent.edges) == 2

        await until(two)
        number = 0

        async def dropped() -> bool:
            nonlocal number
            number += 1
            answer = await agent.ask("PUT", f"/v1/state/big{number % 40}", "x" * 200_000)
            assert answer.status == 200
            return agent.agent.edges.dropped == 1

        await until(dropped, 120)
        await edge.has(f"big{number % 40}", "x" * 200_000)
        assert [each.name for each in agent.agent.edges] == ["edge"]
        writer.close()


async def test_an_agent_refuses_edges_that_it_cannot_serve_and_says_why():
    tokens = Tokens(read="reader", write="writer")
    async with one_agent(tokens=tokens) as agent:
        path = "/v1/replica?swarm=tests&version=1"
        reader = {"Authorization": "Bearer reader"}
        assert (await agent.ask("GET", path)).status == 401
        assert (await agent.ask("GET", path, headers=reader)).reason == "no-websocket"
        other = await agent.ask("GET", "/v1/replica?swarm=x", headers=reader)
        assert (other.status, other.reason) == (409, "another-swarm")
        newer = await agent.ask("GET", "/v1/replica?swarm=tests&version=9", headers=reader)
        assert newer.reason == "another-version"
        agent.agent._writes.closed = True
        leaving = await agent.ask("GET", path, headers=reader)
        assert (leaving.status, leaving.reason) == (503, "no-edges")


@pytest.mark.parametrize(
    "said", [b"", b"\xc1", b"\x90", frames.encode(frames.Taken(1)), hello(name="x" * 300)]
)
async def test_what_is_no_hello_ends_the_connection_and_harms_nobody(said: bytes):
    async with one_agent() as agent, edge_of([agent]) as edge:
        socket = await follow(agent)
        await socket.send_bytes(said)
        async with asyncio.timeout(60):
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        await agent.ask("PUT", "/v1/state/k", 1)
        await edge.has("k", 1)


async def test_an_edge_that_says_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "SILENT_SECONDS", 0.5)
    async with one_agent() as agent:
        socket = await follow(agent)
        await socket.send_bytes(hello())
        message = await socket.receive()
        assert isinstance(decode_from_agent(message.data), frames.Welcome)

        async def forgotten() -> bool:
            return len(agent.agent.edges) == 0 and agent.agent.edges.dropped == 1

        await until(forgotten)


async def test_a_full_agent_sends_edges_elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "EDGES_LIMIT", 1)
    async with (
        served("us-east", "us-east") as agents,
        edge_of(agents) as one,
        edge_of(agents, name="two") as two,
    ):
        assert {one.follows, two.follows} == {"agent-0", "agent-1"}

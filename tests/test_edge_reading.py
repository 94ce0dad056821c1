"""An edge serves reads and watches like its agent, goes on without any, and turns to another one in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from edges import api_of, edge_of
from gossipswarm_agent.edge import attended, frames, hub, silence, upstream
from gossipswarm_agent.edge.frames import decode_from_agent
from gossipswarm_agent.runtime.config import Tokens
from served import Served, one_agent, served, until


async def test_an_edge_shows_what_its_agent_shows():
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/app.config", {"ttl": 60, "flags": {"x": True}})
        async with edge_of([agent]) as edge:
            for path in ("/v1/state/app.config", "/v1/state/app.config.ttl", "/v1/state/?keys"):
                told, expected = await edge.ask("GET", path), await agent.ask("GET", path)
                assert told.document | {"agent": "agent-0"} == expected.document | {
                    "agent": "agent-0"
                }
                assert told.headers.get("ETag") == expected.headers.get("ETag")
            missing = await edge.ask("GET", "/v1/state/app.confg")
            assert missing.reason == "not-found"
            assert missing.document["suggestions"] == ["app.config"]


async def test_a_write_at_an_agent_arrives_at_its_edges():
    async with one_agent() as agent, edge_of([agent]) as one, edge_of([agent], name="two") as two:
        await agent.ask("PUT", "/v1/state/k", 1)
        await one.has("k", 1)
        await two.has("k", 1)
        await agent.ask("DELETE", "/v1/state/k")
        await one.has("k", None)
        await two.has("k", None)


async def test_a_watch_at_an_edge_is_resumable():
    async with one_agent() as agent, edge_of([agent]) as edge:
        watcher = edge.edge.watch("app", None)
        await agent.ask("PUT", "/v1/state/app.x", 1)
        change = await asyncio.wait_for(anext(watcher), 5)
        await watcher.aclose()
        assert (change.key, change.value) == ("app.x", 1)
        await agent.ask("PUT", "/v1/state/app.y", 2)
        await edge.has("app.y", 2)
        path = f"{edge.url}/v1/state/app?watch&since={change.id}"
        async with edge.session.get(path) as response:
            async with asyncio.timeout(5):
                lines = []
                while not any(line.startswith(b"data:") for line in lines):
                    lines.append(await response.content.readline())
        assert b'"key":"app.y"' in lines[-1]
        assert b"event: reset\n" not in lines


async def test_an_edge_says_who_it_is_and_where_its_state_is_from():
    async with one_agent() as agent, edge_of([agent], labels={"app": "shop"}) as edge:
        info = (await edge.ask("GET", "/v1/agent")).document
        assert (info["role"], info["name"], info["ready"]) == ("edge", "edge", True)
        upstream = info["upstream"]
        assert (upstream["agent"], upstream["api"]) == ("agent-0", agent.url)
        assert upstream["connected"] is True
        assert upstream["age_ms"] < 1000

        async def acknowledged() -> bool:
            [known] = (await agent.ask("GET", "/v1/edges")).document["edges"]
            assert (known["name"], known["labels"]) == ("edge", {"app": "shop"})
            return known["level"] and known["lag_ms"] == 0.0

        await agent.ask("PUT", "/v1/state/k", 1)
        await until(acknowledged)
        metrics = (await agent.ask("GET", "/metrics")).body
        assert b"gossipswarm_edges 1.0" in metrics
        assert b"gossipswarm_edge_connected 1.0" in (await edge.ask("GET", "/metrics")).body


async def test_an_edge_takes_over_how_its_agent_reads():
    async with one_agent() as agent, edge_of([agent]) as edge:
        await agent.ask("PATCH", "/v1/config", {"conflict_resolution": "max"})
        await agent.ask("POST", "/v1/admin/degraded-mode", {"enabled": True, "scope": "agent"})

        async def told() -> bool:
            return edge.edge.replica.settings.conflict_resolution == "max" and edge.edge.degraded

        await until(told)
        assert (await edge.ask("GET", "/v1/config")).document["settings"][
            "conflict_resolution"
        ] == "max"


async def test_without_any_agent_reads_go_on_and_writes_are_told_to_come_again():
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/k", 1)
        async with edge_of([agent]) as edge:
            await agent.server.close()
            reading = await edge.ask("GET", "/v1/state/k")

            async def alone() -> bool:
                return edge.follows is None

            await until(alone)
            assert reading.document["value"] == 1
            assert (await edge.ask("GET", "/v1/state/k")).document["degraded"] is True
            assert (await edge.ask("GET", "/readyz")).status == 200
            refused = await edge.ask("PUT", "/v1/state/k", 2)
            assert (refused.status, refused.reason) == (503, "no-agent")
            assert int(refused.headers["Retry-After"]) >= 1
            upstream = (await edge.ask("GET", "/v1/agent")).document["upstream"]
            assert upstream["connected"] is False
            assert upstream["trouble"]


async def test_an_edge_that_has_never_met_an_agent_is_not_ready():
    async with one_agent() as agent, edge_of([agent], level=False, swarm="another") as edge:

        async def refused() -> bool:
            answer = await edge.ask("GET", "/readyz")
            assert answer.status == 503
            return "409" in answer.document["detail"]

        await until(refused)


async def test_an_edge_that_starts_without_agents_serves_what_was_saved(tmp_path: Path):
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/k", {"x": 1})
        async with edge_of([agent], data_dir=tmp_path):
            pass
        await agent.server.close()
        async with edge_of([agent], data_dir=tmp_path, level=False) as edge:
            assert (await edge.ask("GET", "/v1/state/k")).document["value"] == {"x": 1}
            assert (await edge.ask("GET", "/readyz")).status == 200
            upstream = (await edge.ask("GET", "/v1/agent")).document["upstream"]
            assert upstream["age_ms"] > 0
        for options in ({"swarm": "another"}, {"prefixes": ["k"]}):
            async with edge_of([agent], data_dir=tmp_path, level=False, **options) as edge:
                assert (await edge.ask("GET", "/readyz")).status == 503
        file = tmp_path / "replica"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        async with edge_of([agent], data_dir=tmp_path, level=False) as edge:
            assert (await edge.ask("GET", "/readyz")).status == 503


async def test_a_restarted_edge_is_sent_only_what_it_lacks(tmp_path: Path):
    async with one_agent() as agent:
        for number in range(20):
            await agent.ask("PUT", f"/v1/state/k{number}", number)
        async with edge_of([agent], data_dir=tmp_path):
            pass
        await agent.ask("PUT", "/v1/state/late", 1)
        async with edge_of([agent], data_dir=tmp_path) as edge:
            await edge.has("late", 1)
            assert edge.edge.replica.rows == 1
            assert edge.edge.replica.wholes == 0


async def test_an_edge_turns_to_another_agent_and_is_sent_only_what_it_lacks():
    async with served("us-east", "us-east") as agents:
        for number in range(20):
            await agents[0].ask("PUT", f"/v1/state/k{number}", number)

        async def everywhere() -> bool:
            return agents[1].agent.read("k19") is not None

        await until(everywhere)
        async with edge_of(agents) as edge:
            first = edge.follows
            [lost, other] = agents if first == "agent-0" else reversed(agents)
            rows = edge.edge.replica.rows
            await lost.server.close()

            async def turned() -> bool:
                return edge.follows == other.agent.config.name

            begun = monotonic()
            await until(turned)
            assert monotonic() - begun < 3
            await other.ask("PUT", "/v1/state/late", 1)
            await edge.has("late", 1)
            assert edge.edge.replica.rows == rows + 1
            assert edge.edge.upstream.failovers == 1


def fall_silent(agent: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an agent say nothing more to its edges, as one that stands still."""

    async def nothing() -> None:
        pass

    edges = agent.agent.edges
    assert edges is not None
    for said in ("_beat", "_round"):
        monkeypatch.setattr(edges, said, nothing)


async def test_a_successor_is_found_during_a_silence_and_takes_over_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(frames, "SILENCE_SECONDS", 2.0)
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        [silent, other] = agents if edge.follows == "agent-0" else reversed(agents)
        fall_silent(silent, monkeypatch)

        async def found() -> bool:
            return other.agent.edges is not None and len(other.agent.edges) == 1

        await until(found)
        assert edge.follows == silent.agent.config.name
        [waiting] = other.agent.edges

        async def turned() -> bool:
            return edge.follows == other.agent.config.name

        await until(turned)
        assert list(other.agent.edges) == [waiting], "it was there before and is still"
        await other.ask("PUT", "/v1/state/k", 1)
        await edge.has("k", 1)


async def test_a_successor_is_let_go_when_its_agent_speaks_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames, "SILENCE_SECONDS", 20.0)
    monkeypatch.setattr(silence, "DOUBT_SECONDS", (1.0, 1.0))
    monkeypatch.setattr(hub, "SILENT_SECONDS", 60.0)  # who is let go says so
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
            leaving.ask("POST", "/v1/admin/drain", {"timeout": "5s", "hold": "30s"})
        )

        async def turned() -> bool:
            seen.append(edge.follows)
            return edge.follows != leaving.agent.config.name

        await until(turned)
        assert None not in seen, "there was an agent all the time"
        assert (await draining).status == 200
        assert (await edge.ask("PUT", "/v1/state/k", 1)).status == 200


async def test_a_write_that_meets_a_leaving_agent_is_done_by_another():
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        leaving = next(each for each in agents if each.agent.config.name == edge.follows)
        leaving.agent._writes.closed = True
        written = await edge.ask("PUT", "/v1/state/k", 1)
        assert written.status == 200
        assert written.document["agent"] != leaving.agent.config.name


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


async def test_an_edge_of_some_prefixes_answers_for_no_other():
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/app.config.x", 1)
        await agent.ask("PUT", "/v1/state/other", 1)
        async with edge_of([agent], prefixes=["app.config"]) as edge:
            assert (await edge.ask("GET", "/v1/state/app.config")).document["value"] == {"x": 1}
            for key in ("other", "app", "app.configuration"):
                assert (await edge.ask("GET", f"/v1/state/{key}")).reason == "not-held"
            await agent.ask("PUT", "/v1/state/canary.us-east.app.config.x", 2)
            await edge.has("canary.us-east.app.config.x", 2)
            assert edge.edge.list_keys("", 10) == ["app.config.x", "canary.us-east.app.config.x"]


async def test_tombstones_go_at_an_edge_when_they_go_at_its_agent():
    async with one_agent() as agent, edge_of([agent]) as edge:
        await agent.ask("PUT", "/v1/state/k", 1)
        await agent.ask("DELETE", "/v1/state/k")
        await edge.has("k", None)

        async def collected() -> bool:
            return (
                agent.agent.node.state.tombstone_count == 0
                and edge.edge.replica.state.tombstone_count == 0
            )

        await until(collected, 20)


async def test_what_an_edge_lost_by_a_bug_is_noticed_and_fetched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "HASH_BEATS", 1)
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/k", 1)
        async with edge_of([agent]) as edge:
            state = edge.edge.replica.state
            state._store.remove("k", [row.dot for row in state._store.rows("k")])
            assert edge.edge.read("k") is None
            await edge.has("k", 1)
            assert edge.edge.replica.wholes == 2


async def test_a_frame_that_meets_a_bug_does_not_end_an_edge(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upstream, "UNSOUND_SECONDS", 0.05)
    async with one_agent() as agent, edge_of([agent]) as edge:
        replica = edge.edge.replica
        sound = replica.take
        met = 0

        def fails_once(frame: frames.Rows) -> object:
            nonlocal met
            if frame.batches and not met:
                met += 1
                raise RuntimeError("for a test")
            return sound(frame)

        monkeypatch.setattr(replica, "take", fails_once)
        await agent.ask("PUT", "/v1/state/k", 1)
        await edge.has("k", 1)
        assert met == 1
        assert replica.wholes == 2


async def test_a_change_whose_telling_meets_a_bug_does_not_end_an_edge(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(upstream, "UNSOUND_SECONDS", 0.05)
    async with one_agent() as agent, edge_of([agent]) as edge:
        with monkeypatch.context() as broken:

            def fails(keys: object) -> None:
                raise RuntimeError("for a test")

            broken.setattr(edge.edge.watchers, "publish", fails)
            await agent.ask("PUT", "/v1/state/k", 1)
            await edge.has("k", 1)
        await agent.ask("PUT", "/v1/state/k", 2)
        await edge.has("k", 2)


async def test_a_bug_in_watching_an_agent_does_not_leave_an_edge_without_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(upstream, "UNSOUND_SECONDS", 0.05)
    sound = upstream.silence
    met = 0

    async def fails_once(*given: object) -> str:
        nonlocal met
        met += 1
        if met == 1:
            raise RuntimeError("for a test")
        return await sound(*given)

    monkeypatch.setattr(upstream, "silence", fails_once)
    async with one_agent() as agent, edge_of([agent], level=False) as edge:

        async def again() -> bool:
            return met == 2

        await until(again)
        await agent.ask("PUT", "/v1/state/k", 1)
        await edge.has("k", 1)


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
    monkeypatch.setattr(attended, "STALLED_SECONDS", 0.5)
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

        await until(dropped, 30)
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
        async with asyncio.timeout(10):
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

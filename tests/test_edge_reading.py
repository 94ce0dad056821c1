"""An edge serves reads and watches like its agent, goes on without any, and gets over bugs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edges import edge_of
from gossipswarm_agent.edge import frames, hub, upstream
from served import one_agent, until


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
        change = await asyncio.wait_for(anext(watcher), 60)
        await watcher.aclose()
        assert (change.key, change.value) == ("app.x", 1)
        await agent.ask("PUT", "/v1/state/app.y", 2)
        await edge.has("app.y", 2)
        path = f"{edge.url}/v1/state/app?watch&since={change.id}"
        async with edge.session.get(path) as response:
            async with asyncio.timeout(60):
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
        assert 0 <= upstream["age_ms"] < 60_000

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

        await until(collected, 120)


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

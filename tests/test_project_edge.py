"""An edge keeps files as an agent does, and its agent knows which version of them is on disk and applied."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import served
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.edge import edge as edges
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.config import EdgeConfig
from gossipswarm_agent.edge.edge import Edge
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.runtime.config import Seed
from loopback import until
from served import Served, one_agent
from test_project_reloading import application


@asynccontextmanager
async def edge(agent: Served | None, file: Path, **more: Any) -> AsyncIterator[Edge]:
    """An edge of this agent that keeps ``app`` in a file; None = no agent is there."""
    host, _, port = (
        ("127.0.0.1", "", "9") if agent is None else agent.server.addresses[0].rpartition(":")
    )
    reload = more.pop("reload", None)
    entry = {"prefix": "app", "path": str(file), **({"reload": reload} if reload else {})}
    config = EdgeConfig(
        name="shop-1",
        region="us-east",
        swarm="tests",
        upstream=[Seed(host, int(port))],
        project=parse_projections([entry]),
        **more,
    )
    running = await Edge.start(config)
    try:
        yield running
    finally:
        await running.stop()


def shows(path: Path, value: Any) -> bool:
    return path.exists() and json.loads(path.read_text()) == value


async def write(agent: Served, key: str, value: Any) -> dict[str, Any]:
    answer = await agent.ask("PUT", f"/v1/state/{key}", value)
    assert answer.status == 200, answer
    return dict(answer.document)


async def reported(agent: Served) -> list[dict[str, Any]]:
    """What the agent says of the files of its edges."""
    found = (await agent.ask("GET", "/v1/edges")).document["edges"]
    return [each for edge in found for each in (edge["report"] or {}).get("projections", [])]


async def test_a_write_at_an_agent_is_in_the_file_beside_an_edge(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with one_agent() as agent, edge(agent, file) as one:
        await until(lambda: one.unreadiness is None)
        assert shows(file, {})
        await write(agent, "app", {"ttl": 60})
        await until(lambda: shows(file, {"ttl": 60}))
        assert [each.name for each in one.metrics.collect() if "projection" in each.name]


async def test_an_edge_that_holds_only_what_it_projects_shows_its_trial(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with one_agent() as agent, edge(agent, file, prefixes=["app"]):
        await write(agent, "app", {"ttl": 60, "size": 1})
        await write(agent, "canary.us-east.app.ttl", 5)
        await until(lambda: shows(file, {"ttl": 5, "size": 1}))
        await agent.agent.write([Mutation("delete", "canary")])
        await until(lambda: shows(file, {"ttl": 60, "size": 1}))


async def test_its_agent_knows_what_is_on_disk_and_that_the_application_has_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "app.json"
    async with (
        application(tmp_path) as app,
        one_agent() as agent,
        edge(agent, file, reload={"http": app.url}),
    ):
        written = await write(agent, "app", {"ttl": 60})

        async def known() -> bool:
            receipts = await reported(agent)
            return any(
                (each["dot"], each["applied"]) == (written["dot"], True) for each in receipts
            )

        await served.until(known)
        [receipt] = await reported(agent)
        assert receipt["path"] == str(file)
        assert receipt["etag"] == written["etag"]
        assert receipt["version"] == written["version"]


async def test_files_stay_and_are_ready_without_any_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "ALONE_SECONDS", 0.2)
    file, data = tmp_path / "app.json", tmp_path / "data"
    async with one_agent() as agent, edge(agent, file, data_dir=data):
        await write(agent, "app", {"ttl": 60})
        await until(lambda: shows(file, {"ttl": 60}))
    file.unlink()
    async with edge(None, file, data_dir=data) as one:
        await until(lambda: one.unreadiness is None)
        assert shows(file, {"ttl": 60})


async def test_a_file_does_not_go_back_to_what_was_saved_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "ALONE_SECONDS", 3600.0)
    file, data, older = tmp_path / "app.json", tmp_path / "data", tmp_path / "older"
    async with one_agent() as agent:
        async with edge(agent, file, data_dir=data):
            await write(agent, "app", {"ttl": 1})
            await until(lambda: shows(file, {"ttl": 1}))
        shutil.copytree(data, older)
        async with edge(agent, file, data_dir=data):
            await write(agent, "app", {"ttl": 2})
            await until(lambda: shows(file, {"ttl": 2}))
        async with edge(agent, file, data_dir=older) as one:
            await until(lambda: one.unreadiness is None)
            assert shows(file, {"ttl": 2})
            assert [counts.writes for counts in one.projector.counts] == [0]


async def test_an_edge_that_reports_nonsense_does_not_spoil_the_list() -> None:
    async with (
        one_agent() as agent,
        agent.session.ws_connect(f"{agent.url}/v1/replica?swarm=tests") as socket,
    ):
        hello = frames.Hello(name="raw", region="us-east", prefixes=None, seen={})
        await socket.send_bytes(frames.encode(hello))
        await socket.receive_bytes()
        await socket.send_bytes(frames.encode(frames.Taken(0, '{"projections": [')))
        await socket.send_bytes(frames.encode(frames.Taken(0, None)))
        connected = agent.agent.edges
        assert connected is not None
        await until(lambda: any(edge.report for edge in connected))
        [known] = (await agent.ask("GET", "/v1/edges")).document["edges"]
        assert known["report"] is None

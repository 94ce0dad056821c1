"""What is projected can be asked for, and an agent says that it is ready, and with which trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agents import config_of, put, running
from disks import small_disk
from gossipswarm_agent.api.server import serve
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.runtime.ports import bind_api
from loopback import until
from served import Served


@asynccontextmanager
async def projecting(*entries: dict[str, Any]) -> AsyncIterator[Served]:
    config = config_of("one", project=parse_projections(entries), declared={"one": "us-east"})
    async with running(config) as agent, aiohttp.ClientSession() as session:
        server = await serve(agent, sockets=[bind_api("127.0.0.1")])
        try:
            yield Served(agent, server, session)
        finally:
            await server.close()


def version(served: Served) -> int:
    (receipt,) = served.agent.projector.receipts
    return 0 if receipt.written is None else receipt.written.version


async def test_each_projection_says_what_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with projecting({"prefix": "app", "path": str(file)}) as served:
        written = (await served.ask("PUT", "/v1/state/app", {"ttl": 60})).document
        await until(lambda: version(served) == written["version"])
        [known] = (await served.ask("GET", "/v1/projections")).document["projections"]
    assert known.pop("written_at").endswith("Z")
    assert known.pop("writes") >= 1
    assert known == {
        "prefix": "app",
        "path": str(file),
        "format": "json",
        "version": written["version"],
        "etag": written["etag"],
        "dot": written["dot"],
        "on_trial": False,
        "bytes": len(b'{\n  "ttl": 60\n}\n'),
        "files": 1,
        "failures": 0,
        "trouble": None,
        "reload": None,
        "applied": True,
    }


async def test_without_projections_the_list_is_empty() -> None:
    async with projecting() as served:
        assert (await served.ask("GET", "/v1/projections")).document == {"projections": []}
        assert (await served.ask("GET", "/readyz")).document == {"status": "ready"}


async def test_it_is_not_ready_before_the_files_are_there(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "app.json"
    async with projecting({"prefix": "app", "path": str(file)}) as served:
        await until(lambda: served.agent.projector.receipts[0].trouble)
        answer = await served.ask("GET", "/readyz")
        assert (answer.status, answer.reason) == (503, "not-ready")
        assert f"app is not yet projected to {file}: No such file" in answer.document["detail"]


async def test_trouble_that_comes_later_is_said_beside_ready(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        async with projecting({"prefix": "app", "path": str(disk / "app.json")}) as served:
            await until(lambda: served.agent.ready)
            await served.agent.write(put("app.x", "y" * 60_000))
            await until(lambda: served.agent.projector.trouble)
            answer = await served.ask("GET", "/readyz")
            assert answer.status == 200
            assert answer.document["status"] == "ready"
            assert "stays at version 0: No space left on device" in answer.document["trouble"]

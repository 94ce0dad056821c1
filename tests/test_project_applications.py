"""The application of a projected file hears of each version, and its answer is part of the receipt."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agents import put
from gossipswarm_agent.project.reloading import Attempt, Reloader
from loopback import until
from projecting import document, metric, projected, projected_file, projecting, receipt_of, shows
from test_project_reloading import application

__all__ = ["projected_file"]  # fixture


async def test_the_application_is_signalled_after_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with application(tmp_path) as app:
        reload = {"signal": "HUP", "process": str(app.pid_file)}
        async with projecting(projected(file, reload=reload)) as agent:
            assert await app.line() == "signal SIGHUP"
            await agent.write(put("app.x", 1))
            assert await app.line() == "signal SIGHUP"
            assert document(file) == {"x": 1}
            await until(lambda: receipt_of(agent).applied)
            assert metric(agent, "reloads_total", result="signalled") == 2


async def test_the_receipt_waits_for_the_application_to_say_yes(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with (
        application(tmp_path, 503, 503, 200) as app,
        projecting(projected(file, reload={"http": app.url})) as agent,
    ):
        await until(lambda: agent.ready)
        first = json.loads((await app.line()).split(" ", 2)[2])
        assert first == {
            "path": str(file),
            "prefix": "app",
            "version": 0,
            "etag": "",
            "dot": "",
        }
        await until(lambda: receipt_of(agent).applied)
        told = receipt_of(agent).told
        assert told is not None
        assert (told.result, told.detail) == ("acknowledged", f"{app.url} answered 200")
        assert metric(agent, "reloads_total", result="failed") == 2
        [result] = await agent.write(put("app.x", 1))
        for _ in range(2):
            await app.line()
        news = json.loads((await app.line()).split(" ", 2)[2])
        assert (news["version"], news["dot"]) == (result.version, result.dot)


async def test_a_fault_of_ours_in_telling_is_logged_and_tried_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [TypeError("a bug")]

    async def attempt(_: Reloader, news: dict[str, Any]) -> Attempt:
        if faults:
            raise faults.pop()
        return Attempt("acknowledged", str(news["version"]))

    monkeypatch.setattr(Reloader, "attempt", attempt)
    async with projecting(projected(file, reload={"http": "http://127.0.0.1:1/"})) as agent:
        await until(lambda: receipt_of(agent).applied)
        assert metric(agent, "reloads_total", result="failed") == 1
    assert any(record.exc_info for record in caplog.records)


async def test_files_go_on_changing_while_the_application_does_not_answer(file: Path) -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/reload"
    async with projecting(projected(file, reload={"http": url})) as agent:
        for number in range(3):
            await agent.write(put("app.x", number))
            await until(lambda number=number: shows(file, {"x": number}))
        assert not receipt_of(agent).applied
    server.close()


async def test_an_application_is_asked_again_after_a_restart_of_the_agent(tmp_path: Path) -> None:
    file, data = tmp_path / "app.json", tmp_path / "data"
    async with projecting(projected(file), data_dir=data) as agent:
        await agent.write(put("app.x", 1))
        await until(lambda: shows(file, {"x": 1}))
    async with (
        application(tmp_path) as app,
        projecting(projected(file, reload={"http": app.url}), data_dir=data) as agent,
    ):
        assert (await app.line()).startswith("post /reload")
        await until(lambda: receipt_of(agent).applied)
        assert metric(agent, "writes_total") == 0

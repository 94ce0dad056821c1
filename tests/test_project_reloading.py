"""An application is told by a signal to its process or by a POST, and what came of it is known."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gossipswarm_agent.project import reloading
from gossipswarm_agent.project.projections import Reload
from gossipswarm_agent.project.reloading import Attempt, Reloader, processes_called

APP = Path(__file__).with_name("reloading_app.py")
NEWS = {"path": "/config/app.json", "prefix": "app", "version": 7, "etag": "e", "dot": "a/1:7"}


class App:
    """A running application."""

    def __init__(self, process: asyncio.subprocess.Process, pid_file: Path, port: int) -> None:
        self.process = process
        self.pid_file = pid_file
        self.url = f"http://127.0.0.1:{port}/reload"

    async def line(self) -> str:
        """The next thing that happened to it."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()


@asynccontextmanager
async def application(
    directory: Path, *answers: int, command: tuple[str | Path, ...] = (sys.executable, APP)
) -> AsyncIterator[App]:
    pid_file = directory / "app.pid"
    process = await asyncio.create_subprocess_exec(
        *command, pid_file, *map(str, answers), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        yield App(process, pid_file, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def attempt(reload: Reload) -> Attempt:
    reloader = Reloader(reload, None)
    try:
        return await reloader.attempt(NEWS)
    finally:
        await reloader.close()


def script(directory: Path, name: str) -> Path:
    """The application as a program of this name."""
    path = directory / name
    path.write_text(f"#!{sys.executable}\n" + APP.read_text())
    path.chmod(0o755)
    return path


# --- signals --------------------------------------------------------------------------------------


async def test_the_process_of_a_pid_file_gets_the_signal(tmp_path: Path) -> None:
    async with application(tmp_path) as app:
        told = await attempt(Reload(signal="HUP", process=str(app.pid_file)))
        assert told == Attempt("signalled", f"SIGHUP to process {app.process.pid}")
        assert await app.line() == "signal SIGHUP"


@pytest.mark.parametrize("name", ["my-web-app", "a-name-that-is-longer-than-the-kernel-keeps"])
async def test_a_process_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    async with application(tmp_path, command=(script(tmp_path, name),)) as app:
        told = await attempt(Reload(signal="USR1", process=name))
        assert told == Attempt("signalled", f"SIGUSR1 to process {app.process.pid}")
        assert await app.line() == "signal SIGUSR1"


async def test_of_a_master_and_its_workers_the_master_gets_it(tmp_path: Path) -> None:
    shell = shutil.which("bash")
    assert shell
    master = tmp_path / "master-of-workers"
    master.symlink_to(shell)
    # A subshell is a process of the same name below the first.
    process = await asyncio.create_subprocess_exec(
        master,
        "-c",
        "(read -r line; exit) <&0 & echo started; read -r line; wait",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"started\n"
        assert processes_called("master-of-workers") == [process.pid]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def test_where_there_is_no_such_process_it_reads_the_file_when_it_starts(
    tmp_path: Path,
) -> None:
    assert await attempt(Reload(signal="HUP", process="no-such-program")) == Attempt(
        "absent", "no process here is called no-such-program"
    )
    pid_file = tmp_path / "app.pid"
    absent = Attempt("absent", f"{pid_file} names no process that runs")
    assert await attempt(Reload(signal="HUP", process=str(pid_file))) == absent
    async with application(tmp_path):
        pass
    assert await attempt(Reload(signal="HUP", process=str(pid_file))) == absent


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "12 13", "99999999999", "\x80"])
async def test_a_pid_file_that_holds_no_process_id_signals_nobody(
    text: str, tmp_path: Path
) -> None:
    pid_file = tmp_path / "app.pid"
    pid_file.write_text(text)
    told = await attempt(Reload(signal="HUP", process=str(pid_file)))
    assert told == Attempt("failed", f"{pid_file} holds no process id", again=True)


async def test_the_agent_never_signals_itself(tmp_path: Path) -> None:
    pid_file = tmp_path / "app.pid"
    pid_file.write_text(str(os.getpid()))
    told = await attempt(Reload(signal="TERM", process=str(pid_file)))
    assert told.result == "failed"
    assert "names the agent itself" in told.detail
    assert "shareProcessNamespace" in told.detail
    assert os.getpid() not in processes_called(Path(sys.executable).name)


async def test_a_process_of_another_user_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    async with application(tmp_path) as app:
        monkeypatch.setattr(os, "kill", refuse)
        told = await attempt(Reload(signal="HUP", process=str(app.pid_file)))
        monkeypatch.undo()
    assert told.result == "failed"
    assert told.again
    assert f"may not signal process {app.process.pid}: it runs as another user" in told.detail


# --- http -----------------------------------------------------------------------------------------


async def test_a_post_says_what_changed_and_its_answer_is_the_acknowledgement(
    tmp_path: Path,
) -> None:
    async with application(tmp_path) as app:
        told = await attempt(Reload(http=app.url))
        assert told == Attempt("acknowledged", f"{app.url} answered 204")
        word, path, body = (await app.line()).split(" ", 2)
    assert (word, path) == ("post", "/reload")
    assert json.loads(body) == NEWS


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (503, True), (429, True), (404, False), (302, False)]
)
async def test_an_answer_that_is_no_yes_is_a_failure(
    status: int, again: bool, tmp_path: Path
) -> None:
    async with application(tmp_path, status) as app:
        told = await attempt(Reload(http=app.url))
        assert told == Attempt("failed", f"{app.url} answered {status}", again=again)


async def test_an_application_that_is_not_there_is_asked_again(tmp_path: Path) -> None:
    async with application(tmp_path) as app:
        url = app.url
    told = await attempt(Reload(http=url))
    assert (told.result, told.again) == ("failed", True)
    assert told.detail.startswith(f"cannot reach {url}: ")


async def test_an_application_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reloading, "TIMEOUT_SECONDS", 0.1)
    connected = asyncio.Event()

    async def stay(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    told = await attempt(Reload(http=url))
    server.close()
    assert connected.is_set()
    assert told == Attempt("failed", f"{url} gave no answer within 0.1 s", again=True)

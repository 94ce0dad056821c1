"""``gossipswarm-agent`` serves until it is told to end, and says in one line why it cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agents import KEY_TEXT
from gossipswarm_agent.runtime.ports import bind_gossip
from loopback import HOST, free_ports, until

PROGRAM = [sys.executable, "-c", "from gossipswarm_agent.main import run; run()"]


def fails(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *flags],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def replace(file: Path, text: str) -> None:
    """Give a file another content at once: whoever looks sees the one or the other."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)


class Program:
    """A running gossipswarm-agent."""

    def __init__(self, process: asyncio.subprocess.Process, api: str, log: Path) -> None:
        self.process = process
        self.api = api
        self._log = log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.api + path) as response:
            return await response.json()


@asynccontextmanager
async def program(directory: Path, name: str, *flags: str) -> AsyncIterator[Program]:
    (directory / "keys").write_text(KEY_TEXT)
    gossip, api = free_ports(2)
    log = directory / f"{name}.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *("--name", name, "--region", "us-east", "--swarm", "test"),
            *("--keys-file", str(directory / "keys"), "--data-dir", str(directory / name)),
            *("--gossip-port", str(gossip), "--api-port", str(api)),
            *flags,
            stderr=stderr,
        )
        try:
            await until(
                lambda: b"agent started" in log.read_bytes() or process.returncode is not None, 120
            )
            yield Program(process, f"http://{HOST}:{api}", log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_it_serves_until_sigterm_and_keeps_its_data(tmp_path: Path) -> None:
    async with program(tmp_path, "one") as running:
        async with aiohttp.ClientSession() as session:
            url = running.api + "/v1/state/app.config"
            async with session.put(url, json={"x": 1}) as response:
                assert response.status == 200
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 60) == 0
        assert [line["message"] for line in running.lines()][-2:] == ["stopping", "agent stopped"]
        assert all({"time", "level", "logger"} <= line.keys() for line in running.lines())
    async with program(tmp_path, "one") as running:
        assert (await running.get("/v1/state/app.config"))["value"] == {"x": 1}


async def test_a_process_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    async with program(tmp_path, "one") as running:
        async with aiohttp.ClientSession() as session:
            for number in range(20):
                async with session.put(
                    f"{running.api}/v1/state/k{number}", json=number
                ) as response:
                    assert response.status == 200
        running.process.kill()
        await running.process.wait()
    async with program(tmp_path, "one") as running:
        for number in range(20):
            assert (await running.get(f"/v1/state/k{number}"))["value"] == number


async def test_a_second_listener_on_loopback_asks_for_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (local,) = free_ports(1)
    flags = [
        "--write-token-file",
        str(tmp_path / "token"),
        "--read-token-file",
        str(tmp_path / "token"),
    ]
    async with (
        program(tmp_path, "one", *flags, "--local-api-port", str(local)) as running,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{running.api}/v1/agent") as response:
            assert response.status == 401
        async with session.get(f"http://{HOST}:{local}/v1/agent") as response:
            assert (await response.json())["name"] == "one"


async def test_tokens_follow_their_files(tmp_path: Path) -> None:
    token = tmp_path / "write"
    token.write_text("former")
    async with (
        program(tmp_path, "one", "--write-token-file", str(token)) as running,
        aiohttp.ClientSession() as session,
    ):

        async def status(secret: str) -> int:
            headers = {"Authorization": f"Bearer {secret}"}
            url = running.api + "/v1/state/a"
            async with session.put(url, json=1, headers=headers) as response:
                return response.status

        assert await status("former") == 200
        token.write_text("")
        await until(
            lambda: any("is empty" in line.get("error", "") for line in running.lines()), 60
        )
        assert await status("former") == 200, "what is of no use changes nothing"
        token.write_text("latter")
        await until(
            lambda: any(line["message"] == "tokens as configured" for line in running.lines()),
            60,
        )
        assert (await status("former"), await status("latter")) == (401, 200)


async def test_an_agent_that_is_ended_leaves_its_writes_with_others(tmp_path: Path) -> None:
    async with program(tmp_path, "one") as one:
        gossip = (await one.get("/v1/agent"))["gossip"]
        async with program(tmp_path, "two", "--seeds", gossip) as two:
            async with asyncio.timeout(60):
                while not (await two.get("/v1/agent"))["ready"]:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            acknowledged = []
            async with aiohttp.ClientSession() as session:

                async def write_on() -> None:
                    for number in range(100_000):
                        try:
                            url = f"{two.api}/v1/state/k{number}"
                            async with session.put(url, json=number) as response:
                                if response.status != 200:
                                    return
                        except aiohttp.ClientError:
                            return
                        acknowledged.append(number)

                writers = asyncio.create_task(write_on())
                while len(acknowledged) < 50:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
                two.process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(two.process.wait(), 60) == 0
                await writers
            assert any(
                line["message"] == "others have everything" and line["holders"] == ["one"]
                for line in two.lines()
            )
            found = await one.get("/v1/state/?keys=true")
            assert {f"k{number}" for number in acknowledged} <= set(found["keys"])


async def test_peers_follow_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("log_level: info\n")
    async with (
        program(tmp_path, "one", "--config", str(file)) as one,
        program(tmp_path, "two") as two,
    ):
        gossip = (await two.get("/v1/agent"))["gossip"]
        assert (await one.get("/v1/agent"))["members_alive"] <= 1
        replace(
            file,
            f"log_level: info\nseeds: ['{gossip}']\ndeclared: {{one: us-east, two: us-east}}\n"
            f"project: [{{prefix: app, path: {tmp_path}/app.json}}]\n",
        )
        await until(
            lambda: any(line["message"] == "peers as configured" for line in one.lines()), 60
        )
        assert [line["options"] for line in one.lines() if "restart" in line["message"]] == [
            ["project"]
        ]
        async with asyncio.timeout(60):
            # Another process has no event for us.
            while "two" not in {m["name"] for m in (await one.get("/v1/members"))["members"]}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def test_what_it_cannot_do_is_said_in_one_line_with_a_status(tmp_path: Path) -> None:
    base = ("--region", "r", "--swarm", "s", "--plaintext", "--api-port", "0")
    misused = fails("--region", "r", "--swarm", "s")
    assert misused.returncode == 2
    assert misused.stderr == (
        "gossipswarm-agent: give keys_file, or plaintext if gossip is to be readable and forgeable\n"
    )
    assert fails(GOSSIPSWARM_REGOIN="x").returncode == 2
    taken = bind_gossip(HOST)
    busy = fails(*base, "--gossip-port", str(taken.port))
    taken.close()
    assert busy.returncode == 1
    assert f"{HOST}:{taken.port} is in use by another process" in busy.stderr
    denied = fails(*base, "--gossip-port", "0", "--data-dir", "/sys/gossipswarm")
    assert denied.returncode == 1
    assert "cannot open the journal in /sys/gossipswarm/journal" in denied.stderr
    for failed in (misused, busy, denied):
        assert "Traceback" not in failed.stderr
        assert failed.stderr.count("\n") == 1

"""``gossipswarm-agent --role edge`` beside real agents' processes, which are killed and stopped.

How fast an edge turns to another agent is for the benchmark to say.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loopback import HOST, free_ports, until
from test_runtime_program import PROGRAM, Program, fails, program, replace


@asynccontextmanager
async def edge_program(
    directory: Path, upstream: Sequence[Program], *flags: str
) -> AsyncIterator[Program]:
    (api,) = free_ports(1)
    log = directory / "edge.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *("--role", "edge", "--name", "edge", "--region", "us-east", "--swarm", "test"),
            *("--upstream", ",".join(agent.api.removeprefix("http://") for agent in upstream)),
            *("--api-port", str(api)),
            *flags,
            stderr=stderr,
        )
        try:
            await until(
                lambda: b"edge started" in log.read_bytes() or process.returncode is not None, 120
            )
            yield Program(process, f"http://{HOST}:{api}", log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def two_agents_and_an_edge(
    directory: Path, *flags: str
) -> AsyncIterator[tuple[dict[str, Program], Program]]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(program(directory, "one"))
        seeds = ("--seeds", (await one.get("/v1/agent"))["gossip"])
        two = await stack.enter_async_context(program(directory, "two", *seeds))
        edge = await stack.enter_async_context(edge_program(directory, [one, two], *flags))
        for running in (one, two, edge):
            await ready(running)
        yield {"one": one, "two": two}, edge


async def ready(running: Program) -> None:
    async with asyncio.timeout(120):
        while not (await running.get("/v1/agent"))["ready"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def follows(edge: Program) -> str | None:
    upstream: dict[str, Any] = (await edge.get("/v1/agent"))["upstream"]
    agent: str | None = upstream["agent"]
    return agent


async def follows_another(edge: Program, former: str | None) -> str:
    """The agent that the edge follows once it follows one that is not the former."""
    async with asyncio.timeout(60):
        while (found := await follows(edge)) in (former, None):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    assert found is not None
    return found


async def shows(edge: Program, key: str, value: Any) -> None:
    """Wait until it does."""
    async with asyncio.timeout(60):
        while (await edge.get(f"/v1/state/{key}")).get("value") != value:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def put(running: Program, key: str, value: Any) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{running.api}/v1/state/{key}", json=value) as response,
    ):
        return response.status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_edge_turns_to_another_agent_when_its_own_dies_or_stands_still(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with two_agents_and_an_edge(tmp_path) as (agents, edge):
        assert await put(edge, "before", 1) == 200
        former = await follows_another(edge, None)
        agents[former].process.send_signal(number)
        await follows_another(edge, former)
        await shows(edge, "before", 1)
        assert await put(edge, "after", 2) == 200
        await shows(edge, "after", 2)
        if number is signal.SIGSTOP:
            agents[former].process.send_signal(signal.SIGCONT)


async def test_readers_at_an_edge_never_see_anything_older_while_agents_come_and_go(
    tmp_path: Path,
) -> None:
    async with two_agents_and_an_edge(tmp_path) as (agents, edge):
        seen: list[int] = []
        written = 0
        target = "one"
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                assert await put(agents[target], "counter", written + 1) == 200
                written += 1
                await asyncio.sleep(0.005)

        async def read() -> None:
            async with aiohttp.ClientSession() as session:
                while not stop.is_set() or seen[-1] != written:
                    async with session.get(f"{edge.api}/v1/state/counter") as response:
                        assert response.status in (200, 404)
                        if response.status == 200:
                            seen.append((await response.json())["value"])
                    await asyncio.sleep(0.002)

        async def some_more_are_written_and_read() -> None:
            marks = written + 20, len(seen) + 20
            while written < marks[0] or len(seen) < marks[1]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)

        async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(read())
            for _ in range(3):
                await some_more_are_written_and_read()
                former = await follows_another(edge, None)
                # Nothing may be on its way to the one that is stopped: it would be the latest write once it goes on.
                target = "two" if former == "one" else "one"
                await some_more_are_written_and_read()
                agents[former].process.send_signal(signal.SIGSTOP)
                await follows_another(edge, former)
                await some_more_are_written_and_read()
                agents[former].process.send_signal(signal.SIGCONT)
            stop.set()
        assert seen == sorted(seen)


async def test_an_edge_started_without_any_agent_serves_the_last_state(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "edge"))
    async with program(tmp_path, "one") as one:
        assert await put(one, "k", {"x": 1}) == 200
        async with edge_program(tmp_path, [one], *data) as edge:
            await ready(edge)
            edge.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(edge.process.wait(), 60) == 0
    async with edge_program(tmp_path, [one], *data) as edge:
        await ready(edge)
        assert (await edge.get("/v1/state/k"))["value"] == {"x": 1}
        assert (await edge.get("/v1/state/k"))["degraded"] is True
        assert await put(edge, "k", 2) == 503


async def test_an_edge_whose_own_process_stood_still_keeps_its_agent(tmp_path: Path) -> None:
    async with program(tmp_path, "one") as one, edge_program(tmp_path, [one]) as edge:
        await ready(edge)
        before = (await edge.get("/v1/agent"))["upstream"]["failovers"]
        edge.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)  # longer than the silence that an agent is lost for
        edge.process.send_signal(signal.SIGCONT)
        assert await put(one, "k", 1) == 200
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await edge.get("/v1/state/k")).get("value") == 1:
                        break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)
        assert (await edge.get("/v1/agent"))["upstream"]["failovers"] == before


async def test_a_change_that_takes_a_restart_is_said_and_tokens_are_taken_over(
    tmp_path: Path,
) -> None:
    file, token = tmp_path / "edge.yaml", tmp_path / "token"
    token.write_text("secret")
    project = f"project: [{{prefix: app, path: {tmp_path}/app.json}}]\n"
    file.write_text(project)
    async with (
        program(tmp_path, "one") as one,
        edge_program(tmp_path, [one], "--config", str(file)) as edge,
    ):
        await ready(edge)
        replace(file, "projct: []\n")
        await until(lambda: any("of no use" in line["message"] for line in edge.lines()), 60)
        replace(file, f"project: []\nread_token_file: {token}\nwrite_token_file: {token}\n")
        await until(
            lambda: any(line["message"] == "tokens as configured" for line in edge.lines()), 60
        )
        assert [line["options"] for line in edge.lines() if "restart" in line["message"]] == [
            ["project"]
        ]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{edge.api}/v1/state/k") as response,
        ):
            assert response.status == 401


@pytest.mark.parametrize("agent", ["killed", "stopped"])
def test_the_published_figures_keep_the_promise_of_a_failover_below_a_second(agent: str) -> None:
    results = Path(__file__).parent.parent / "docs" / "results"
    figures = json.loads((results / "edges.json").read_text("utf-8"))
    assert figures["figures"][f"{agent}_max_ms"] < 1000


def test_what_an_edge_cannot_do_is_said_in_one_line(tmp_path: Path) -> None:
    base = ("--role", "edge", "--region", "r", "--swarm", "s", "--api-port", "0")
    missing = fails(*base)
    assert missing.returncode == 2
    assert "upstream is missing" in missing.stderr
    assert fails(*base, "--upstream", "nonsense").returncode == 2
    assert "prefixes" in fails(*base, "--upstream", "a:1", "--prefixes", "a..b").stderr
    assert fails("--role", "edgy", "--region", "r", "--swarm", "s").returncode == 2


def test_an_edge_does_not_load_what_only_agents_need() -> None:
    listing = "import sys, gossipswarm_agent.edge.program; print(*sys.modules)"
    command = f'"{sys.executable}" -c "{listing}"'
    loaded = set(os.popen(command).read().split())
    assert "gossipswarm_agent.edge.hub" not in loaded
    assert "gossipswarm_agent.core.node" not in loaded
    assert "gossipswarm_agent.runtime.agent" not in loaded
    assert "cryptography" not in loaded

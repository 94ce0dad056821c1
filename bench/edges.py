"""What edges cost their agent, how soon they know, and how soon they turn to another agent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from bench.machine import cpu_seconds, resident_bytes
from bench.report import Result, Table, mib, ms, percentile
from gossipswarm_agent.edge.config import EdgeConfig
from gossipswarm_agent.edge.edge import Edge
from gossipswarm_agent.runtime.config import Seed
from gossipswarm_agent.runtime.ports import bind_api, bind_gossip

HOST = "127.0.0.1"
REGION, SWARM = "us-east", "bench"
AGENT = [sys.executable, "-c", "from gossipswarm_agent.main import run; run()"]


class Program:
    """A process of ``gossipswarm-agent``."""

    def __init__(self, name: str, *flags: str) -> None:
        listening = bind_api(HOST)
        self.port: int = listening.getsockname()[1]
        listening.close()
        self.name = name
        self.url = f"http://{HOST}:{self.port}"
        self._process = subprocess.Popen(
            [*AGENT, "--name", name, "--region", REGION, "--swarm", SWARM,
             "--api-port", str(self.port), "--log-level", "error", *flags],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.pid = self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Make an end of it."""
        self._process.kill()
        self._process.wait()


def run(*, quick: bool) -> Result:
    """One agent with some hundred edges, then three agents of which one is killed and stopped."""
    logging.getLogger("gossipswarm_agent").setLevel(logging.ERROR)  # edges say whom they lost
    return asyncio.run(_measure(20 if quick else 300, 2.0 if quick else 15.0, 10 if quick else 300))


async def _measure(edges: int, seconds: float, updates: int) -> Result:
    figures: dict[str, float] = {"edges": edges}
    async with _agents(1) as ([agent], session):
        bare, memory = await _idle(agent, seconds), resident_bytes(agent.pid)
        alone, _ = await _updates(agent, session, [], updates)
        async with _edges([agent], edges) as following:
            await asyncio.sleep(2.0)
            figures["agent_idle_us_per_edge_second"] = (
                1e6 * (await _idle(agent, seconds) - bare) / edges
            )
            figures["agent_bytes_per_edge"] = (resident_bytes(agent.pid) - memory) / edges
            shared, delays = await _updates(agent, session, following, updates)
            figures["agent_us_per_edge_update"] = 1e6 * (shared - alone) / edges / updates
            figures["update_p50_ms"] = percentile(delays, 0.5)
            figures["update_p99_ms"] = percentile(delays, 0.99)
        figures |= await _edge_process(agent, seconds)
    figures["killed_p50_ms"], figures["killed_max_ms"] = await _failover(edges, signal.SIGKILL)
    figures["stopped_p50_ms"], figures["stopped_max_ms"] = await _failover(edges, signal.SIGSTOP)
    return _result(figures, seconds, updates)


async def _idle(agent: Program, seconds: float) -> float:
    """Processor seconds a second."""
    before, begun = cpu_seconds(agent.pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(agent.pid) - before) / (time.monotonic() - begun)


async def _updates(
    agent: Program, session: aiohttp.ClientSession, following: Sequence[Edge], updates: int
) -> tuple[float, list[float]]:
    """Processor seconds of the agent for so many writes, 20 a second; ms from sending each until each edge has it."""
    delays: list[float] = []
    begun = 0.0
    watching = [
        asyncio.create_task(_note(edge, lambda: delays.append(1000 * (time.monotonic() - begun))))
        for edge in following
    ]
    await asyncio.sleep(0.5)
    before = cpu_seconds(agent.pid)
    for number in range(updates):
        begun = time.monotonic()
        async with session.put(f"{agent.url}/v1/state/app.counter", json=number) as response:
            assert response.status == 200, await response.text()
        await asyncio.sleep(max(0.0, 0.05 - (time.monotonic() - begun)))
    await asyncio.sleep(0.5)
    used = cpu_seconds(agent.pid) - before
    for task in watching:
        task.cancel()
    return used, delays


async def _note(edge: Edge, arrived: Callable[[], None]) -> None:
    async for _ in edge.watch("app", None):
        arrived()


async def _edge_process(agent: Program, seconds: float) -> dict[str, float]:
    """What one real edge takes."""
    edge = Program("edge", "--role", "edge", "--upstream", f"{HOST}:{agent.port}")
    try:
        async with aiohttp.ClientSession() as session:
            await _ready(session, edge)
            await asyncio.sleep(1.0)
            share = await _idle(edge, seconds)
            return {
                "edge_idle_us_per_second": 1e6 * share,
                "edge_process_bytes": float(resident_bytes(edge.pid)),
            }
    finally:
        edge.end()


async def _failover(edges: int, number: signal.Signals) -> tuple[float, float]:
    """Ms from the signal until an edge of that agent follows another one: median, worst."""
    async with _agents(3) as (agents, _), _edges(agents, edges) as following:
        lost = agents[0]
        concerned = [edge for edge in following if _follows(edge) == lost.name]
        begun = time.monotonic()
        lost.signal(number)
        turned: dict[int, float] = {}
        while len(turned) < len(concerned):
            for index, edge in enumerate(concerned):
                if index not in turned and _follows(edge) not in (None, lost.name):
                    turned[index] = 1000 * (time.monotonic() - begun)
            if time.monotonic() - begun > 30:
                raise TimeoutError(f"{len(concerned) - len(turned)} edges follow nobody")
            await asyncio.sleep(0.002)
        return percentile(list(turned.values()), 0.5), max(turned.values())


def _follows(edge: Edge) -> str | None:
    current = edge.upstream.current
    return None if current is None else current.agent


@asynccontextmanager
async def _agents(count: int) -> AsyncIterator[tuple[list[Program], aiohttp.ClientSession]]:
    """So many agents that know each other and are ready."""
    async with AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="gossipswarm-bench-"))
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ports = []
        for _ in range(count):
            sockets = bind_gossip(HOST)
            ports.append(sockets.port)
            sockets.close()
        declared = ",".join(f"agent-{number}={REGION}" for number in range(count))
        seeds = ",".join(f"{HOST}:{port}" for port in ports)
        agents = []
        for number, port in enumerate(ports):
            flags = ["--plaintext", "--gossip-port", str(port), "--declared", declared]
            flags += ["--seeds", seeds, "--data-dir", str(directory / str(number))]
            agents.append(Program(f"agent-{number}", *flags))
            stack.callback(agents[-1].end)
        for agent in agents:
            await _ready(session, agent)
        yield agents, session


async def _ready(session: aiohttp.ClientSession, program: Program) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with session.get(f"{program.url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _edges(agents: Sequence[Program], count: int) -> AsyncIterator[list[Edge]]:
    """So many edges of these agents in this process, all of which hold everything."""
    async with AsyncExitStack() as stack:
        found: list[Edge] = []
        for number in range(count):
            config = EdgeConfig(
                name=f"edge-{number}",
                region=REGION,
                swarm=SWARM,
                upstream=[Seed(HOST, agent.port) for agent in agents],
            )
            found.append(await Edge.start(config))
            stack.push_async_callback(found[-1].stop)
        async with asyncio.timeout(60):
            while not all(edge.replica.complete and _follows(edge) for edge in found):  # noqa: ASYNC110 - measured, not told
                await asyncio.sleep(0.05)
        yield found


def _result(figures: dict[str, float], seconds: float, updates: int) -> Result:
    edges = int(figures["edges"])
    agent_rows = [
        ("processor, idle, each edge", f"{figures['agent_idle_us_per_edge_second']:.0f} us a second"),
        (f"processor, idle, {edges} edges",
         f"{figures['agent_idle_us_per_edge_second'] * edges / 1e4:.1f}% of one core"),
        ("processor, each edge and update", f"{figures['agent_us_per_edge_update']:.1f} us"),
        ("memory, each edge", f"{figures['agent_bytes_per_edge'] / 1024:.0f} KiB"),
    ]  # fmt: skip
    times = [
        ("a write, from sending it to the agent until an edge has it",
         ms(figures["update_p50_ms"]), ms(figures["update_p99_ms"])),
    ]  # fmt: skip
    failovers = [
        ("killed (SIGKILL)", ms(figures["killed_p50_ms"]), ms(figures["killed_max_ms"])),
        ("silent (SIGSTOP)", ms(figures["stopped_p50_ms"]), ms(figures["stopped_max_ms"])),
    ]
    edge_rows = [
        ("processor, idle", f"{figures['edge_idle_us_per_second'] / 1000:.1f} ms a second"),
        ("memory", mib(figures["edge_process_bytes"])),
    ]
    return Result(
        name="edges",
        title="The cost of edges, and how fast they turn",
        method=f"""
{edges} edges of one agent. Its processor time and memory with them, less those without: idle over {seconds:g} s, and for
{updates} writes, 20 a second, each of which goes to every edge. The edges run in one process beside it, which is the other half of the delay.
Then three agents and {edges} edges in all, of which one agent is killed or stopped: time until each edge that followed it follows another.""",
        tables=[
            Table(("an agent pays", ""), agent_rows),
            Table(("", "median", "p99"), times),
            Table(("an agent is", "median", "worst"), failovers),
            Table(("one edge's own process", ""), edge_rows),
        ],
        figures={name: round(value, 3) for name, value in figures.items()},
    )

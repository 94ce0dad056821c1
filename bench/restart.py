"""What survives: a worker killed while it acknowledges writes, and how long a large journal takes to read."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.report import Result, Table, ms
from bench.swarms import Measured, evenly, swarm, until
from gossipctl.backend import Agent
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.runtime.agent import Agent as RunningAgent
from gossipswarm_agent.runtime.config import AgentConfig
from gossipswarm_client.errors import GossipSwarmError

WRITERS = 6


def run(*, quick: bool) -> Result:
    """kill -9 in the middle of writes, and the start of an agent with 100,000 leaves."""
    agents, seconds, leaves = (6, 1.0, 5_000) if quick else (30, 5.0, 100_000)
    with swarm(evenly(agents), max_agents=agents, workers=2) as measured:
        killed = _kill(measured, seconds)
    appended, snapshot = asyncio.run(_start_ups(leaves))
    rows = [
        ("writes acknowledged around the kill", f"{killed['acknowledged']:,}"),
        ("of them found on every agent", f"{killed['found']:,}"),
        ("writes refused or unanswered", f"{killed['refused']:,}"),
        ("all agents up again after", f"{killed['up_again_s']:.1f} s"),
        ("all agents equal after the last write", f"{killed['equal_s']:.1f} s"),
        (f"start with {leaves:,} leaves in appended segments", ms(appended)),
        (f"start with {leaves:,} leaves in a snapshot", ms(snapshot)),
    ]
    return Result(
        name="restart",
        title="Killed and restarted",
        method=f"""
{agents} agents in two worker processes; {WRITERS} writers write keys of their own, one after another, to agents in
both. After a third of {seconds * 3:g} s one worker is killed with SIGKILL: half of the agents are gone between one
instruction and the next. The supervisor starts it again. Every write that was acknowledged must be on every agent.

The start-up times are of one agent on its own, from the call that starts it until it serves reads.""",
        tables=[Table(("what", ""), rows)],
        figures={**killed, "leaves": leaves, "start_appended_ms": appended, "start_snapshot_ms": snapshot},
    )  # fmt: skip


class _Writer(threading.Thread):
    """Writes one key after another, and remembers what was acknowledged."""

    def __init__(self, number: int, agents: list[Agent], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.agents = agents
        self.stop = stop
        self.acknowledged: dict[str, int] = {}
        self.refused = 0

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            key = f"w{self.number}k{count}"
            agent = self.agents[count % len(self.agents)]
            try:
                agent.set(f"bench.{key}", count, timeout=5.0)
            except GossipSwarmError:
                self.refused += 1
                self.stop.wait(0.01)
            else:
                self.acknowledged[key] = count


def _kill(measured: Measured, seconds: float) -> dict[str, Any]:
    stop = threading.Event()
    # A connection is one thread's: each writer has its own.
    writers = [_Writer(number, measured.agents(), stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    declared = measured.request("stats")["declared"]
    os.kill(measured.worker_pids()[0], signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: len(measured.stats()) < declared, 10.0, "the supervisor has noticed")
    until(lambda: len(measured.stats()) == declared, 60.0, "all agents are up again")
    up = time.monotonic() - killed
    time.sleep(max(0.0, 2 * seconds - up))
    stop.set()
    for writer in writers:
        writer.join(30.0)
    equal = until(measured.agree, 60.0, "all agents hold the same")
    acknowledged = {key: value for each in writers for key, value in each.acknowledged.items()}
    missing: set[str] = set()
    for agent in measured.agents():
        held = agent.get("bench").value
        missing.update(key for key, value in acknowledged.items() if held.get(key) != value)
    return {
        "acknowledged": len(acknowledged),
        "found": len(acknowledged) - len(missing),
        "refused": sum(each.refused for each in writers),
        "up_again_s": round(up, 2),
        "equal_s": round(equal, 2),
    }


async def _start_ups(leaves: int) -> tuple[float, float]:
    """Milliseconds to start from segments alone, and from a snapshot."""
    with tempfile.TemporaryDirectory(prefix="gossipswarm-bench-") as directory:
        config = AgentConfig(
            name="bench", region="local", swarm="bench", data_dir=Path(directory), declared={"bench": "local"}
        )  # fmt: skip
        agent = await RunningAgent.start(config)
        for first in range(0, leaves, 100):
            await agent.write(
                [
                    Mutation("put", f"bench.group{first // 1000}.key{number}", number)
                    for number in range(first, min(first + 100, leaves))
                ]
            )
        await agent.stop()
        appended = await _timed(config, leaves)
        agent = await RunningAgent.start(config)
        before = agent.journal_status.snapshots
        agent.driver.commits.start_snapshot()
        async with asyncio.timeout(60.0):
            while agent.journal_status.snapshots == before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await agent.stop()
        return appended, await _timed(config, leaves)


async def _timed(config: AgentConfig, leaves: int) -> float:
    begun = time.perf_counter()
    agent = await RunningAgent.start(config)
    reading = agent.read(f"bench.group{(leaves - 1) // 1000}.key{leaves - 1}")
    elapsed = time.perf_counter() - begun
    assert reading is not None
    assert agent.node.state.leaf_count >= leaves
    await agent.stop()
    return round(elapsed * 1000, 1)

"""The driver commits together, keeps deadlines, hears before it judges, and survives bugs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from agents import config_of, put, running, seed_of, swarm
from gossipswarm_agent.core.frames import Frame, Inbound
from gossipswarm_agent.core.messages import Digest, encode
from gossipswarm_agent.runtime import commits
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.driver import coalesced
from loopback import until


async def test_writes_that_come_together_share_a_sync(tmp_path: Path) -> None:
    async with running(config_of("a", data_dir=tmp_path)) as agent:
        await agent.write(put("first", 1))
        before = len(agent.journal.fsync_seconds)
        results = await asyncio.gather(*[agent.write(put(f"k{n}", n)) for n in range(100)])
        assert len({result.dot for [result] in results}) == 100
        assert len(agent.journal.fsync_seconds) - before <= 3


async def test_what_comes_from_peers_is_journalled_without_a_sync_of_its_own(
    tmp_path: Path,
) -> None:
    async with swarm(["us-east", "us-east"], tmp_path) as (writer, reader):
        before = len(reader.journal.fsync_seconds)
        for number in range(20):
            await writer.write(put(f"k{number}", number))
        await until(lambda: all(reader.read(f"k{number}") is not None for number in range(20)))
        assert len(reader.journal.fsync_seconds) == before
        await until(lambda: reader.journal_status.records >= 20)


async def test_a_process_that_stood_still_takes_nobody_for_dead() -> None:
    async with swarm(["us-east", "us-east", "us-west"]) as agents:
        events: list[str] = []
        for agent in agents:
            agent.subscribe(lambda notice: events.append(notice.event))
        time.sleep(1.2)  # noqa: ASYNC251 - all of them stand still
        [result] = await agents[0].write(put("k", 1), traced=True)
        assert (await agents[0].wait_converged(result.dot, 1.0, 60)).converged
        # Long enough for suspicions to have run out.
        await asyncio.sleep(1.5)
        assert [event for event in events if event in ("member-down", "region-cut")] == []
        assert max(agent.driver.worst_lag for agent in agents) > 0.5


async def test_deadlines_that_are_far_off_are_shared_and_near_ones_are_exact() -> None:
    assert coalesced(100.01, 100.0) == 100.01
    assert coalesced(100.101, 100.0) == coalesced(100.1015, 100.0)
    for ahead in (0.06, 0.1, 0.5, 1.0, 10.0):
        late = coalesced(100.0 + ahead, 100.0) - (100.0 + ahead)
        assert 0 <= late <= 0.016


async def test_an_idle_agent_hardly_wakes_up() -> None:
    async with running(config_of("a", declared={"a": "us-east"})) as agent:
        await asyncio.sleep(0.5)
        ticks = 0
        handle = agent.node.handle

        def counting(event, now):
            nonlocal ticks
            ticks += 1
            return handle(event, now)

        agent.node.handle = counting
        began = time.monotonic()
        await asyncio.sleep(1.0)
        assert ticks <= 15 * (time.monotonic() - began)


async def test_one_frame_that_meets_a_bug_takes_no_other_with_it(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commits, "RETRY_SECONDS", 0.05)
    agent = await Agent.start(config_of("a", data_dir=tmp_path))
    good = Inbound(Frame(encode(Digest("stranger", 1, 2))), 1, 0, ("127.0.0.1", 1), b"s", 1)
    agent.driver.deliver([good, object(), good])
    assert agent.driver.defects == 2, "the lot, and then the bad one alone"
    assert agent.node.counters["dropped_stranger"] == 3
    await until(lambda: agent.journal_status.snapshots >= 1)
    await agent.stop()


async def test_a_tick_that_meets_a_bug_does_not_end_the_ticking(monkeypatch) -> None:
    monkeypatch.setattr("gossipswarm_agent.runtime.driver.PAUSE_AFTER_DEFECT", 0.05)
    async with running(config_of("a")) as seed:
        agent = await Agent.start(config_of("b", seeds=[seed_of(seed)]))
        tick = agent.node._tick
        failures = iter([ValueError("a bug")] * 2)

        def faulty() -> None:
            for failure in failures:
                raise failure
            tick()

        agent.node._tick = faulty
        await until(lambda: agent.ready, 40)
        assert agent.driver.defects == 2
        await agent.stop()

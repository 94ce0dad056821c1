"""The queue of objects to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gossipswarm_operator import queue as queues
from gossipswarm_operator.queue import FIRST_BACKOFF_SECONDS, LEAST_SECONDS, Key, Queue

DEMO = ("prod", "demo")
OTHER = ("prod", "other")


class Looks:
    """A reconcile that notes when it is called."""

    def __init__(self) -> None:
        self.at: dict[Key, list[float]] = {}
        self.running: set[Key] = set()
        self.noticed: list[Key] = []
        self.fails = False
        self.again: float | None = None
        self.holds = asyncio.Event()
        self.holds.set()

    async def __call__(self, key: Key) -> float | None:
        assert key not in self.running, "one look at an object at a time"
        self.running.add(key)
        self.at.setdefault(key, []).append(asyncio.get_running_loop().time())
        await self.holds.wait()
        self.running.discard(key)
        if self.fails:
            raise OSError("on purpose")
        return self.again

    async def reach(self, count: int, key: Key = DEMO) -> list[float]:
        """Wait until there were so many looks; when they were."""
        async with asyncio.timeout(60):
            while len(self.at.get(key, ())) < count:  # noqa: ASYNC110 - the queue tells nobody
                await asyncio.sleep(0.01)
        return self.at[key]


@contextlib.asynccontextmanager
async def working(looks: Looks) -> AsyncIterator[Queue]:
    queue = Queue("Demo", looks, noticed=looks.noticed.append)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_what_is_added_often_is_looked_at_once_and_once_more_if_it_came_meanwhile():
    looks = Looks()
    looks.holds.clear()
    async with working(looks) as queue:
        for _ in range(100):
            queue.add(DEMO)
        await looks.reach(1)
        for _ in range(100):
            queue.add(DEMO)
        queue.add(OTHER)
        await looks.reach(1, OTHER)
        looks.holds.set()
        first, second = await looks.reach(2)
        assert second - first >= LEAST_SECONDS
        looks.again = 0.0
    assert len(looks.at[DEMO]) == 2


async def test_a_failure_is_not_tried_again_early_however_often_it_is_added():
    looks = Looks()
    looks.fails = True
    async with working(looks) as queue:
        queue.add(DEMO)
        first = (await looks.reach(1))[0]
        while len(looks.at[DEMO]) < 2:
            queue.add(DEMO)
            await asyncio.sleep(0.01)
        second = looks.at[DEMO][1]
        assert second - first >= 0.8 * FIRST_BACKOFF_SECONDS
        assert queue.failures(DEMO) >= 1


async def test_a_failure_is_tried_again_at_once_when_somebody_changed_something(monkeypatch):
    monkeypatch.setattr(queues, "FIRST_BACKOFF_SECONDS", 60.0)
    looks = Looks()
    looks.fails = True
    async with working(looks) as queue:
        queue.add(DEMO)
        (first,) = await looks.reach(1)
        await asyncio.sleep(0)
        queue.forgive(DEMO)
        queue.add(DEMO)
        second = (await looks.reach(2))[1]
        assert second - first < 0.8 * 60


@pytest.mark.parametrize("again", [0.6, None])
async def test_causes_are_noticed_and_the_clock_is_not(again):
    looks = Looks()
    looks.again = again
    async with working(looks) as queue:
        queue.add(DEMO)
        await looks.reach(1 if again is None else 2)
        assert looks.noticed == [DEMO]
        queue.add(DEMO)
        assert looks.noticed == [DEMO, DEMO]

"""A queue of objects to look at: each at most once in it, one reconcile an object at a time, failures further and further
apart. What triggers a reconcile does not matter to it, so triggers may be many and say nothing."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

Key = tuple[str, str]
"""Namespace and name."""

LEAST_SECONDS: Final = 0.5
"""Between two reconciles of one object, however often it is added."""
FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class Queue:
    """Runs ``reconcile`` for keys. It returns seconds until the key is due again (None: when it is added), or raises."""

    def __init__(
        self,
        kind: str,
        reconcile: Callable[[Key], Awaitable[float | None]],
        workers: int = 4,
        *,
        noticed: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """``noticed`` hears of every key that is added for now, which is because something happened, not of time."""
        self.kind = kind
        self._reconcile = reconcile
        self._noticed = noticed
        self._due: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._changed = asyncio.Event()
        self._workers = workers
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: Key, after: float = 0.0) -> None:
        """Look at an object, ``after`` so many seconds or earlier."""
        if after == 0:
            self._noticed(key)
        if key in self._running and after == 0:
            self._again.add(key)
            return
        at = asyncio.get_running_loop().time() + after
        at = max(at, self._not_before.get(key, 0.0))
        self._due[key] = min(at, self._due.get(key, at))
        self._changed.set()

    def failures(self, key: Key) -> int:
        """How often in a row its reconcile failed."""
        return self._failures.get(key, 0)

    def forgive(self, key: Key) -> None:
        """Somebody changed something: what failed before is tried again at once."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled; what is under way is cancelled with it."""
        try:
            while True:
                self._changed.clear()
                wait = self._start_due()
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _start_due(self) -> float | None:
        now = asyncio.get_running_loop().time()
        for key in sorted(self._due, key=lambda found: self._due[found]):
            if len(self._running) >= self._workers or key in self._running:
                continue
            if self._due[key] > now:
                return self._due[key] - now
            del self._due[key]
            self._running.add(key)
            task = asyncio.create_task(self._one(key), name=f"{self.kind} {key[0]}/{key[1]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None

    async def _one(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        after: float | None
        least = LEAST_SECONDS
        try:
            after = await self._reconcile(key)
            self._failures.pop(key, None)
        except Exception as error:  # noqa: BLE001 - one object must not stop the others
            # Nor must what it did before it failed, and now hears of, have it fail again at once.
            after = least = self._backoff(key)
            _log.exception(
                "a reconcile failed",
                extra={"object": key, "kind": self.kind, "error": str(error), "again": after},
            )
        finally:
            self._running.discard(key)
            self._changed.set()
        self._not_before[key] = loop.time() + least
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif after is not None:
            self.add(key, after)
        else:
            self._not_before.pop(key, None)

    def _backoff(self, key: Key) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return backoff_seconds(count) * random.uniform(0.8, 1.2)


def backoff_seconds(failures: int) -> float:
    """1, 2, 4 ... 60 seconds."""
    return float(min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 10), LONGEST_BACKOFF_SECONDS))

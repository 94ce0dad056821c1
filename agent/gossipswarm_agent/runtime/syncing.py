"""Syncs of many journals of one process, done together.

A hundred agents of one process that each sync their own file cost 70 us of CPU a sync, thread switch included.
Those that wait at the same time are served by one ``syncfs`` of their file system, which takes about as
long as one of theirs. It also writes what other processes have dirty there, so it is given up for a while
when it turns out slow; each file is then synced by itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from gossipswarm_agent.runtime.journal_format import sync_directory

TOGETHER_FROM: Final = 4
"""Journals that wait at the same time, from which on they share a sync of the file system."""
JOBS_AT_ONCE: Final = 4
SLOW_SECONDS: Final = 0.1
"""A sync of the file system that takes longer writes what is not ours..."""
AVOID_SECONDS: Final = 30.0
"""...and is not tried again for this long."""

_log = logging.getLogger(__name__)


class Request:
    """Files to sync, theirs to close, and who waits for it."""

    __slots__ = ("descriptors", "directory", "done")

    def __init__(
        self, descriptors: Sequence[int], directory: Path | None, done: asyncio.Future[float]
    ) -> None:
        self.descriptors = descriptors
        self.directory = directory
        self.done = done


class Syncer:
    """The syncs of one event loop. ``syncer_of`` makes it, and gives the same one to all journals."""

    def __init__(self, executor: Executor | None) -> None:
        self.together = 0
        """Syncs of the whole file system."""
        self.alone = 0
        """Syncs of single journals."""
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._waiting: dict[int, list[Request]] = {}
        self._running: dict[int, int] = {}
        self._avoid_until: dict[int, float] = {}
        self._crowded: dict[int, bool] = {}

    async def sync(self, descriptors: Sequence[int], directory: Path | None) -> float:
        """Sync these files, and the names in ``directory``; close them; seconds it took. Raises OSError."""
        device = os.fstat(descriptors[0]).st_dev if descriptors else -1
        request = Request(descriptors, directory, self._loop.create_future())
        waiting = self._waiting.setdefault(device, [])
        waiting.append(request)
        if len(waiting) == 1:
            # Those who come in the same turn of the loop are served together.
            self._loop.call_soon(self._start_jobs, device)
        return await request.done

    def _start_jobs(self, device: int) -> None:
        waiting = self._waiting[device]
        while waiting and self._running.get(device, 0) < self._jobs_at_once(device):
            self._running[device] = self._running.get(device, 0) + 1
            together = len(waiting) >= TOGETHER_FROM and self._may_go_together(device)
            requests = waiting[:] if together else waiting[:1]
            del waiting[: len(requests)]
            self._crowded[device] = together
            work = sync_together if together else sync_alone
            job = self._loop.run_in_executor(self._executor, work, requests)
            job.add_done_callback(functools.partial(self._finish, device, requests))

    def _jobs_at_once(self, device: int) -> int:
        # Where many wait, the next are on their way: one job after the other serves more at a time.
        return 1 if self._crowded.get(device) else JOBS_AT_ONCE

    def _may_go_together(self, device: int) -> bool:
        return _syncfs() is not None and self._avoid_until.get(device, 0.0) <= self._loop.time()

    def _finish(
        self,
        device: int,
        requests: list[Request],
        job: asyncio.Future[tuple[float, list[OSError | None]]],
    ) -> None:
        self._running[device] -= 1
        try:
            seconds, errors = job.result()
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            for request in requests:
                if not request.done.done():
                    request.done.set_exception(OSError(f"cannot sync: {error!r}"))
            return
        if len(requests) > 1:
            self.together += 1
            if seconds > SLOW_SECONDS:
                self._avoid_until[device] = self._loop.time() + AVOID_SECONDS
                _log.debug("syncing journals one by one", extra={"seconds": seconds})
        else:
            self.alone += 1
        for request, failed in zip(requests, errors, strict=True):
            if request.done.done():
                continue
            if failed is not None:
                request.done.set_exception(failed)
            else:
                request.done.set_result(seconds)
        self._start_jobs(device)


_syncers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Executor | None, Syncer]] = (
    weakref.WeakKeyDictionary()
)


def syncer_of(executor: Executor | None) -> Syncer:
    """The syncer that all journals of this event loop and executor share."""
    syncers = _syncers.setdefault(asyncio.get_running_loop(), {})
    if executor not in syncers:
        syncers[executor] = Syncer(executor)
    return syncers[executor]


# --- in threads -----------------------------------------------------------------------------------


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """The system call, where it exists and tells of errors (Linux 5.8)."""
    release = os.uname().release.split(".")
    if os.uname().sysname != "Linux" or not release[0].isdigit():
        return None
    if (int(release[0]), int(release[1])) < (5, 8):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None
    call: Callable[[int], int] = function
    return call


def sync_together(requests: Sequence[Request]) -> tuple[float, list[OSError | None]]:
    """Sync the file system of all of them; seconds, and each one's error."""
    began = time.perf_counter()
    syncfs = _syncfs()
    assert syncfs is not None
    if syncfs(requests[0].descriptors[0]) != 0:
        # It may be another's file that failed: let each learn of its own.
        errors = [sync_alone([request])[1][0] for request in requests]
        return time.perf_counter() - began, errors
    for request in requests:
        _close(request)
    return time.perf_counter() - began, [None] * len(requests)


def sync_alone(requests: Sequence[Request]) -> tuple[float, list[OSError | None]]:
    """Sync the files of one; seconds, and its error."""
    began = time.perf_counter()
    [request] = requests
    error: OSError | None = None
    try:
        for descriptor in request.descriptors:
            os.fdatasync(descriptor)
        if request.directory is not None:
            sync_directory(request.directory)
    except OSError as failed:
        error = failed
    finally:
        _close(request)
    return time.perf_counter() - began, [error]


def _close(request: Request) -> None:
    for descriptor in request.descriptors:
        os.close(descriptor)

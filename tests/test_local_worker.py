"""A worker's end, as the supervisor tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile

import pytest

from gossipctl.local.worker import Worker, WorkerGone


@pytest.fixture
async def worker(tmp_path):
    with tempfile.TemporaryFile() as lock:
        worker = await Worker.start(0, tmp_path, lock.fileno())
        yield worker
        worker.kill()
        await worker.closed.wait()


def dead(pid):
    """Wait until it is dead, and leave its status to who asks next."""
    with contextlib.suppress(ChildProcessError):  # asyncio's watcher was first
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_one_that_dies_with_a_request_unread_was_killed_by_what_killed_it(worker, caplog):
    os.kill(worker.pid, signal.SIGSTOP)
    request = asyncio.create_task(worker.request("status"))
    await asyncio.sleep(0)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerGone):
        await request
    assert worker.exit_text == "killed by SIGKILL"
    assert "no protocol" not in caplog.text


async def test_one_that_is_killed_twice_was_killed_all_the_same(worker):
    os.kill(worker.pid, signal.SIGKILL)
    dead(worker.pid)
    worker.kill()
    await worker.closed.wait()
    assert worker.exit_text == "killed by SIGKILL"

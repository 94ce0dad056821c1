"""One worker process, as the supervisor sees it: started, spoken to over a socket pair, noticed when gone.

The worker inherits one end of the pair. Requests and answers are JSON lines with an id; when the
supervisor dies, the kernel closes its end and the worker leaves by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from gossipctl.local.errors import LocalError

ANSWER_SECONDS: Final = 60.0
LINE_BYTES: Final = 64 << 20
TERMINATE_SECONDS: Final = 12.0
"""From being told to leave until SIGKILL; a worker allows its agents a little less."""

_log = logging.getLogger(__name__)


class WorkerGone(Exception):
    """The worker died before it answered."""


class Worker:
    """A live worker process. Made by ``start``, over once ``closed`` is set."""

    def __init__(
        self,
        index: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        last_words: Path,
    ) -> None:
        self.index = index
        self.name = worker_name(index)
        self.pid = process.pid
        self.closed = asyncio.Event()
        self._process = process
        self._reader = reader
        self._writer = writer
        self._last_words = last_words
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._pump = asyncio.create_task(self._read(), name=f"answers of {self.name}")

    @classmethod
    async def start(cls, index: int, logs: Path, lock: int) -> Worker:
        """Launch the process. ``lock`` is held by it until it is gone."""
        ours, theirs = socket.socketpair()
        log = logs / f"{worker_name(index)}.log"
        last_words = logs / f"{worker_name(index)}.stderr"
        crash = os.open(last_words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gossipswarm_agent.host"),
                *("--control-fd", str(theirs.fileno())),
                *("--name", worker_name(index), "--log", str(log)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=crash,
                stderr=crash,
                pass_fds=(theirs.fileno(), lock),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(crash)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        return cls(index, process, reader, writer, last_words)

    async def request(self, op: str, /, *, within: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        """The worker's answer.

        Raises:
            WorkerGone: it died first.
            LocalError: it refused, or took more than ``within`` seconds.
        """
        if self.closed.is_set():
            raise WorkerGone(self.name)
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(msgspec.json.encode({"id": number, "op": op, **arguments}) + b"\n")
        try:
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise LocalError(
                "worker-timeout", f"{self.name} did not answer {op} within {within:g} s"
            ) from None
        finally:
            self._answers.pop(number, None)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = msgspec.json.decode(line)
                future = self._answers.get(answer["id"])
                if future is None or future.done():
                    continue
                if "error" in answer:
                    future.set_exception(LocalError.from_dict(answer["error"]))
                else:
                    future.set_result(answer.get("result"))
        except OSError:
            pass  # it died before it read a request: the kernel calls that a reset
        except (ValueError, KeyError) as error:
            _log.error("%s speaks no protocol of ours: %r", self.name, error)
            self.kill()
        finally:
            self._writer.close()
            await self._await_exit()
            self.closed.set()
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(WorkerGone(self.name))
                    future.exception()  # its requester may be gone already

    async def _await_exit(self) -> None:
        """A worker whose socket ended is about to end itself; should it hang, it is of no use to anybody."""
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            _log.warning("%s does not end; killing it", self.name)
            self.kill()
            await self._process.wait()

    @property
    def exit_text(self) -> str:
        """How it ended."""
        code = self._process.returncode
        if code is None:
            return "running"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        try:
            words = self._last_words.read_text(errors="replace").strip().rpartition("\n")[2]
        except OSError:
            words = ""
        return f"exit code {code}" + (f": {words}" if words else "")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process.returncode is None:
            # Process.kill looks first whether it is dead, and so takes its exit status from asyncio's watcher.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Let it end in order, or else insist; returns when the process is gone."""
        self._writer.close()
        await self._pump


def worker_name(index: int) -> str:
    """Name of a worker: its agents carry it as their ``host`` label."""
    return f"worker-{index + 1}"

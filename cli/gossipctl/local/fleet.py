"""The worker processes of a swarm: as many as the spec says, started again when they die.

A worker that dies is started again at growing intervals if it keeps dying. What lives in it is not this
module's business: whoever hosts agents there is told when a worker comes and goes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gossipctl.local.credentials import Secrets
from gossipctl.local.errors import LocalError, storage_error
from gossipctl.local.layout import Layout
from gossipctl.local.spec import AgentRecord, SpecFile
from gossipctl.local.worker import Worker, WorkerGone, worker_name

HOST: Final = "127.0.0.1"
WORKER_SECONDS: Final = 30.0
BACKOFF_SECONDS: Final = (0.1, 5.0)
STEADY_SECONDS: Final = 10.0
"""A worker that lived this long starts again at once."""

_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    """A place for a worker: the process in it changes, the index and the agents stay."""

    index: int
    worker: Worker | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    last_exit: str = ""
    task: asyncio.Task[None] | None = None


class Fleet:
    """All workers of one swarm. ``start`` before anything else, ``stop`` at the end.

    ``on_up`` and ``on_death`` are told the index of a worker that takes orders, or that died unbidden.
    """

    def __init__(self, layout: Layout, book: SpecFile, secrets: Secrets, workers_lock: int) -> None:
        self.on_up: Callable[[int], None] = lambda _: None
        self.on_death: Callable[[int], None] = lambda _: None
        self._layout = layout
        self._book = book
        self._secrets = secrets
        self._workers_lock = workers_lock
        self._slots = [_Slot(index) for index in range(book.spec.workers)]
        self._stopping = False

    async def start(self) -> None:
        """Launch the workers; returns once all of them take orders.

        Raises LocalError if one cannot be started or refuses its configuration.
        """
        first: list[asyncio.Future[None]] = []
        for slot in self._slots:
            up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first.append(up)
            slot.task = asyncio.create_task(self._keep(slot, up), name=worker_name(slot.index))
        for outcome in await asyncio.gather(*first, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _keep(self, slot: _Slot, up: asyncio.Future[None]) -> None:
        """Have a worker in ``slot`` until the fleet stops."""
        pause = BACKOFF_SECONDS[0]
        while not self._stopping:
            began = time.monotonic()
            try:
                slot.worker = await self._launch(slot.index)
            except (LocalError, WorkerGone) as error:
                if not up.done():
                    up.set_exception(_start_failure(slot.index, error))
                    return
                _log.error("%s did not start: %s", worker_name(slot.index), error)
            else:
                slot.ready.set()
                self.on_up(slot.index)
                if not up.done():
                    up.set_result(None)
                await slot.worker.closed.wait()
                slot.ready.clear()
                self._note_death(slot, slot.worker)
                slot.worker = None
            if self._stopping:
                return
            steady = time.monotonic() - began > STEADY_SECONDS
            pause = BACKOFF_SECONDS[0] if steady else min(2 * pause, BACKOFF_SECONDS[1])
            await asyncio.sleep(0 if steady else pause)

    async def _launch(self, index: int) -> Worker:
        try:
            worker = await Worker.start(index, self._layout.logs, self._workers_lock)
        except OSError as error:
            raise storage_error(f"start {worker_name(index)}", error) from None
        try:
            await worker.request("configure", within=WORKER_SECONDS, **self._configuration())
        except WorkerGone:
            raise LocalError("worker-failed", worker.exit_text) from None
        except BaseException:
            await worker.stop()
            raise
        _log.info("%s is up, pid %d", worker.name, worker.pid)
        return worker

    def _configuration(self) -> dict[str, Any]:
        spec = self._book.spec
        return {
            "swarm": spec.uid,
            "host": HOST,
            "keys": self._secrets.keys if spec.encryption else None,
            "read_token": self._secrets.read_token,
            "write_token": self._secrets.write_token,
            "settings": self.settings(),
            "agents_dir": str(self._layout.agents),
            "hooks": spec.hooks,
            "declared": self.declared(),
        }

    def settings(self) -> dict[str, Any]:
        """Parameters that an agent starts with, before it hears what the swarm's own state says."""
        spec = self._book.spec
        return {**spec.settings, "max_agents": spec.max_agents}

    def declared(self) -> dict[str, str]:
        """Who ought to be in the swarm: name to region."""
        return {record.name: record.region for record in self._book.spec.agents.values()}

    def _note_death(self, slot: _Slot, worker: Worker) -> None:
        if self._stopping:
            return
        slot.restarts += 1
        slot.last_exit = worker.exit_text
        _log.error("%s ended: %s; starting it again", worker.name, slot.last_exit)
        self.on_death(slot.index)

    # --- what others ask --------------------------------------------------------------------------

    def records_of(self, index: int) -> list[AgentRecord]:
        """Declared agents that belong into a worker."""
        return [record for record in self._book.spec.agents.values() if record.worker == index]

    def live(self) -> list[tuple[int, Worker]]:
        """Workers that take orders, with their indices."""
        return [
            (slot.index, slot.worker)
            for slot in self._slots
            if slot.worker is not None and slot.ready.is_set()
        ]

    async def worker(self, index: int) -> Worker:
        """The worker in this place, waiting for it if it is being started; LocalError if it is not to be."""
        slot = self._slots[index]
        try:
            async with asyncio.timeout(WORKER_SECONDS):
                await slot.ready.wait()
        except TimeoutError:
            raise LocalError(
                "worker-down", f"{worker_name(index)} is down: {slot.last_exit}"
            ) from None
        assert slot.worker is not None
        return slot.worker

    def describe_workers(self) -> list[dict[str, Any]]:
        """Per worker: name, pid (None while it is down), agents, restarts, last_exit."""
        return [
            {
                "name": worker_name(slot.index),
                "pid": slot.worker.pid if slot.worker else None,
                "agents": len(self.records_of(slot.index)),
                "restarts": slot.restarts,
                "last_exit": slot.last_exit,
            }
            for slot in self._slots
        ]

    async def kill_worker(self, index: int) -> None:
        """SIGKILL the worker in this slot and wait for its end; it is started again."""
        worker = self._slots[index].worker
        if worker is not None:
            worker.kill()
            await worker.closed.wait()

    async def everywhere(self, op: str, **arguments: Any) -> list[Any]:
        """One request to every live worker; the answers of those that lived to give one."""
        return await self._ask([worker for _, worker in self.live()], op, arguments)

    async def anywhere(self, op: str, **arguments: Any) -> Any:
        """The answer of some live worker; LocalError if there is none for long."""
        while True:
            for worker in [await self.worker(0), *(worker for _, worker in self.live())]:
                answers = await self._ask([worker], op, arguments)
                if answers:
                    return answers[0]

    @staticmethod
    async def _ask(workers: list[Worker], op: str, arguments: dict[str, Any]) -> list[Any]:
        answers = await asyncio.gather(
            *(worker.request(op, **arguments) for worker in workers), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, WorkerGone):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    # --- the end ----------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End every worker, and so every agent, keeping all data."""
        self._stopping = True
        await asyncio.gather(
            *(slot.worker.stop() for slot in self._slots if slot.worker), return_exceptions=True
        )
        keepers = [slot.task for slot in self._slots if slot.task is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


def _start_failure(index: int, error: Exception) -> LocalError:
    if isinstance(error, LocalError) and error.reason != "worker-failed":
        return error
    return LocalError("worker-failed", f"{worker_name(index)} did not start: {error}")

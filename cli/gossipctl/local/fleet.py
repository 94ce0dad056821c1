"""The workers of a swarm and the agents in them, kept as the spec declares them.

A worker that dies is started again with its agents, at growing intervals if it keeps dying. An agent that
cannot start is tried again likewise. Nothing here decides what ought to be; ``operations`` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gossipctl.local.credentials import Secrets
from gossipctl.local.cuts import drops_of
from gossipctl.local.errors import LocalError, storage_error
from gossipctl.local.layout import Layout
from gossipctl.local.placement import SeedPool
from gossipctl.local.spec import AgentRecord, SpecFile
from gossipctl.local.worker import Worker, WorkerGone, worker_name

HOST: Final = "127.0.0.1"
JOIN_SECONDS: Final = 10.0
"""How long a start waits for the agent to be known to a peer, before it reports it as not joined."""
START_SECONDS: Final = 60.0
WORKER_SECONDS: Final = 30.0
BACKOFF_SECONDS: Final = (0.1, 5.0)
STEADY_SECONDS: Final = 10.0
"""A worker that lived this long starts again at once."""
ROSTER_SECONDS: Final = 0.05
"""Changes of the declared membership within this time reach the workers as one message each."""

_log = logging.getLogger(__name__)


@dataclass
class AgentState:
    """What has become of a declared agent."""

    status: Literal["starting", "running", "stopped", "failed"] = "stopped"
    joined: bool = False
    error: LocalError | None = None
    attempts: int = 0


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
    """All workers of one swarm. ``start`` before anything else, ``stop`` at the end."""

    def __init__(self, layout: Layout, book: SpecFile, secrets: Secrets, workers_lock: int) -> None:
        self.states: dict[str, AgentState] = {}
        self._layout = layout
        self._book = book
        self._secrets = secrets
        self._workers_lock = workers_lock
        self._slots = [_Slot(index) for index in range(book.spec.workers)]
        self._starting: dict[str, asyncio.Task[AgentState]] = {}
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._founding = asyncio.Lock()
        self._roster_dirty = asyncio.Event()
        self._roster_task: asyncio.Task[None] | None = None
        self._stopping = False

    # --- workers ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Launch the workers and, in the background, their agents.

        Raises LocalError if a worker cannot be started or refuses its configuration.
        """
        first: list[asyncio.Future[None]] = []
        for slot in self._slots:
            up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first.append(up)
            slot.task = asyncio.create_task(self._keep(slot, up), name=worker_name(slot.index))
        await asyncio.gather(*first)
        self._roster_task = asyncio.create_task(self._keep_roster(), name="roster")

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
                self._start_agents_of(slot.index)
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
            **self._roster(()),
        }

    def settings(self) -> dict[str, Any]:
        """Parameters that an agent starts with, before it hears what the swarm's own state says."""
        spec = self._book.spec
        return {**spec.settings, "max_agents": spec.max_agents}

    def _note_death(self, slot: _Slot, worker: Worker) -> None:
        if self._stopping:
            return
        slot.restarts += 1
        slot.last_exit = worker.exit_text
        agents = self._records_of(slot.index)
        for record in agents:
            if record.wanted == "running":
                self.states[record.name] = AgentState("starting")
        _log.error(
            "%s ended: %s; starting it again with its %d agents",
            worker.name,
            slot.last_exit,
            len(agents),
        )

    def _records_of(self, index: int) -> list[AgentRecord]:
        return [record for record in self._book.spec.agents.values() if record.worker == index]

    def describe_workers(self) -> list[dict[str, Any]]:
        """Per worker: name, pid (None while it is down), agents, restarts, last_exit."""
        return [
            {
                "name": worker_name(slot.index),
                "pid": slot.worker.pid if slot.worker else None,
                "agents": len(self._records_of(slot.index)),
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
        return await self._ask(self._slots, op, arguments)

    async def anywhere(self, op: str, **arguments: Any) -> Any:
        """The answer of some live worker."""
        async with asyncio.timeout(WORKER_SECONDS):
            while True:
                for slot in self._slots:
                    answers = await self._ask([slot], op, arguments)
                    if answers:
                        return answers[0]
                await self._slots[0].ready.wait()

    async def _ask(self, slots: Iterable[_Slot], op: str, arguments: dict[str, Any]) -> list[Any]:
        workers = [slot.worker for slot in slots if slot.worker and slot.ready.is_set()]
        answers = await asyncio.gather(
            *(worker.request(op, **arguments) for worker in workers), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, WorkerGone):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    # --- agents -----------------------------------------------------------------------------------

    def _start_agents_of(self, index: int) -> None:
        for record in self._records_of(index):
            if record.wanted == "running":
                self.ensure(record)

    def ensure(self, record: AgentRecord) -> asyncio.Task[AgentState]:
        """Start an agent unless it runs; the task ends when it is up and has joined, or has failed."""
        task = self._starting.get(record.name)
        if task is None:
            self._cancel_retry(record.name)
            previous = self.states.get(record.name, AgentState())
            self.states[record.name] = AgentState("starting", attempts=previous.attempts)
            task = asyncio.create_task(self._start_agent(record), name=f"start {record.name}")
            self._starting[record.name] = task
            task.add_done_callback(lambda _: self._starting.pop(record.name, None))
        return task

    async def _start_agent(self, record: AgentRecord) -> AgentState:
        state = self.states[record.name]
        try:
            answer = await self._start_knowing_somebody(record)
        except LocalError as error:
            state.status, state.error = "failed", error
            state.attempts += 1
            _log.error("agent %s did not start: %s", record.name, error)
            self._retry_later(record, state)
            return state
        record.gossip_port, record.api_port = answer["gossip_port"], answer["api_port"]
        state.status, state.joined = "running", answer["joined"]
        state.error, state.attempts = None, 0
        self.roster_changed()
        return state

    async def _start_knowing_somebody(self, record: AgentRecord) -> Any:
        """Start with seeds; only one agent at a time may start without, or there would be several first."""
        while True:
            try:
                if not self._seeds(record):
                    async with self._founding:
                        if not self._seeds(record):
                            return await self._request_start(record, [])
                return await self._request_start(record, self._seeds(record))
            except WorkerGone:
                # Its keeper must get a turn to notice as well, or this would spin.
                await asyncio.sleep(0)

    def _seeds(self, record: AgentRecord) -> list[Any]:
        return SeedPool(self._book.spec.agents.values(), HOST).draw(record)

    async def _request_start(self, record: AgentRecord, seeds: list[Any]) -> Any:
        slot = self._slots[record.worker]
        try:
            async with asyncio.timeout(WORKER_SECONDS):
                await slot.ready.wait()
        except TimeoutError:
            raise LocalError(
                "worker-down", f"{worker_name(slot.index)} is down: {slot.last_exit}"
            ) from None
        spec = self._book.spec
        drops = drops_of(spec.cuts, spec.regions)[record.region]
        within_reach = [seed for seed in seeds if seed[2] not in drops.inbound + drops.outbound]
        labels = {
            **record.labels,
            "host": worker_name(record.worker),
            "type": record.type,
        }
        if record.capabilities:
            labels["capabilities"] = ",".join(record.capabilities)
        assert slot.worker is not None
        return await slot.worker.request(
            "start",
            within=START_SECONDS,
            name=record.name,
            region=record.region,
            labels=labels,
            gossip_port=record.gossip_port,
            api_port=record.api_port,
            seeds=seeds,
            drops=drops,
            join_seconds=JOIN_SECONDS if within_reach else 0,
        )

    async def settled(self) -> None:
        """Wait until every agent that was to start is up, or has failed once."""
        while self._starting:
            await asyncio.wait(list(self._starting.values()))

    def _retry_later(self, record: AgentRecord, state: AgentState) -> None:
        low, high = BACKOFF_SECONDS
        delay = min(low * 2**state.attempts, 6 * high)
        loop = asyncio.get_running_loop()
        self._retries[record.name] = loop.call_later(delay, self._retry, record)

    def _retry(self, record: AgentRecord) -> None:
        self._retries.pop(record.name, None)
        if record.wanted == "running" and not self._stopping:
            self.ensure(record)

    def _cancel_retry(self, name: str) -> None:
        timer = self._retries.pop(name, None)
        if timer is not None:
            timer.cancel()

    async def halt(self, record: AgentRecord, *, leave: bool, heirs: Sequence[str] = ()) -> None:
        """Stop an agent. ``leave``: say goodbye. ``heirs``: first see that one of these has all it has.

        Raises LocalError if none of the heirs answers; the agent goes on running then.
        """
        self._cancel_retry(record.name)
        starting = self._starting.get(record.name)
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        worker = self._slots[record.worker].worker
        if worker is not None:
            with suppress(WorkerGone):  # then it does not run any more either
                await worker.request("stop", name=record.name, leave=leave, heirs=list(heirs))
        self.states[record.name] = AgentState("stopped")
        self.roster_changed()

    def forget(self, name: str) -> None:
        """The agent is no longer declared."""
        self._cancel_retry(name)
        self.states.pop(name, None)
        self.roster_changed()

    # --- membership as declared -------------------------------------------------------------------

    def roster_changed(self) -> None:
        """Tell the workers soon who belongs to the swarm and where to find a few of them."""
        self._roster_dirty.set()

    def _roster(self, agents: Iterable[AgentRecord]) -> dict[str, Any]:
        records = self._book.spec.agents.values()
        pool = SeedPool(records, HOST)
        return {
            "declared": {record.name: record.region for record in records},
            "seeds": {record.name: pool.draw(record) for record in agents},
        }

    async def _keep_roster(self) -> None:
        while True:
            await self._roster_dirty.wait()
            await asyncio.sleep(ROSTER_SECONDS)
            self._roster_dirty.clear()
            tellings = []
            for slot in self._slots:
                if slot.worker is not None and slot.ready.is_set():
                    running = [
                        record
                        for record in self._records_of(slot.index)
                        if self.states.get(record.name, AgentState()).status == "running"
                    ]
                    tellings.append(slot.worker.request("peers", **self._roster(running)))
            for outcome in await asyncio.gather(*tellings, return_exceptions=True):
                if isinstance(outcome, Exception):
                    # A dead worker gets the roster when it is back; a slow one, with the next change.
                    _log.warning("a worker did not take the roster: %s", outcome)

    # --- the end ----------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End every worker, and so every agent, keeping all data."""
        self._stopping = True
        for timer in self._retries.values():
            timer.cancel()
        owned = [*self._starting.values()]
        if self._roster_task is not None:
            owned.append(self._roster_task)  # type: ignore[arg-type]
        for task in owned:
            task.cancel()
        await asyncio.gather(
            *(slot.worker.stop() for slot in self._slots if slot.worker), return_exceptions=True
        )
        keepers = [slot.task for slot in self._slots if slot.task is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*owned, *keepers, return_exceptions=True)


def _start_failure(index: int, error: Exception) -> LocalError:
    if isinstance(error, LocalError) and error.reason != "worker-failed":
        return error
    return LocalError("worker-failed", f"{worker_name(index)} did not start: {error}")

"""The agents of a swarm, kept running in their workers as the spec declares them.

An agent that cannot start is tried again, ever more slowly. Nothing here decides what ought to be;
``agents`` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from gossipctl.local.cuts import drops_of
from gossipctl.local.errors import LocalError
from gossipctl.local.fleet import HOST, Fleet
from gossipctl.local.placement import SeedPool
from gossipctl.local.spec import AgentRecord, SpecFile
from gossipctl.local.worker import WorkerGone, worker_name

JOIN_SECONDS: Final = 10.0
"""How long a start waits for the agent to be known to a peer, before it reports it as not joined."""
START_SECONDS: Final = 60.0
RETRY_SECONDS: Final = (0.2, 30.0)
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


class Population:
    """Starts and stops agents in the workers of ``fleet``. ``close`` it before the fleet is stopped."""

    def __init__(self, book: SpecFile, fleet: Fleet) -> None:
        self._states: dict[str, AgentState] = {}
        self._book = book
        self._fleet = fleet
        fleet.on_up = self._start_all_of
        fleet.on_death = self._note_death
        self._starting: dict[str, asyncio.Task[AgentState]] = {}
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._founding = asyncio.Lock()
        self._roster_dirty = asyncio.Event()
        self._roster = asyncio.create_task(self._keep_roster(), name="roster")
        self._closed = False

    def state(self, name: str) -> AgentState:
        """What has become of this agent."""
        return self._states.get(name, AgentState())

    def running(self) -> list[AgentRecord]:
        """Agents that are up."""
        return [
            record
            for record in self._book.spec.agents.values()
            if self.state(record.name).status == "running"
        ]

    async def settled(self) -> None:
        """Wait until every agent that was to start is up, or has failed once."""
        while self._starting:
            await asyncio.wait(list(self._starting.values()))

    # --- starting ---------------------------------------------------------------------------------

    def _start_all_of(self, worker: int) -> None:
        for record in self._fleet.records_of(worker):
            if record.wanted == "running":
                self.ensure(record)

    def _note_death(self, worker: int) -> None:
        for record in self._fleet.records_of(worker):
            if record.wanted == "running":
                self._states[record.name] = AgentState("starting")

    def ensure(self, record: AgentRecord) -> asyncio.Task[AgentState]:
        """Start an agent unless it runs; the task ends when it is up and has joined, or has failed."""
        task = self._starting.get(record.name)
        if task is None:
            self._cancel_retry(record.name)
            state = AgentState("starting", attempts=self.state(record.name).attempts)
            self._states[record.name] = state
            task = asyncio.create_task(self._start(record, state), name=f"start {record.name}")
            self._starting[record.name] = task
            task.add_done_callback(lambda _: self._starting.pop(record.name, None))
        return task

    async def _start(self, record: AgentRecord, state: AgentState) -> AgentState:
        try:
            answer = await self._start_knowing_somebody(record)
        except LocalError as error:
            state.status, state.error = "failed", error
            state.attempts += 1
            _log.error("agent %s did not start: %s", record.name, error)
            self._retry_later(record, state)
        else:
            record.gossip_port, record.api_port = answer["gossip_port"], answer["api_port"]
            state.status, state.joined = "running", answer["joined"]
            state.attempts = 0
            self.roster_changed()
        # A worker that died meanwhile has put another state in its place; this is the newer one.
        self._states[record.name] = state
        return state

    async def _start_knowing_somebody(self, record: AgentRecord) -> Any:
        """Start with seeds; only one agent at a time may start without, or there would be several first."""
        while True:
            try:
                if not self._seeds(record):
                    async with self._founding:
                        if not self._seeds(record):
                            return await self._order_start(record, [])
                return await self._order_start(record, self._seeds(record))
            except WorkerGone:
                # Its keeper must get a turn to notice as well, or this would spin.
                await asyncio.sleep(0)

    def _seeds(self, record: AgentRecord) -> list[Any]:
        return SeedPool(self._book.spec.agents.values(), HOST).draw(record)

    async def _order_start(self, record: AgentRecord, seeds: list[Any]) -> Any:
        worker = await self._fleet.worker(record.worker)
        spec = self._book.spec
        drops = drops_of(spec.cuts, spec.regions)[record.region]
        within_reach = [seed for seed in seeds if seed[2] not in drops.inbound + drops.outbound]
        labels = {**record.labels, "host": worker_name(record.worker), "type": record.type}
        if record.capabilities:
            labels["capabilities"] = ",".join(record.capabilities)
        return await worker.request(
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

    def _retry_later(self, record: AgentRecord, state: AgentState) -> None:
        first, longest = RETRY_SECONDS
        delay = min(first * 2**state.attempts, longest)
        loop = asyncio.get_running_loop()
        self._retries[record.name] = loop.call_later(delay, self._retry, record)

    def _retry(self, record: AgentRecord) -> None:
        self._retries.pop(record.name, None)
        if record.wanted == "running" and not self._closed:
            self.ensure(record)

    def _cancel_retry(self, name: str) -> None:
        timer = self._retries.pop(name, None)
        if timer is not None:
            timer.cancel()

    # --- stopping ---------------------------------------------------------------------------------

    async def halt(self, record: AgentRecord, *, leave: bool, heirs: Sequence[str] = ()) -> None:
        """Stop an agent. ``leave``: say goodbye. ``heirs``: first see that one of these has all it has.

        Raises LocalError if none of the heirs answers; the agent goes on running then.
        """
        self._cancel_retry(record.name)
        starting = self._starting.get(record.name)
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        worker = dict(self._fleet.live()).get(record.worker)
        if worker is not None:
            with suppress(WorkerGone):  # then it does not run any more either
                await worker.request("stop", name=record.name, leave=leave, heirs=list(heirs))
        self._states[record.name] = AgentState("stopped")
        self.roster_changed()

    def forget(self, name: str) -> None:
        """The agent is no longer declared."""
        self._cancel_retry(name)
        self._states.pop(name, None)
        self.roster_changed()

    # --- membership as declared -------------------------------------------------------------------

    def roster_changed(self) -> None:
        """Tell the workers soon who belongs to the swarm, and their agents where to find a few of them."""
        self._roster_dirty.set()

    async def _keep_roster(self) -> None:
        while True:
            await self._roster_dirty.wait()
            await asyncio.sleep(ROSTER_SECONDS)
            self._roster_dirty.clear()
            for outcome in await asyncio.gather(*self._tellings(), return_exceptions=True):
                if isinstance(outcome, Exception):
                    # A dead worker gets the roster when it is back; a slow one, with the next change.
                    _log.warning("a worker did not take the roster: %s", outcome)

    def _tellings(self) -> list[Coroutine[Any, Any, Any]]:
        declared = self._fleet.declared()
        pool = SeedPool(self._book.spec.agents.values(), HOST)
        return [
            worker.request(
                "peers",
                declared=declared,
                seeds={
                    record.name: pool.draw(record)
                    for record in self._fleet.records_of(index)
                    if self.state(record.name).status == "running"
                },
            )
            for index, worker in self._fleet.live()
        ]

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Start nothing any more."""
        self._closed = True
        for timer in self._retries.values():
            timer.cancel()
        owned: list[asyncio.Task[Any]] = [self._roster, *self._starting.values()]
        for task in owned:
            task.cancel()
        await asyncio.gather(*owned, return_exceptions=True)

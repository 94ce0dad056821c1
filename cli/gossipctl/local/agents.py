"""Operations on agents: spawn, stop, restart, list, resolve."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from gossipctl.local import requests
from gossipctl.local.credentials import Secrets
from gossipctl.local.errors import UNREACHABLE, USAGE, LocalError, storage_error, unknown
from gossipctl.local.fleet import HOST, Fleet
from gossipctl.local.layout import Layout, check_agent_name
from gossipctl.local.placement import choose_worker, fresh_names
from gossipctl.local.population import AgentState, Population
from gossipctl.local.spec import AgentRecord, SpecFile, timestamp
from gossipctl.local.worker import worker_name

Emit: TypeAlias = Callable[[dict[str, Any]], None]
"""Sends one line of a stream before the last; does nothing for a request that is none."""

STOPS_AT_ONCE: Final = 16
HEIRS: Final = 3

_log = logging.getLogger(__name__)


class AgentOperations:
    """What can be done to agents. Declarations change here and nowhere else."""

    def __init__(
        self,
        layout: Layout,
        book: SpecFile,
        secrets: Secrets,
        fleet: Fleet,
        population: Population,
    ) -> None:
        self._layout = layout
        self._book = book
        self._secrets = secrets
        self._fleet = fleet
        self._population = population

    # --- spawning ---------------------------------------------------------------------------------

    async def spawn(self, request: requests.Spawn, emit: Emit) -> dict[str, Any]:
        """Declare agents, start them and wait until they have joined."""
        records = self._reserve(request)
        return {"agents": await self.bring_up(records, emit)}

    def _reserve(self, request: requests.Spawn) -> list[AgentRecord]:
        """Declare the agents asked for. Never awaits: however many ask at once, limits hold."""
        spec = self._book.spec
        if request.name is not None:
            check_agent_name(request.name)
        region = self._region(request.region)
        if request.name is not None and request.count == 1:
            known = spec.agents.get(request.name)
            if known is not None:
                return [self._again(known, request)]
            names = [request.name]
        else:
            prefix = request.name or f"gossip-{region}"
            names = fresh_names(prefix, spec.agents, request.count)
        return self.declare(names, region, request)

    def declare(self, names: list[str], region: str, like: requests.Spawn) -> list[AgentRecord]:
        """Records of new agents, all or none of them; LocalError if the swarm admits no more."""
        spec = self._book.spec
        if len(spec.agents) + len(names) > spec.max_agents:
            raise LocalError(
                "max-agents",
                f"{len(names)} more would exceed the {spec.max_agents} agents that swarm {spec.name} "
                f"admits; it has {len(spec.agents)}",
                "remove some with: gossipctl agent stop NAME --remove; or raise the limit with: "
                "gossipctl gossip config --max-agents N",
                USAGE,
            )
        records = []
        for name in names:
            records.append(
                AgentRecord(
                    name=name,
                    region=region,
                    worker=choose_worker(spec.agents.values(), region, spec.workers),
                    type=like.type or "worker",
                    capabilities=like.capabilities or [],
                    labels=like.labels,
                    created_at=timestamp(),
                )
            )
            spec.agents[name] = records[-1]
        self._population.roster_changed()
        return records

    def _again(self, known: AgentRecord, request: requests.Spawn) -> AgentRecord:
        """A stopped agent that is asked for again, the same as it was, goes on with its data."""
        if known.wanted == "running":
            raise LocalError(
                "agent-exists",
                f"agent {known.name} is there already, in {known.region}",
                f"choose another name, or stop it first with: gossipctl agent stop {known.name}",
                USAGE,
            )
        if not known.fits(request.region, request.type, request.capabilities):
            raise LocalError(
                "agent-differs",
                f"agent {known.name} is stopped, and was a {known.type} in {known.region} with "
                f"capabilities {', '.join(known.capabilities) or 'none'}",
                f"ask for the same, or remove it first with: gossipctl agent stop {known.name} --remove",
                USAGE,
            )
        known.wanted = "running"
        return known

    def _region(self, name: str | None) -> str:
        regions = self._book.spec.regions
        if name is None:
            members = [record.region for record in self._book.spec.agents.values()]
            return min(regions, key=lambda region: (members.count(region), regions.index(region)))
        if name not in regions:
            raise unknown("region", name, regions)
        return name

    async def bring_up(self, records: list[AgentRecord], emit: Emit) -> list[dict[str, Any]]:
        """Start declared agents; those that cannot start are no longer declared afterwards."""
        new = {record.name for record in records if not record.gossip_port}
        tasks = {record.name: self._population.ensure(record) for record in records}
        by_task = {task: self._book.spec.agents[name] for name, task in tasks.items()}
        left: set[asyncio.Task[AgentState]] = set(by_task)
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and task.result().error is None:
                    emit({"agent": self.describe(by_task[task])})
        failures = []
        for task, record in by_task.items():
            if task.cancelled():
                error = LocalError("agent-stopped", f"agent {record.name} was stopped meanwhile")
            elif (problem := task.result().error) is not None:
                error = problem
            else:
                continue
            failures.append((record, error))
        for record, _ in failures:
            await self._undo(record, forget=record.name in new)
        try:
            await self._book.save()
        except OSError as error:
            # Not on disk means not there after a crash: it must not be acknowledged.
            for record in records:
                await self._undo(record, forget=record.name in new)
            raise storage_error("record the agent", error) from None
        if failures:
            record, first = failures[0]
            if len(records) == 1:
                raise first
            raise LocalError(
                first.reason,
                f"{len(failures)} of {len(records)} agents did not start; {record.name}: {first}",
                first.hint,
                first.exit,
            )
        return [self.describe(record) for record in records]

    async def _undo(self, record: AgentRecord, *, forget: bool) -> None:
        record.wanted = "stopped"
        await self._population.halt(record, leave=True)
        if forget and self._book.spec.agents.get(record.name) is record:
            del self._book.spec.agents[record.name]
            self._population.forget(record.name)

    # --- stopping ---------------------------------------------------------------------------------

    async def stop(self, request: requests.Stop, emit: Emit) -> dict[str, Any]:
        """Stop agents; with ``remove``, for good."""
        if not (request.name or request.all or request.region):
            raise LocalError("invalid-request", "stop: which agent?", "name one, or --all", USAGE)
        records = self._chosen(request.name, request.region)
        await self.take_down(records, emit, remove=request.remove)
        return {"agents": [record.name for record in records]}

    async def take_down(self, records: Iterable[AgentRecord], emit: Emit, *, remove: bool) -> None:
        """Stop these agents; ``remove`` ends their declaration and deletes their data."""
        records = list(records)
        leaving = {record.name for record in records}
        staying = [record for record in self._population.running() if record.name not in leaving]
        at_once = asyncio.Semaphore(STOPS_AT_ONCE)

        async def take_one(record: AgentRecord) -> None:
            async with at_once:
                # Someone who stays must have what this agent has before its disk goes.
                heirs = self._heirs(record, staying) if remove else []
                await self._population.halt(record, leave=True, heirs=heirs)
                record.wanted = "stopped"
                if remove:
                    self._book.spec.agents.pop(record.name, None)
                    self._population.forget(record.name)
                    await self._erase(record)
                emit({"agent": record.name})

        outcomes = await asyncio.gather(*map(take_one, records), return_exceptions=True)
        await self._save("record that agents stopped")
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _heirs(self, record: AgentRecord, staying: list[AgentRecord]) -> list[str]:
        """A few agents to hand the data to, of the same region if possible."""
        shuffled = random.sample(staying, len(staying))
        shuffled.sort(key=lambda other: other.region != record.region)
        return [other.name for other in shuffled[:HEIRS]]

    async def _erase(self, record: AgentRecord) -> None:
        try:
            await asyncio.to_thread(shutil.rmtree, self._layout.agents / record.name)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("data of %s is still there: %s", record.name, error)

    async def restart(self, request: requests.Restart, emit: Emit) -> dict[str, Any]:
        """Restart agents where they are, gracefully or by killing their workers."""
        if not (request.name or request.all):
            raise LocalError(
                "invalid-request", "restart: which agent?", "name one, or --all", USAGE
            )
        records = self._chosen(request.name, None)
        if request.kill:
            for index in {record.worker for record in records}:
                await self._fleet.kill_worker(index)
        else:
            for record in records:
                await self._population.halt(record, leave=False)
        for record in records:
            record.wanted = "running"
        await self.bring_up(records, emit)
        return {"agents": [record.name for record in records]}

    def _chosen(self, name: str | None, region: str | None) -> list[AgentRecord]:
        spec = self._book.spec
        if region is not None and region not in spec.regions:
            raise unknown("region", region, spec.regions)
        if name is not None:
            return [self._agent(name)]
        return [
            record for record in spec.agents.values() if region is None or record.region == region
        ]

    async def _save(self, action: str) -> None:
        try:
            await self._book.save()
        except OSError as error:
            raise storage_error(action, error) from None

    # --- looking ----------------------------------------------------------------------------------

    def list_agents(self, request: requests.Agents, _: Emit) -> dict[str, Any]:
        """Agents by state and region."""
        described = [self.describe(record) for record in self._chosen(None, request.region)]
        return {
            "agents": [agent for agent in described if request.filter in ("all", agent["status"])]
        }

    def describe(self, record: AgentRecord) -> dict[str, Any]:
        """One agent, for people and scripts."""
        state = self._population.state(record.name)
        return {
            "name": record.name,
            "region": record.region,
            "type": record.type,
            "capabilities": record.capabilities,
            "labels": record.labels,
            "worker": worker_name(record.worker),
            "status": "active" if state.status == "running" else state.status,
            "joined": state.joined,
            "gossip": f"{HOST}:{record.gossip_port}",
            "api": f"http://{HOST}:{record.api_port}",
            "created_at": record.created_at,
            "error": state.error.message if state.error else None,
        }

    def resolve(self, request: requests.Resolve, _: Emit) -> dict[str, Any]:
        """Where the HTTP API of an agent is."""
        if request.name is not None:
            record = self._agent(request.name)
            if not self._is_up(record):
                state = self._population.state(record.name)
                raise LocalError(
                    "agent-down",
                    f"agent {record.name} is {state.status}"
                    + (f": {state.error}" if state.error else ""),
                    f"start it with: gossipctl agent spawn --name {record.name}"
                    if state.status == "stopped"
                    else "try again in a moment",
                    UNREACHABLE,
                )
            return self._address(record)
        up = [record for record in self._chosen(None, request.region) if self._is_up(record)]
        if not up:
            where = f" in {request.region}" if request.region else ""
            raise LocalError(
                "no-agent",
                f"no agent{where} is up",
                "spawn one with: gossipctl agent spawn",
                UNREACHABLE,
            )
        # Always the same one: who writes and then reads without naming an agent finds what was written.
        return self._address(up[0])

    def resolve_all(self, request: requests.ResolveAll, _: Emit) -> dict[str, Any]:
        """Where the HTTP APIs of all agents that are up are."""
        up = [record for record in self._chosen(None, request.region) if self._is_up(record)]
        return {"agents": [self._address(record) for record in up]}

    def _is_up(self, record: AgentRecord) -> bool:
        return self._population.state(record.name).status == "running"

    def _address(self, record: AgentRecord) -> dict[str, Any]:
        return {
            "name": record.name,
            "region": record.region,
            "api": f"http://{HOST}:{record.api_port}",
            "token": self._secrets.write_token,
            "read_token": self._secrets.read_token,
        }

    def _agent(self, name: str) -> AgentRecord:
        record = self._book.spec.agents.get(name)
        if record is None:
            raise unknown("agent", name, self._book.spec.agents)
        return record

"""What the supervisor does when asked: each request finds its operation here.

The operations on the swarm as a whole are in this module; those on agents, partitions, settings and
manifests in modules of their own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import resource
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gossipctl.local import requests
from gossipctl.local.agents import AgentOperations, Emit
from gossipctl.local.credentials import Secrets
from gossipctl.local.errors import unknown
from gossipctl.local.fleet import Fleet
from gossipctl.local.layout import Layout
from gossipctl.local.logs import SUPERVISOR, LogReader
from gossipctl.local.partitions import Partitions
from gossipctl.local.population import Population
from gossipctl.local.reconcile import Reconciler
from gossipctl.local.requests import Request
from gossipctl.local.settings import SettingsOperations
from gossipctl.local.spec import SpecFile
from gossipctl.local.worker import worker_name

FOLLOW_SECONDS: Final = 0.2


class Operations:
    """Everything that can be asked of one swarm. ``leaving`` is set when it was told to go down."""

    def __init__(
        self,
        layout: Layout,
        book: SpecFile,
        secrets: Secrets,
        fleet: Fleet,
        population: Population,
    ) -> None:
        self.leaving = asyncio.Event()
        self.partitions = Partitions(book, fleet)
        self._layout = layout
        self._book = book
        self._secrets = secrets
        self._fleet = fleet
        self._population = population
        self._agents = AgentOperations(layout, book, secrets, fleet, population)
        self._settings = SettingsOperations(layout, book, secrets, fleet, population)
        self._reconciler = Reconciler(book, self._agents, self.partitions, self._settings)
        self._table: dict[type[Request], Callable[[Any, Emit], Any | Awaitable[Any]]] = {
            requests.Ping: self._ping,
            requests.Status: self._status,
            requests.Spawn: self._agents.spawn,
            requests.Stop: self._agents.stop,
            requests.Restart: self._agents.restart,
            requests.Agents: self._agents.list_agents,
            requests.Resolve: self._agents.resolve,
            requests.ResolveAll: self._agents.resolve_all,
            requests.Config: self._settings.config,
            requests.Keyring: self._settings.keyring,
            requests.Partition: self.partitions.cut,
            requests.Heal: self.partitions.heal,
            requests.PartitionStatus: self.partitions.status,
            requests.Stats: self._stats,
            requests.Converged: self._converged,
            requests.Logs: self._logs,
            requests.Tokens: self._tokens,
            requests.Apply: self._apply,
            requests.Down: self._down,
        }

    async def perform(self, request: Request, emit: Emit) -> Any:
        """The result of a request; LocalError if it is refused or fails."""
        outcome = self._table[type(request)](request, emit)
        return await outcome if inspect.isawaitable(outcome) else outcome

    def _ping(self, _request: requests.Ping, _: Emit) -> dict[str, Any]:
        return {"swarm_id": self._book.spec.name, "pid": os.getpid()}

    async def _status(self, request: requests.Status, _: Emit) -> dict[str, Any]:
        # What must be asked for comes first, so that the rest is of one moment.
        workers = await self._workers() if request.verbose else []
        spec = self._book.spec
        status = self.status()
        if request.verbose:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            every = self._agents.list_agents(requests.Agents(), _)
            status |= {
                "agents": every["agents"],
                "workers": workers,
                "supervisor": {
                    "pid": os.getpid(),
                    "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
                },
                "settings": self._fleet.settings(),
                "partitions": self.partitions.active(),
                "hooks": spec.hooks,
                "paths": {
                    "state": str(self._layout.directory),
                    "logs": str(self._layout.logs),
                },
            }
        return status

    def status(self) -> dict[str, Any]:
        """The swarm in a few lines."""
        spec = self._book.spec
        up = {record.name for record in self._population.running()}
        counts = {region: {"declared": 0, "active": 0} for region in spec.regions}
        for record in spec.agents.values():
            counts[record.region]["declared"] += 1
            counts[record.region]["active"] += record.name in up
        wanted = sum(record.wanted == "running" for record in spec.agents.values())
        if spec.cuts:
            health = "partitioned"
        elif not spec.agents:
            health = "initializing"
        else:
            health = "active" if len(up) >= wanted else "degraded"
        return {
            "swarm_id": spec.name,
            "topology": spec.topology,
            "protocol": spec.protocol,
            "status": health,
            "agents": list(spec.agents),
            "regions": spec.regions,
            "created_at": spec.created_at,
            "max_agents": spec.max_agents,
            "encryption": spec.encryption,
            "agent_counts": counts,
        }

    async def _workers(self) -> list[dict[str, Any]]:
        alive = {answer["name"]: answer for answer in await self._fleet.everywhere("usage")}
        return [
            {**worker, **alive.get(worker["name"], {})} for worker in self._fleet.describe_workers()
        ]

    async def _stats(self, _request: requests.Stats, _: Emit) -> dict[str, Any]:
        answers = await self._fleet.everywhere("stats")
        return {
            "agents": [agent for answer in answers for agent in answer["agents"]],
            "declared": len(self._book.spec.agents),
        }

    async def _converged(self, request: requests.Converged, _: Emit) -> dict[str, Any]:
        answers = await self._fleet.everywhere("hashes")
        hashes = Counter(found for answer in answers for found in answer["hashes"].values())
        (commonest, agreeing), *_rest = hashes.most_common(1) or [(None, 0)]
        # Of those that ought to run: an agent that is down has not converged.
        agents = sum(record.wanted == "running" for record in self._book.spec.agents.values())
        share = agreeing / agents if agents else 0.0
        return {
            "converged": bool(agents) and share >= request.threshold,
            "share": round(share, 4),
            "agents": agents,
            "agreeing": agreeing,
            "state_hash": commonest,
        }

    async def _logs(self, request: requests.Logs, emit: Emit) -> dict[str, Any]:
        spec = self._book.spec
        processes = [SUPERVISOR, *map(worker_name, range(spec.workers))]
        if request.name is not None and request.name not in [*processes, *spec.agents]:
            raise unknown("agent", request.name, [*processes, *spec.agents])
        reader = LogReader(self._layout.logs, request.name, is_process=request.name in processes)
        lines = await asyncio.to_thread(reader.last, request.lines)
        if not (request.follow and request.stream):
            return {"lines": lines}
        while True:
            for line in lines:
                emit({"line": line})
            await asyncio.sleep(FOLLOW_SECONDS)
            lines = await asyncio.to_thread(reader.new)

    def _tokens(self, _request: requests.Tokens, _: Emit) -> dict[str, Any]:
        return {"read": self._secrets.read_token, "write": self._secrets.write_token}

    async def _apply(self, request: requests.Apply, emit: Emit) -> dict[str, Any]:
        return {**await self._reconciler.apply(request, emit), "status": self.status()}

    def _down(self, _request: requests.Down, _: Emit) -> dict[str, Any]:
        self.leaving.set()
        return {}

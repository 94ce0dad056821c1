"""Many swarms on a real API server, and what their operator asks of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Final, Self

import msgspec

from gossipswarm_operator.client import STATEFUL_SETS, SWARMS, KubeClient
from kube_operator_program import Program
from kube_operator_runs import swarm, until

READS: Final = ("get", "list")
CONCURRENT: Final = 20
"""Swarms that are created at a time."""
_CALL: Final = re.compile(r'_api_requests_total\{code="(\d+)",resource="(\w+)",verb="(\w+)"\}')
_RECONCILES: Final = 'gossipswarm_operator_reconciles_total{kind="GossipSwarm"'


class Spent(msgspec.Struct, frozen=True):
    """What an operator has done since it started, or between two looks: calls by verb and resource, and reconciles. Its
    Lease does not count.
    """

    calls: Counter[tuple[str, str]]
    reconciles: int

    @classmethod
    async def by(cls, running: Program) -> Self:
        """From its metrics."""
        calls: Counter[tuple[str, str]] = Counter()
        metrics = await until(running.metrics)
        for name, value in metrics.items():
            found = _CALL.search(name)
            if found is not None and found[2] != "leases":
                calls[found[3], found[2]] += round(value)
        reconciles = sum(value for name, value in metrics.items() if name.startswith(_RECONCILES))
        return cls(calls, round(reconciles))

    def since(self, before: Spent) -> Spent:
        """What came in between."""
        return Spent(self.calls - before.calls, self.reconciles - before.reconciles)

    @property
    def reads(self) -> int:
        """Calls that change nothing."""
        return sum(count for (verb, _), count in self.calls.items() if verb in READS)

    @property
    def writes(self) -> dict[tuple[str, str], int]:
        """Calls that change something."""
        return {call: count for call, count in self.calls.items() if call[0] not in READS}


async def create_swarms(admin: KubeClient, namespace: str, count: int) -> None:
    """Create ``s-0``, ``s-1`` ... with one region of one agent each."""
    limit = asyncio.Semaphore(CONCURRENT)

    async def create(number: int) -> None:
        body = swarm(namespace, regions=[{"name": "us-east", "replicas": 1}])
        body["metadata"]["name"] = f"s-{number}"
        async with limit:
            await admin.create(body)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(create(number))


async def are_made(admin: KubeClient, namespace: str, count: int) -> bool:
    """Whether every swarm has its StatefulSet, which is made last, and a status."""
    if len(await admin.list_all(STATEFUL_SETS, namespace)) < count:
        return False
    found = await admin.list_all(SWARMS, namespace)
    return all((body.get("status") or {}).get("replicas") == 1 for body in found)


async def at_rest(running: Program, count: int, seconds: float = 120.0) -> Spent:
    """Wait until every swarm was looked at again and nothing was written meanwhile; what that took."""
    before = await Spent.by(running)

    async def rests() -> Spent | None:
        nonlocal before
        now = await Spent.by(running)
        spent = now.since(before)
        if spent.writes:
            before = now
            return None
        return spent if spent.reconciles >= count else None

    found: Spent = await until(rests, seconds)
    return found

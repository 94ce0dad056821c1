"""Clients of a swarm in a cluster, which read and write all the time while the operator changes something."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import (
    AgentAddress,
    AgentError,
    AgentRefused,
    AgentUnreachable,
    agent_url,
)
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import PODS, KubeClient
from kube_operator_agents import addresses
from kube_operator_runs import UNTIL_SECONDS, until

KEPT: Final = "kept"
"""Written before, and read all the time."""
PAUSE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 15.0
"""Within which an agent that serves answers, however busy its machine is."""
READS: Final = 10
"""At least; fewer would show nothing."""


class Load:
    """What the clients saw."""

    def __init__(self, admin: KubeClient, namespace: str, token: str) -> None:
        self.acknowledged: dict[str, int] = {}
        """Every write that some agent acknowledged."""
        self.reads = 0
        self.failures: list[str] = []
        """Reads that failed at an agent that was ready before and after, or that gave something else."""
        self.uids: defaultdict[str, set[str]] = defaultdict(set)
        """By name: every pod that there was."""
        self.least_ready = 1_000
        self._admin = admin
        self._namespace = namespace
        self._token = token

    async def pods(self) -> list[dict[str, Any]]:
        """Pods that a Service would lead clients to."""
        found = await self._admin.list_all(PODS, self._namespace)
        for pod in found:
            self.uids[pod["metadata"]["name"]].add(pod["metadata"]["uid"])
        ready = [pod for pod in found if _is_ready(pod)]
        self.least_ready = min(self.least_ready, len(ready))
        return ready

    def address(self, pod: dict[str, Any]) -> AgentAddress:
        """Where the agent of a pod is asked."""
        metadata = pod["metadata"]
        region = metadata["labels"][names.REGION_LABEL]
        url = agent_url(pod["status"]["podIP"], tls=False)
        return AgentAddress(metadata["name"], region, url, self._token)

    async def run(self, api: AgentsApi) -> None:
        """Read and write in turns until cancelled."""
        number = 0
        while True:
            number += 1
            pods = await self.pods()
            if pods:
                pod = pods[number % len(pods)]
                await self._read(api, pod)
                await self._write(api, pods, number)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, api: AgentsApi, pod: dict[str, Any]) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        try:
            found = await api.read(self.address(pod), KEPT)
        except AgentError as error:
            if uid in {other["metadata"]["uid"] for other in await self.pods()}:
                self.failures.append(f"{name}: {error}")
            return
        self.reads += 1
        if found is None or found.value != KEPT:
            self.failures.append(f"{name} holds {found}")

    async def _write(self, api: AgentsApi, pods: list[dict[str, Any]], number: int) -> None:
        """Write to one agent; to the next, as clients do, where it takes none because it is about to go."""
        for offset in range(len(pods)):
            agent = self.address(pods[(number + offset) % len(pods)])
            with contextlib.suppress(AgentRefused, AgentUnreachable):
                await api.put(agent, f"load.{number}", number, trace=False)
                self.acknowledged[f"load.{number}"] = number
                return


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


@contextlib.asynccontextmanager
async def under_load(admin: KubeClient, namespace: str) -> AsyncIterator[Load]:
    """Read and write meanwhile. In the end no read has failed, and every agent holds what was acknowledged."""
    agents = await addresses(admin, namespace)
    load = Load(admin, namespace, str(agents[0].token))
    async with AgentsApi(seconds=ANSWER_SECONDS) as api:
        await api.put(agents[0], KEPT, KEPT)
        for agent in agents:
            await _holds(api, agent, KEPT, KEPT)
        task = asyncio.create_task(load.run(api))
        try:
            yield load

            async def has_read() -> bool:
                return load.reads >= READS or task.done()

            await until(has_read)
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()
        assert load.failures == []
        assert load.acknowledged
        for agent in await addresses(admin, namespace):
            for key, value in load.acknowledged.items():
                await _holds(api, agent, key, value)


async def _holds(api: AgentsApi, agent: AgentAddress, key: str, value: Any) -> None:
    async with asyncio.timeout(UNTIL_SECONDS):
        while True:
            found = await api.read(agent, key)
            if found is not None and found.value == value:
                return
            await asyncio.sleep(PAUSE_SECONDS)

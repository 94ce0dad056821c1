"""The operator at work on a real API server, with real agents in pods: what its tests do and wait for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import AgentAddress, agent_url
from gossipswarm_operator.client import PODS, SECRETS, SWARMS, KubeClient
from gossipswarm_operator.queue import Queue
from kube_operator_runs import UNTIL_SECONDS, Calls, reconciler, until

SETTLED = {"Ready": "True", "Converged": "True", "Progressing": "False", "KeyringInSync": "True"}


@contextlib.asynccontextmanager
async def operating(account: Path, namespace: str, **options: Any) -> AsyncIterator[Calls]:
    """The reconcile in its queue, as in the program, but without kopf."""
    settings = {"resync_seconds": 0.5, "progress_seconds": 0.25, **options}
    async with reconciler(account, **settings) as (found, calls):
        queue = Queue("GossipSwarm", found.reconcile)
        queue.add((namespace, "demo"))
        task = asyncio.create_task(queue.run())
        try:
            yield calls
        finally:
            task.cancel()
            await asyncio.wait({task})


async def stands(
    admin: KubeClient, namespace: str, seconds: float = UNTIL_SECONDS, **wanted: str
) -> Any:
    """Wait until the conditions are as wanted of the present generation; the object then."""

    async def holds() -> Any:
        found = await admin.get(SWARMS, namespace, "demo")
        assert found is not None
        status = found.get("status") or {}
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return None
        said = {c["type"]: c["status"] for c in status["conditions"]}
        return found if all(said[kind] == value for kind, value in wanted.items()) else None

    return await until(holds, seconds)


async def rests(calls: Calls, looks: int = 4) -> None:
    """Wait until the operator has looked at the swarm so many times in a row and found nothing to write."""
    calls.seen.clear()

    async def holds() -> bool:
        return calls.idle_looks >= looks

    await until(holds)


async def addresses(admin: KubeClient, namespace: str) -> list[AgentAddress]:
    """The agents of all pods that have an address, by name."""
    secret = await admin.get(SECRETS, namespace, "demo-tokens")
    assert secret is not None
    token = base64.b64decode(secret["data"]["write"]).decode()
    return [
        AgentAddress(
            pod["metadata"]["name"],
            pod["metadata"]["labels"][names.REGION_LABEL],
            agent_url(pod["status"]["podIP"], tls=False),
            token,
        )
        for pod in await admin.list_all(PODS, namespace)
        if pod.get("status", {}).get("podIP")
    ]


async def change(admin: KubeClient, namespace: str, **spec: Any) -> None:
    """Change the spec of the swarm."""
    await admin.merge(SWARMS, namespace, "demo", {"spec": spec})

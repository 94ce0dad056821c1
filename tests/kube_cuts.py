"""Cuts with real agents on a real API server, on a network without policies: what their tests do and wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    NETWORK_POLICIES,
    PARTITIONS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition.reconciler import Reconciler
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.reconcile import SwarmReconciler
from kube_operator_agents import addresses
from kube_operator_runs import IMAGE, UNTIL_SECONDS, until


@contextlib.asynccontextmanager
async def operating(account: Path, namespace: str) -> AsyncIterator[None]:
    """Both reconciles in their queues, as in the program, but without kopf: each looks every half second."""
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration) as kube, AgentsApi() as agents:
        events, metrics = Events(kube), Metrics()
        swarms = SwarmReconciler(kube, agents, events, metrics, IMAGE, resync_seconds=0.5)
        cuts = Reconciler(kube, agents, events, metrics)

        async def look(key: tuple[str, str]) -> float:
            return min(0.5, await cuts.reconcile(key) or 0.5)

        queues = [Queue("GossipSwarm", swarms.reconcile), Queue("SwarmPartition", look)]
        tasks = []
        for queue in queues:
            queue.add((namespace, "demo"))
            tasks.append(asyncio.create_task(queue.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def partition(namespace: str, name: str = "drill", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "SwarmPartition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"swarmRef": {"name": "demo"}, "groups": [["us-east"]], **spec},
    }


async def said(
    admin: KubeClient,
    namespace: str,
    name: str = "drill",
    seconds: float = UNTIL_SECONDS,
    **wanted: str,
) -> dict[str, Any]:
    """Wait until the conditions are as wanted, each ``Status`` or ``Status/Reason``; the object then."""

    async def holds() -> Any:
        found = await admin.get(PARTITIONS, namespace, name)
        assert found is not None
        stand = {c["type"]: c for c in (found.get("status") or {}).get("conditions") or ()}
        for kind, expected in wanted.items():
            status, _, reason = expected.partition("/")
            is_so = stand.get(kind, {"status": "", "reason": ""})
            if is_so["status"] != status or (reason and is_so["reason"] != reason):
                return None
        return found

    found: dict[str, Any] = await until(holds, seconds)
    return found


async def gone(admin: KubeClient, namespace: str, name: str = "drill") -> None:
    async def absent() -> bool:
        return await admin.get(PARTITIONS, namespace, name) is None

    await until(absent)


async def cut_policies(admin: KubeClient, namespace: str) -> list[str]:
    found = await admin.list_all(NETWORK_POLICIES, namespace, labels="gossipswarm.io/partition")
    return sorted(policy["metadata"]["name"] for policy in found)


async def dropping(agents: list[AgentAddress], api: AgentsApi) -> dict[str, str | None]:
    found = await ask_all(agents, api.info)
    return {name: getattr(info, "cut_by", "silent") for name, info in found.items()}


async def whole(admin: KubeClient, namespace: str, api: AgentsApi) -> None:
    """Nothing of a cut is left: no policy, or part of one, no ConfigMap, no agent that drops anything."""

    async def nothing_left() -> bool:
        agents = await addresses(admin, namespace)
        drops = await dropping(agents, api)
        baseline = await admin.get(NETWORK_POLICIES, namespace, "demo-us-east")
        assert baseline is not None
        (_, gossip) = baseline["spec"]["ingress"]
        # Also of the swarm's own reconcile, which may have looked before the cut was undone.
        return (
            await cut_policies(admin, namespace) == []
            and await admin.get(CONFIG_MAPS, namespace, "demo-cut") is None
            and set(drops.values()) == {None}
            and "matchExpressions" not in gossip["from"][0]["podSelector"]
        )

    await until(nothing_left)

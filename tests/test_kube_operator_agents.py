"""The operator with real agents: pods are made by the real StatefulSet controller and run by a kubelet of ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import PODS, SECRETS, SWARMS, KubeClient
from gossipswarm_operator.queue import Queue
from kube import Cluster
from kube_operator_runs import (
    Calls,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    swarm,
    until,
)
from podlet import Podlet, need_addresses

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


@pytest.fixture
def podlet(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Podlet]:
    try:
        need_addresses()
    except LookupError as missing:
        pytest.skip(f"NOT TESTED with agents in pods: {missing}")
    with Podlet(cluster, namespace, tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def operating(account: Path, namespace: str, **options: Any) -> AsyncIterator[Calls]:
    """The reconcile in its queue, as in the program, but without kopf."""
    async with reconciler(account, resync_seconds=1.0, **options) as (found, calls):
        queue = Queue("GossipSwarm", found.reconcile)
        queue.add((namespace, "demo"))
        task = asyncio.create_task(queue.run())
        try:
            yield calls
        finally:
            task.cancel()
            await asyncio.wait({task})


async def stands(admin: KubeClient, namespace: str, seconds: float = 90.0, **wanted: str) -> Any:
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


async def addresses(admin: KubeClient, namespace: str) -> list[AgentAddress]:
    secret = await admin.get(SECRETS, namespace, "demo-tokens")
    assert secret is not None
    token = base64.b64decode(secret["data"]["write"]).decode()
    return [
        AgentAddress(
            pod["metadata"]["name"], "us-east", f"http://{pod['status']['podIP']}:7601", token
        )
        for pod in await admin.list_all(PODS, namespace)
        if pod.get("status", {}).get("podIP")
    ]


async def change(admin: KubeClient, namespace: str, **spec: Any) -> None:
    await admin.merge(SWARMS, namespace, "demo", {"spec": spec})


SETTLED = {"Ready": "True", "Converged": "True", "Progressing": "False", "KeyringInSync": "True"}


async def test_a_swarm_lives_is_tuned_rekeyed_scaled_paused_and_then_left_alone(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace) as calls, AgentsApi() as api:
        found = await stands(admin, namespace, **SETTLED, Available="True", Partitioned="False")
        assert found["status"]["ready"] == found["status"]["convergedAgents"] == "3/3"
        first = found["status"]["keyring"]["primary"]

        calls.seen.clear()
        await asyncio.sleep(4)  # several looks, of which nothing may come
        assert calls.writes == []
        assert len(calls.seen) > 10

        agents = await addresses(admin, namespace)
        await change(admin, namespace, gossip={"fanout": 5})
        await until(lambda: _all_have(api, agents, "fanout", 5))

        await change(admin, namespace, encryption={"rotation": {"generation": 1}})

        async def rekeyed() -> bool:
            keys = await ask_all(agents, api.keyring)
            return all(isinstance(k, list) and len(k) == 1 and k[0] != first for k in keys.values())

        await until(rekeyed, 60)
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["keyring"]["step"] == "Idle"

        await api.put(agents[2], "kept", "by everybody")
        await change(admin, namespace, replicasPerRegion=1)
        await until(lambda: _pods(admin, namespace, 1), 60)
        left = await addresses(admin, namespace)
        kept = await api.read(left[0], "kept")
        assert kept is not None
        assert kept.value == "by everybody"
        await change(admin, namespace, replicasPerRegion=2)
        await stands(admin, namespace, **SETTLED)

        await change(admin, namespace, reconciliation="Paused", replicasPerRegion=3)
        found = await stands(admin, namespace, Paused="True")
        assert len(await admin.list_all(PODS, namespace)) == 2
        assert condition(found, "Progressing")["reason"] == "Paused"


async def _all_have(api: AgentsApi, agents: list[AgentAddress], name: str, value: Any) -> bool:
    found = await ask_all(agents, api.config)
    return all(getattr(config, "settings", {}).get(name) == value for config in found.values())


async def _pods(admin: KubeClient, namespace: str, count: int) -> bool:
    return len(await admin.list_all(PODS, namespace)) == count


async def test_a_new_template_is_rolled_out_agent_by_agent(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(
        swarm(
            namespace,
            regions=[{"name": "us-east", "replicas": 2}, {"name": "eu-west", "replicas": 1}],
        )
    )
    async with operating(account, namespace):
        await stands(admin, namespace, **SETTLED)
        await change(admin, namespace, image={"tag": "2.0.0"})
        order: list[str] = []

        async def updated() -> bool:
            pods = await admin.list_all(PODS, namespace)
            for pod in pods:
                image = pod["spec"]["containers"][0]["image"]
                if image.endswith(":2.0.0") and pod["metadata"]["name"] not in order:
                    order.append(pod["metadata"]["name"])
            return len(order) == 3

        await until(updated, 90)
        assert order == ["demo-us-east-1", "demo-us-east-0", "demo-eu-west-0"]
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["version"] == "2.0.0"

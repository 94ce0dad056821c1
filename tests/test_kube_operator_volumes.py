"""What a StatefulSet cannot change, with real agents: it is exchanged under its pods, which serve all the while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    EVENTS,
    PODS,
    STATEFUL_SETS,
    SWARMS,
    VOLUME_CLAIMS,
    KubeClient,
)
from kube import Cluster
from kube_operator_agents import SETTLED, addresses, change, operating, rests, stands
from kube_operator_load import ANSWER_SECONDS
from kube_operator_runs import (
    Calls,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


@pytest.fixture
def storage_class(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A class whose volumes cannot grow yet."""
    body = {"metadata": {"name": namespace}, "provisioner": "example.com/none"}
    cluster.request("POST", CLASSES, body)
    yield namespace
    cluster.request("DELETE", f"{CLASSES}/{namespace}")


async def sizes(admin: KubeClient, namespace: str) -> set[str]:
    """What claims ask for."""
    found = await admin.list_all(VOLUME_CLAIMS, namespace)
    return {claim["spec"]["resources"]["requests"]["storage"] for claim in found}


async def uids(admin: KubeClient, namespace: str) -> dict[str, str]:
    """Of every pod; one that was exchanged has another."""
    found = await admin.list_all(PODS, namespace)
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


async def set_uid(admin: KubeClient, namespace: str) -> str | None:
    found = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
    return None if found is None else str(found["metadata"]["uid"])


@contextlib.asynccontextmanager
async def reading(
    api: AgentsApi, agents: list[AgentAddress], key: str, value: Any
) -> AsyncIterator[None]:
    """Read a key at every agent all the time; a read that fails, or finds something else, fails the test."""
    wrong: list[Any] = []
    count = 0

    async def read() -> None:
        nonlocal count
        while True:
            found = await ask_all(agents, lambda agent: api.read(agent, key))
            wrong.extend(r for r in found.values() if getattr(r, "value", None) != value)
            count += len(found)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert not wrong
    assert count > 20


async def test_volumes_that_cannot_grow_are_said_to_and_grow_once_they_can_while_agents_serve(
    cluster: Cluster,
    admin: KubeClient,
    namespace: str,
    account: Path,
    podlet: Podlet,
    storage_class: str,
):
    storage = {"size": "1Gi", "storageClassName": storage_class}
    await admin.create(swarm(namespace, replicasPerRegion=2, storage=storage))
    async with operating(account, namespace) as calls, AgentsApi(seconds=ANSWER_SECONDS) as api:
        await stands(admin, namespace, **SETTLED)
        agents = await addresses(admin, namespace)
        await api.put(agents[0], "kept", "through all of it")
        await until(lambda: hold(api, agents, "kept"))
        pods, before = await uids(admin, namespace), await set_uid(admin, namespace)
        async with reading(api, agents, "kept", "through all of it"):
            await change(admin, namespace, storage={"size": "2Gi"})

            async def refused() -> Any:
                found = await stands(admin, namespace, Ready="True", Converged="True")
                progressing = condition(found, "Progressing")
                return progressing["reason"] == "Forbidden" and progressing

            progressing = await until(refused)
            assert progressing["status"] == "False"
            assert "volume claim data-demo-us-east-0" in progressing["message"]
            assert "storageclass" in progressing["message"]
            events = await admin.list_all(EVENTS, namespace)
            told = " ".join(e["message"] for e in events if e["reason"] == "Forbidden")
            assert "data-demo-us-east-0" in told
            await two_more_tries(calls)
            assert await sizes(admin, namespace) == {"1Gi"}
            assert await set_uid(admin, namespace) == before

            patch = {"allowVolumeExpansion": True}
            media = "application/merge-patch+json"
            cluster.request("PATCH", f"{CLASSES}/{storage_class}", patch, media)

            async def grown() -> bool:
                found = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
                return found is not None and found["metadata"]["uid"] != before

            await until(grown)
            assert await sizes(admin, namespace) == {"2Gi"}
            found = await stands(admin, namespace, **SETTLED)
            await rests(calls)
            assert await uids(admin, namespace) == pods
        body = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
        assert body is not None
        (template,) = body["spec"]["volumeClaimTemplates"]
        assert template["spec"]["resources"]["requests"]["storage"] == "2Gi"
        await change(admin, namespace, replicasPerRegion=3)
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["ready"] == "3/3"

        # No driver is here that could be out of room: what the kubelet would write then.
        claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data-demo-us-east-0/status"
        error = {"type": "NodeResizeError", "status": "True", "message": "the disk is full"}
        for conditions, reason in (([error], "VolumeNotGrown"), ([], "UpToDate")):
            cluster.request("PATCH", claim, {"status": {"conditions": conditions}}, media)
            await until(lambda reason=reason: progresses(admin, namespace, reason))
        assert await sizes(admin, namespace) == {"2Gi"}


async def progresses(admin: KubeClient, namespace: str, reason: str) -> bool:
    found = await admin.get(SWARMS, namespace, "demo")
    return found is not None and condition(found, "Progressing")["reason"] == reason


async def two_more_tries(calls: Calls) -> None:
    """Wait until the claims were tried twice more, which takes its time: further and further apart."""
    calls.seen.clear()
    began = time.monotonic()

    async def tried() -> bool:
        return calls.seen.count(("patch", VOLUME_CLAIMS.plural)) >= 2 * 2

    await until(tried)
    assert time.monotonic() - began >= 2


async def hold(api: AgentsApi, agents: list[AgentAddress], key: str) -> bool:
    found = await ask_all(agents, lambda agent: api.read(agent, key))
    return all(getattr(read, "value", None) is not None for read in found.values())


async def test_a_stateful_set_with_another_fixed_field_is_exchanged_under_agents_that_serve(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, replicasPerRegion=2))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
    agents, pods = await addresses(admin, namespace), await uids(admin, namespace)
    other = await another_set(admin, namespace)
    async with AgentsApi(seconds=ANSWER_SECONDS) as api:
        await api.put(agents[0], "kept", 1)
        await until(lambda: hold(api, agents, "kept"))
        async with (
            reading(api, agents, "kept", 1),
            operating(account, namespace) as calls,
        ):

            async def exchanged() -> bool:
                found = await set_uid(admin, namespace)
                return found is not None and found != other

            await until(exchanged)
            await stands(admin, namespace, **SETTLED)
            await rests(calls)
    assert await uids(admin, namespace) == pods
    found = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
    assert found is not None
    assert found["spec"]["podManagementPolicy"] == "Parallel"
    events = await admin.list_all(EVENTS, namespace)
    assert any("spec.podManagementPolicy cannot be changed" in e["message"] for e in events)


async def another_set(admin: KubeClient, namespace: str) -> str:
    """Have somebody put another StatefulSet in the place of ours, over the same pods; its uid."""
    found = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
    assert found is not None
    await admin.delete(STATEFUL_SETS, namespace, "demo-us-east", propagation="Orphan")

    async def is_gone() -> bool:
        return await admin.get(STATEFUL_SETS, namespace, "demo-us-east") is None

    await until(is_gone)
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {name: found["metadata"][name] for name in kept}
    spec = {**found["spec"], "podManagementPolicy": "OrderedReady"}
    made = await admin.create({**found, "metadata": metadata, "spec": spec, "status": {}})
    return str(made["metadata"]["uid"])


async def test_volumes_larger_than_a_new_swarm_of_the_name_wants_are_kept_and_said(
    admin: KubeClient, namespace: str, account: Path
):
    large, small = (
        swarm(namespace, replicasPerRegion=0, storage={"size": size}) for size in ("2Gi", "1Gi")
    )
    await admin.create(large)
    async with reconciler(account) as (operator, calls):
        key = (namespace, "demo")
        await settled(operator, key, 3)
        before = await set_uid(admin, namespace)
        await orphaned(admin, namespace)
        await admin.create(small)
        await settled(operator, key, 3)
        found = await stands(admin, namespace, Progressing="False")
        progressing = condition(found, "Progressing")
        assert progressing["reason"] == "StorageCannotShrink"
        assert "us-east have 2Gi; they cannot shrink to 1Gi" in progressing["message"]
        events = await admin.list_all(EVENTS, namespace)
        assert any("StorageCannotShrink" in event["message"] for event in events)
        calls.seen.clear()
        assert (await operator.reconcile(key) or 0) >= 2
        assert calls.writes == []
        await change(admin, namespace, storage={"size": "2Gi"})
        await settled(operator, key, 3)
        found = await stands(admin, namespace, Progressing="False")
        assert condition(found, "Progressing")["reason"] == "UpToDate"
        assert await set_uid(admin, namespace) == before


async def orphaned(admin: KubeClient, namespace: str) -> None:
    """Delete the swarm and leave what it owned."""
    await admin.delete(SWARMS, namespace, "demo", propagation="Orphan")

    async def is_gone() -> bool:
        return await admin.get(SWARMS, namespace, "demo") is None

    await until(is_gone)

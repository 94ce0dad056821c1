"""The operator behind an API server that fails now and then, or altogether."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import EVENTS, SWARMS, KubeClient, load_configuration
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.reconcile import SwarmReconciler
from kube import Cluster
from kube_operator_runs import (
    IMAGE,
    OWNED,
    cluster_admin,
    condition,
    make_account,
    operator_account,
    swarm,
    until,
)
from kube_proxy import Fault, Proxy, every, proxying

FAULTS: Final[tuple[Fault, ...]] = (409, 410, 429, 500, 503, "timeout", "cut")

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


@contextlib.asynccontextmanager
async def behind_proxy(
    cluster: Cluster, account: Path, namespace: str, seconds: float = 60.0
) -> AsyncIterator[Proxy]:
    """The operator's reconcile in its queue, whose API server is a proxy and may take so long for an answer."""
    configuration = await load_configuration(str(account))
    async with proxying(cluster.server) as proxy:
        configuration.host = proxy.url
        async with KubeClient(configuration, seconds=seconds) as kube, AgentsApi() as agents:
            found = SwarmReconciler(kube, agents, Events(kube), Metrics(), IMAGE)
            queue = Queue("GossipSwarm", found.reconcile)
            queue.add((namespace, "demo"))
            task = asyncio.create_task(queue.run())
            try:
                yield proxy
            finally:
                task.cancel()
                await asyncio.wait({task})


async def test_a_swarm_comes_about_although_every_fourth_write_fails(
    cluster: Cluster, admin: KubeClient
):
    """In whatever way; all at the same time, because what each of them does most is to wait."""
    with contextlib.ExitStack() as stack:
        namespaces = [stack.enter_context(cluster.namespace()) for _ in FAULTS]
        accounts = [make_account(cluster, namespace) for namespace in namespaces]
        async with asyncio.TaskGroup() as group:
            for namespace, account, fault in zip(namespaces, accounts, FAULTS, strict=True):
                group.create_task(comes_about(cluster, admin, namespace, account, fault))


async def comes_about(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, fault: Fault
) -> None:
    """A swarm whose operator has every fourth write fail in this way."""
    await admin.create(swarm(namespace))
    patience = 2.0 if fault == "timeout" else 60.0
    async with behind_proxy(cluster, account, namespace, patience) as proxy:
        proxy.choose = every(4, fault, ("PATCH", "POST", "DELETE"))

        async def is_whole() -> bool:
            found = [await admin.get(resource, namespace, name) for resource, name in OWNED]
            return all(body is not None for body in found)

        try:
            await until(is_whole, 300)
        except AssertionError as error:
            error.add_note(f"every fourth write: {fault}")
            raise
        assert sum(met == fault for _, _, met in proxy.requests) >= 3


async def test_a_server_that_fails_altogether_is_not_stormed(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace))
    async with behind_proxy(cluster, account, namespace) as proxy:
        proxy.choose = lambda method, path: 503
        began = time.monotonic()

        async def has_tried_four_times() -> bool:
            return len(proxy.requests) >= 4

        await until(has_tried_four_times)
        # After 1, 2 and 4 s, give or take a fifth.
        assert time.monotonic() - began >= 5
        proxy.choose = lambda method, path: None
        resource, name = OWNED[-1]
        await until(lambda: admin.get(resource, namespace, name))


async def test_a_kind_that_cannot_be_applied_stands_in_a_condition_and_the_rest_is_there(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace))

    def refuse_policies(method: str, path: str) -> int | None:
        return 422 if method == "PATCH" and "networkpolicies" in path else None

    async with behind_proxy(cluster, account, namespace) as proxy:
        proxy.choose = refuse_policies

        async def is_said() -> bool:
            found = await admin.get(SWARMS, namespace, "demo")
            assert found is not None
            if "status" not in found:
                return False
            progressing = condition(found, "Progressing")
            return progressing["reason"] == "Invalid" and "NetworkPolicy" in progressing["message"]

        await until(is_said)
        resource, name = OWNED[-1]
        assert await admin.get(resource, namespace, name) is not None
        events = await admin.list_all(EVENTS, namespace)
        assert any(event["reason"] == "Invalid" for event in events)

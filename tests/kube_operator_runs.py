"""The operator's parts against a real API server, as its ServiceAccount with the rights that it ships with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import yaml

import gossipswarm_operator
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    BUDGETS,
    CONFIG_MAPS,
    NETWORK_POLICIES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    KubeClient,
    Object,
    Resource,
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.reconcile import SwarmReconciler
from kube import Cluster, wait_until

IMAGE = "registry.example/gossipswarm-agent:1.0.0"
RULES = Path(gossipswarm_operator.__file__).with_name("rbac.yaml")
UNTIL_SECONDS = 180.0
"""Far more than anything takes on a slow machine that has much else to do."""
OWNED = [
    (SERVICE_ACCOUNTS, "demo-agent"),
    (SECRETS, "demo-tokens"),
    (SECRETS, "demo-keyring"),
    (CONFIG_MAPS, "demo-config"),
    (SERVICES, "demo"),
    (SERVICES, "demo-us-east"),
    (NETWORK_POLICIES, "demo-us-east"),
    (BUDGETS, "demo-us-east"),
    (STATEFUL_SETS, "demo-us-east"),
]


def swarm(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "GossipSwarm",
        "metadata": {"name": "demo", "namespace": namespace},
        "spec": {"regions": [{"name": "us-east"}], **spec},
    }


@pytest.fixture(name="account")
def operator_account(cluster: Cluster, namespace: str) -> Path:
    """A kubeconfig of the operator's ServiceAccount, with exactly the rights in rbac.yaml."""
    return make_account(cluster, namespace)


def make_account(cluster: Cluster, namespace: str) -> Path:
    """Make the operator's ServiceAccount with its rights; its kubeconfig."""
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    everything = [rule for group in rules.values() for rule in group]
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "operator"},
            "rules": everything,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "operator"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "operator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
    ]
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))
    rights_count(cluster, namespace)
    return cluster.as_service_account(namespace, "operator")


def rights_count(cluster: Cluster, namespace: str, *, with_secrets: bool = True) -> None:
    """Wait until the API server goes by the account's role as it is now, which says this of Secrets."""
    wait_until(
        lambda: cluster.may(namespace, "operator", "get", "secrets") is with_secrets,
        120,
        "the operator's rights count",
    )


@pytest.fixture(name="admin")
async def cluster_admin(cluster: Cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient(await load_configuration(str(cluster.kubeconfig))) as client:
        yield client


class Calls:
    """What was called, by verb and resource."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, verb: str, resource: str, code: int, seconds: float) -> None:
        self.seen.append((verb, resource))

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.seen if _writes(call)]

    @property
    def idle_looks(self) -> int:
        """Reconciles of one swarm since something was written last."""
        count = 0
        for call in reversed(self.seen):
            if _writes(call):
                break
            count += call == ("list", STATEFUL_SETS.plural)
        return count


def _writes(call: tuple[str, str]) -> bool:
    return call[0] not in ("get", "list")


@contextlib.asynccontextmanager
async def reconciler(account: Path, **options: Any) -> AsyncIterator[tuple[SwarmReconciler, Calls]]:
    calls = Calls()
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration, observe=calls) as kube, AgentsApi() as agents:
        events = Events(kube)
        yield SwarmReconciler(kube, agents, events, Metrics(), IMAGE, **options), calls


async def until(condition: Callable[[], Any], seconds: float = UNTIL_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def followed(
    client: KubeClient, resource: Resource, namespace: str
) -> AsyncIterator[list[tuple[str, Object]]]:
    """Every change of these objects from now on, as the API server tells of it: ``ADDED`` and the like, and the object.

    A look now and then may miss what does not last, and the order of what happens between two looks.
    """
    path = resource.path(namespace)
    listed = await client._call("GET", "list", resource, path)
    query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
    answer = await client._api.rest_client.request(
        "GET",
        f"{client.configuration.host}{path}?{urlencode(query)}",
        headers={"Accept": "application/json"},
        _preload_content=False,
        _request_timeout=aiohttp.ClientTimeout(None),
    )
    changes: list[tuple[str, Object]] = []

    async def follow() -> None:
        rest = b""
        async for chunk in answer.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                told = json.loads(line)
                assert told["type"] != "ERROR", told
                changes.append((told["type"], told["object"]))

    task = asyncio.create_task(follow())
    try:
        yield changes
        assert not task.done(), "the API server told of no change any more"
    finally:
        task.cancel()
        await asyncio.wait({task})
        answer.close()


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in found["status"]["conditions"] if c["type"] == kind)


async def settled(found: SwarmReconciler, key: tuple[str, str], rounds: int = 6) -> None:
    for _ in range(rounds):
        await found.reconcile(key)

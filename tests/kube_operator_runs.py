"""The operator's parts against a real API server, as its ServiceAccount with the rights that it ships with."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

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
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.reconcile import SwarmReconciler
from kube import Cluster

IMAGE = "registry.example/gossipswarm-agent:1.0.0"
RULES = Path(gossipswarm_operator.__file__).with_name("rbac.yaml")
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
    return cluster.as_service_account(namespace, "operator")


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


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.1)


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in found["status"]["conditions"] if c["type"] == kind)


async def settled(found: SwarmReconciler, key: tuple[str, str], rounds: int = 6) -> None:
    for _ in range(rounds):
        await found.reconcile(key)

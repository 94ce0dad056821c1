"""The operator on a real API server, as its own ServiceAccount with the rights that it ships with."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import gossipswarm_operator
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    BUDGETS,
    CONFIG_MAPS,
    EVENTS,
    LEASES,
    NETWORK_POLICIES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    SWARMS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.leader import Leadership
from gossipswarm_operator.main import operate
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.reconcile import SwarmReconciler
from gossipswarm_operator.settings import Settings
from kube import Cluster

pytestmark = pytest.mark.kube

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


@pytest.fixture
def account(cluster: Cluster, namespace: str) -> Path:
    """A kubeconfig of the operator's ServiceAccount, with exactly the rights in rbac.yaml."""
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


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[KubeClient]:
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
        return [call for call in self.seen if call[0] not in ("get", "list")]


@contextlib.asynccontextmanager
async def reconciler(account: Path, **options: Any) -> AsyncIterator[tuple[SwarmReconciler, Calls]]:
    calls = Calls()
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration, observe=calls) as kube, AgentsApi(seconds=0.5) as agents:
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


async def test_two_lines_become_everything_owned_and_then_nothing_is_written(
    admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace))
    async with reconciler(account) as (operator, calls):
        await settled(operator, (namespace, "demo"))
        for resource, name in OWNED:
            found = await admin.get(resource, namespace, name)
            assert found is not None, name
            assert found["metadata"]["ownerReferences"][0]["kind"] == "GossipSwarm"
        calls.seen.clear()
        await settled(operator, (namespace, "demo"), 3)
        assert calls.writes == []
    found = await admin.get(SWARMS, namespace, "demo")
    assert found is not None
    assert condition(found, "Ready")["reason"] == "AgentsNotReady"
    assert len(found["status"]["conditions"]) == 8


@pytest.mark.parametrize(("resource", "name"), OWNED)
async def test_what_was_deleted_is_made_again(
    admin: KubeClient, namespace: str, account: Path, resource, name
):
    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
    async with reconciler(account) as (operator, _):
        await settled(operator, (namespace, "demo"), 2)
        await admin.delete(resource, namespace, name)

        async def is_back() -> bool:
            await operator.reconcile((namespace, "demo"))
            found = await admin.get(resource, namespace, name)
            return found is not None and "deletionTimestamp" not in found["metadata"]

        await until(is_back)


async def test_drift_is_repaired_and_an_event_says_what_differed(
    admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace))
    async with reconciler(account) as (operator, _):
        await settled(operator, (namespace, "demo"), 3)
        patch = {"spec": {"maxUnavailable": 3}}
        await admin.merge(BUDGETS, namespace, "demo-us-east", patch)
        await operator.reconcile((namespace, "demo"))
    found = await admin.get(BUDGETS, namespace, "demo-us-east")
    assert found is not None
    assert found["spec"]["maxUnavailable"] == 1
    events = await admin.list_all(EVENTS, namespace)
    assert any("spec.maxUnavailable" in event["message"] for event in events)


async def test_a_stateful_set_of_somebody_else_is_refused_and_named(
    admin: KubeClient, namespace: str, account: Path
):
    labels = {"app": "database"}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "demo-us-east",
            "namespace": namespace,
            "annotations": {"meta.helm.sh/release-name": "database"},
        },
        "spec": {
            "replicas": 0,
            "serviceName": "x",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "a", "image": "b"}]},
            },
        },
    }
    before = await admin.create(theirs)
    await admin.create(swarm(namespace))
    async with reconciler(account) as (operator, _):
        await settled(operator, (namespace, "demo"), 2)
    after = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
    assert after is not None
    assert after["spec"] == before["spec"]
    found = await admin.get(SWARMS, namespace, "demo")
    assert found is not None
    progressing = condition(found, "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "NameTaken")
    assert "Helm release database" in progressing["message"]


class Stopped(Exception):
    """The operator was killed here."""


async def test_an_operator_killed_after_each_action_is_continued_by_the_next(
    admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace))

    def stop(_: object) -> None:
        raise Stopped

    stops = 0
    for _ in range(30):
        async with reconciler(account, checkpoint=stop) as (operator, _):
            try:
                await operator.reconcile((namespace, "demo"))
            except Stopped:
                stops += 1
                continue
            break
    assert stops >= len(OWNED)
    for resource, name in OWNED:
        assert await admin.get(resource, namespace, name) is not None


async def test_a_refused_action_stands_in_a_condition_and_an_event(
    admin: KubeClient, namespace: str, account: Path
):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"services": "1"}},
    }
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await admin._call("POST", "create", SERVICES, path, None, quota)
    await until(lambda: _counted(admin, path))
    await admin.create(swarm(namespace))
    async with reconciler(account) as (operator, _):
        first = await operator.reconcile((namespace, "demo"))
        second = await operator.reconcile((namespace, "demo"))
    assert first is not None and second is not None
    assert second > first >= 1, "failures are tried again further and further apart"
    found = await admin.get(SWARMS, namespace, "demo")
    assert found is not None
    assert condition(found, "Progressing")["reason"] == "QuotaExceeded"
    events = await admin.list_all(EVENTS, namespace)
    assert any(event["reason"] == "QuotaExceeded" for event in events)


async def _counted(admin: KubeClient, path: str) -> bool:
    found = await admin._call("GET", "get", SERVICES, f"{path}/small")
    return "used" in found.get("status", {})


@contextlib.contextmanager
def operator_settings(account: Path, namespace: str) -> Iterator[Callable[[str], Settings]]:
    yield lambda pod: Settings(
        agent_image=IMAGE,
        namespace=namespace,
        pod=pod,
        watch_namespaces=(namespace,),
        http_port=0,
        kubeconfig=str(account),
        lease_seconds=3.0,
        resync_seconds=5.0,
    )


async def test_of_two_operators_one_leads_and_the_other_follows(
    admin: KubeClient, namespace: str, account: Path
):
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration) as kube:
        first = Leadership(kube, namespace, "first", 2.0)
        second = Leadership(kube, namespace, "second", 2.0)
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        keeping = asyncio.create_task(first.keep())
        await asyncio.sleep(3)
        assert not waiting.done(), "the first renews, so nobody follows it"
        keeping.cancel()
        await asyncio.wait_for(waiting, 10)
        found = await admin.get(LEASES, namespace, "gossipswarm-operator")
        assert found is not None
        assert found["spec"]["holderIdentity"] == "second"
        assert found["spec"]["leaseTransitions"] == 2


async def test_the_program_serves_a_swarm_and_its_follower_takes_over(
    admin: KubeClient, namespace: str, account: Path
):
    with operator_settings(account, namespace) as settings:
        ends = [asyncio.Event(), asyncio.Event()]
        async with asyncio.TaskGroup() as group:
            runs = [
                group.create_task(operate(settings(f"operator-{number}"), ends[number]))
                for number in range(2)
            ]
            await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
            await until(lambda: admin.get(STATEFUL_SETS, namespace, "demo-us-east"))
            lease = await admin.get(LEASES, namespace, "gossipswarm-operator")
            assert lease is not None
            leader = 0 if lease["spec"]["holderIdentity"].startswith("operator-0") else 1
            ends[leader].set()
            assert await runs[leader] == 0
            await admin.delete(STATEFUL_SETS, namespace, "demo-us-east")
            await until(lambda: admin.get(STATEFUL_SETS, namespace, "demo-us-east"))
            ends[1 - leader].set()
            assert await runs[1 - leader] == 0

"""The operator on a real API server, as its own ServiceAccount with the rights that it ships with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from gossipswarm_operator.client import (
    BUDGETS,
    EVENTS,
    LEASES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    SWARMS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.leader import Leadership
from gossipswarm_operator.main import operate
from gossipswarm_operator.settings import Settings
from kube_operator_runs import (
    IMAGE,
    OWNED,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


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

        async def all_is_made() -> bool:
            """Also by the controllers of the cluster, of which the status tells."""
            made = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
            pods = await admin.list_all(PODS, namespace)
            assert made is not None
            return len(pods) == made["status"].get("replicas") == 3

        await until(all_is_made)
        await settled(operator, (namespace, "demo"), 2)
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
        lease_seconds=15.0,
        resync_seconds=5.0,
    )


async def test_of_two_operators_one_leads_and_the_other_follows(
    admin: KubeClient, namespace: str, account: Path
):
    configuration = await load_configuration(str(account))
    seconds = 6.0
    async with KubeClient(configuration) as kube:
        first = Leadership(kube, namespace, "first", seconds)
        second = Leadership(kube, namespace, "second", seconds)
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        keeping = asyncio.create_task(first.keep())

        async def has_outlived_a_lease() -> bool:
            found = await admin.get(LEASES, namespace, "gossipswarm-operator")
            assert found is not None
            renewed, acquired = (
                datetime.fromisoformat(found["spec"][field])
                for field in ("renewTime", "acquireTime")
            )
            return (renewed - acquired).total_seconds() > 1.5 * seconds

        await until(has_outlived_a_lease)
        assert not waiting.done(), "the first renews, so nobody follows it"
        keeping.cancel()
        await asyncio.wait_for(waiting, 120)
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

"""Cuts between regions with real agents, on a real API server: pods run by a kubelet of ours, on a network without policies."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    NETWORK_POLICIES,
    PARTITIONS,
    SWARMS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition.reconciler import Reconciler
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.reconcile import SwarmReconciler
from kube import Cluster
from kube_operator_agents import addresses, stands
from kube_operator_program import program
from kube_operator_runs import IMAGE, cluster_admin, condition, operator_account, swarm, until
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

REGIONS = [{"name": "us-east"}, {"name": "us-west"}]
SETTLED = {"Ready": "True", "Converged": "True", "Progressing": "False"}


@contextlib.asynccontextmanager
async def operating(account: Path, namespace: str) -> AsyncIterator[None]:
    """Both reconciles in their queues, as in the program, but without kopf: each looks every half second."""
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration) as kube, AgentsApi(seconds=2.0) as agents:
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
    admin: KubeClient, namespace: str, name: str = "drill", seconds: float = 40.0, **wanted: str
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

    await until(absent, 20)


async def cut_policies(admin: KubeClient, namespace: str) -> list[str]:
    found = await admin.list_all(NETWORK_POLICIES, namespace, labels="gossipswarm.io/partition")
    return sorted(policy["metadata"]["name"] for policy in found)


async def dropping(agents: list[AgentAddress], api: AgentsApi) -> dict[str, str | None]:
    found = await ask_all(agents, api.info)
    return {name: getattr(info, "cut_by", "silent") for name, info in found.items()}


async def whole(admin: KubeClient, namespace: str, api: AgentsApi) -> None:
    """Nothing of a cut is left: no policy, no ConfigMap, no agent that drops anything."""

    async def nothing_left() -> bool:
        agents = await addresses(admin, namespace)
        drops = await dropping(agents, api)
        return (
            await cut_policies(admin, namespace) == []
            and await admin.get(CONFIG_MAPS, namespace, "demo-cut") is None
            and set(drops.values()) == {None}
        )

    await until(nothing_left, 20)
    baseline = await admin.get(NETWORK_POLICIES, namespace, "demo-us-east")
    assert baseline is not None
    (_, gossip) = baseline["spec"]["ingress"]
    assert "matchExpressions" not in gossip["from"][0]["podSelector"]


async def test_where_the_network_enforces_nothing_the_agents_make_the_cut(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=REGIONS, replicasPerRegion=2))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        await admin.create(partition(namespace))

        found = await said(admin, namespace, Applied="True", Enforced="True/AgentsDrop")
        assert found["status"]["mechanism"] == "Agent"
        found = await said(admin, namespace, Detected="True")
        assert found["status"]["groups"] == "us-east | us-west"
        agents = await addresses(admin, namespace)
        assert set((await dropping(agents, api)).values()) == {"gossipswarm-operator"}
        assert len(await cut_policies(admin, namespace)) == 4
        divided = await stands(admin, namespace, Partitioned="True")
        assert divided["status"]["partition"] == "us-east | us-west"

        await admin.delete(PARTITIONS, namespace, "drill")
        await gone(admin, namespace)
        await whole(admin, namespace, api)
        await stands(admin, namespace, Partitioned="False", Converged="True")


async def test_a_cut_goes_on_and_ends_in_time_while_operators_come_and_go(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=REGIONS, replicasPerRegion=1))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        await admin.create(partition(namespace, mechanism="Agent", duration="25s"))
        found = await said(admin, namespace, Enforced="True/AgentsDrop", Detected="True")
        assert found["status"]["expiresAt"] > found["status"]["appliedAt"]

        # What starts now starts within the cut, by itself.
        podlet.crash("demo-us-west-0")

        async def born_into_it() -> bool:
            agents = await addresses(admin, namespace)
            return (await dropping(agents, api)).get("demo-us-west-0") == "configuration"

        await until(born_into_it, 20)
    async with operating(account, namespace), AgentsApi() as api:
        await said(admin, namespace, Healed="True/Whole", Applied="False/Expired")
        await whole(admin, namespace, api)
        held = await admin.get(PARTITIONS, namespace, "drill")
        assert held is not None
        assert not held["metadata"].get("finalizers")


async def test_a_cut_that_nobody_enforces_is_given_up_where_it_is_to_be(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=REGIONS, replicasPerRegion=1))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        await admin.create(partition(namespace, onUnenforced="Fail"))
        found = await said(admin, namespace, Applied="False/NotEnforced", Healed="True/Whole")
        assert "reaches demo-us-" in condition(found, "Enforced")["message"]
        await whole(admin, namespace, api)

        await admin.create(partition(namespace, "second", groups=[["us-eats"]]))
        refused = await said(admin, namespace, "second", Applied="False/UnknownRegion")
        assert "did you mean us-east?" in condition(refused, "Applied")["message"]
        await admin.delete(PARTITIONS, namespace, "second")
        await gone(admin, namespace, "second")


async def test_a_cut_does_not_outlive_its_swarm_nor_hold_its_namespace_up(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(partition(namespace))
    async with operating(account, namespace):
        await said(admin, namespace, Applied="False/SwarmNotFound")
        await admin.create(swarm(namespace, regions=REGIONS, replicasPerRegion=1))
        await said(admin, namespace, Applied="True")
        await admin.delete(SWARMS, namespace, "demo")
        await said(admin, namespace, Applied="False/SwarmNotFound")
        assert await cut_policies(admin, namespace) == []
        await admin.delete(PARTITIONS, namespace, "drill")
        await gone(admin, namespace)


EMPTY = [{"name": "us-east", "replicas": 0}, {"name": "us-west", "replicas": 0}]


async def test_the_program_heals_at_its_start_what_ended_while_it_was_dead(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    await admin.create(swarm(namespace, regions=EMPTY))
    async with program(account, namespace, tmp_path, "first") as first:
        await admin.create(partition(namespace, duration="8s"))
        await admin.create(partition(namespace, "lasting", duration="1h"))
        await said(admin, namespace, Applied="True")
        await said(admin, namespace, "lasting", Applied="True")
        shown = await first.metrics()
        applied = f'name="lasting",namespace="{namespace}",type="Applied"'
        assert shown[f'gossipswarm_operator_condition{{kind="SwarmPartition",{applied}}}'] == 1
        first.process.kill()

    async def is_over() -> bool:
        found = await admin.get(PARTITIONS, namespace, "drill")
        assert found is not None
        ends = datetime.fromisoformat(found["status"]["expiresAt"])
        return datetime.now(UTC) > ends

    await until(is_over, 15)
    assert any(".drill." in name for name in await cut_policies(admin, namespace))
    async with program(account, namespace, tmp_path, "second"):
        await said(admin, namespace, Applied="False/Expired", Healed="True")
        left = await cut_policies(admin, namespace)
        assert not any(".drill." in name for name in left)
        assert any(".lasting." in name for name in left)
        # A change of the object is seen at once, by its event.
        await admin.merge(PARTITIONS, namespace, "lasting", {"spec": {"duration": "1s"}})
        await said(admin, namespace, "lasting", 10, Applied="False/Expired")
        await admin.delete(PARTITIONS, namespace, "lasting")
        await gone(admin, namespace, "lasting")


async def test_a_cut_is_healed_by_its_label_where_no_operator_runs(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path, cluster: Cluster
):
    await admin.create(swarm(namespace, regions=EMPTY))
    async with program(account, namespace, tmp_path, "first") as first:
        await admin.create(partition(namespace))
        await said(admin, namespace, Applied="True")
        first.process.kill()
    heal = [
        *(sys.executable, "-c", "from gossipctl.main import run; run()"),
        *("network", "heal-partition", "--backend", "kubernetes", "--namespace", namespace),
        *("--swarm", "demo"),
    ]
    environment = {"PATH": "/usr/bin:/bin", "KUBECONFIG": str(cluster.kubeconfig), "HOME": "/tmp"}
    done = await asyncio.to_thread(
        subprocess.run, heal, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "the operator does not heal it" in done.stderr
    assert await cut_policies(admin, namespace) == []
    assert await admin.get(CONFIG_MAPS, namespace, "demo-cut") is None
    await gone(admin, namespace)
    async with program(account, namespace, tmp_path, "second"):

        async def has_its_policy_again() -> bool:
            return await admin.get(NETWORK_POLICIES, namespace, "demo-us-east") is not None

        await until(has_its_policy_again, 20)
        assert await cut_policies(admin, namespace) == []

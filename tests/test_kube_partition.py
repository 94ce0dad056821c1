"""Cuts between regions with real agents, on a real API server: pods run by a kubelet of ours, on a network without policies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    PARTITIONS,
    SWARMS,
    KubeClient,
)
from kube import Cluster
from kube_cuts import cut_policies, dropping, gone, operating, partition, said, whole
from kube_operator_agents import SETTLED, addresses, stands
from kube_operator_program import program
from kube_operator_runs import cluster_admin, condition, operator_account, swarm, until
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

REGIONS = [{"name": "us-east"}, {"name": "us-west"}]


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
        await admin.create(partition(namespace, mechanism="Agent", duration="10m"))
        found = await said(admin, namespace, Enforced="True/AgentsDrop", Detected="True")
        assert found["status"]["expiresAt"] > found["status"]["appliedAt"]

        # What starts now starts within the cut, by itself. It says so in its log: the operator soon tells it again.
        podlet.crash("demo-us-west-0")
        log = podlet.log_of(namespace, "demo-us-west-0")

        async def started_again() -> list[dict[str, Any]] | None:
            lines = map(json.loads, log.read_text("utf-8").splitlines())
            starts = [line for line in lines if line["message"] == "agent started"]
            return starts if len(starts) > 1 else None

        (first, second) = await until(started_again)
        assert (first["cut_off"], second["cut_off"]) == ([], ["us-east"])
        # Not before: however long the above takes, the cut has to last through it.
        await admin.merge(PARTITIONS, namespace, "drill", {"spec": {"duration": "20s"}})
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


async def shorten(admin: KubeClient, namespace: str, name: str) -> datetime:
    """Have a cut, which lasted for as long as a test needed it, be over in a few seconds; when it is."""
    found = await admin.get(PARTITIONS, namespace, name)
    assert found is not None
    began = datetime.fromisoformat(found["status"]["appliedAt"])
    lasts = timedelta(seconds=round((datetime.now(UTC) - began).total_seconds()) + 3)
    spec = {"duration": f"{lasts.total_seconds():.0f}s"}
    await admin.merge(PARTITIONS, namespace, name, {"spec": spec})
    return began + lasts


async def test_the_program_heals_at_its_start_what_ended_while_it_was_dead(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    await admin.create(swarm(namespace, regions=EMPTY))
    async with program(account, namespace, tmp_path, "first") as first:
        await admin.create(partition(namespace, duration="1h"))
        await admin.create(partition(namespace, "lasting", duration="1h"))
        await said(admin, namespace, Applied="True")
        await said(admin, namespace, "lasting", Applied="True")
        shown = await first.metrics()
        applied = f'name="lasting",namespace="{namespace}",type="Applied"'
        assert shown[f'gossipswarm_operator_condition{{kind="SwarmPartition",{applied}}}'] == 1
        first.process.kill()
    ends = await shorten(admin, namespace, "drill")

    async def is_over() -> bool:
        return datetime.now(UTC) > ends

    await until(is_over)
    assert any(".drill." in name for name in await cut_policies(admin, namespace))
    async with program(account, namespace, tmp_path, "second"):
        await said(admin, namespace, Applied="False/Expired", Healed="True")
        left = await cut_policies(admin, namespace)
        assert not any(".drill." in name for name in left)
        assert any(".lasting." in name for name in left)
        # A change of the object is seen at once, by its event.
        await admin.merge(PARTITIONS, namespace, "lasting", {"spec": {"duration": "1s"}})
        await said(admin, namespace, "lasting", Applied="False/Expired")
        await admin.delete(PARTITIONS, namespace, "lasting")
        await gone(admin, namespace, "lasting")


async def test_a_cut_is_healed_by_its_label_where_no_operator_runs(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path, cluster: Cluster
):
    await admin.create(swarm(namespace, regions=EMPTY))
    async with program(account, namespace, tmp_path, "first") as first:

        async def made() -> Any:
            return await admin.get(NETWORK_POLICIES, namespace, "demo-us-east")

        before = await until(made)
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
        subprocess.run, heal, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "the operator does not heal it" in done.stderr
    assert await cut_policies(admin, namespace) == []
    assert await admin.get(CONFIG_MAPS, namespace, "demo-cut") is None
    await gone(admin, namespace)
    # The policy that the region has at all times stands, and keeps out whoever is no agent of the swarm, as before.
    policy = await admin.get(NETWORK_POLICIES, namespace, "demo-us-east")
    assert policy is not None
    assert policy["metadata"]["uid"] == before["metadata"]["uid"]
    assert policy["spec"] == before["spec"]
    async with program(account, namespace, tmp_path, "second"):

        async def is_taken_over() -> bool:
            found = await admin.get(NETWORK_POLICIES, namespace, "demo-us-east")
            assert found is not None
            return bool(
                found["metadata"]["annotations"] == before["metadata"]["annotations"]
                and found["spec"] == before["spec"]
            )

        await until(is_taken_over)
        assert await cut_policies(admin, namespace) == []


def ranges(policy: dict[str, Any]) -> bool:
    """Whether a policy names ports by ranges."""
    return "endPort" in str(policy["spec"])


async def test_policies_are_rewritten_when_the_operator_is_told_that_the_network_knows_no_ranges(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    await admin.create(swarm(namespace, regions=EMPTY))

    async def policies() -> list[dict[str, Any]]:
        return await admin.list_all(NETWORK_POLICIES, namespace)

    async with program(account, namespace, tmp_path, "first"):
        await admin.create(partition(namespace))
        await said(admin, namespace, Applied="True")

        async def of_both_sides() -> list[dict[str, Any]] | None:
            found = await policies()
            return found if len(found) == 4 else None

        made = await until(of_both_sides)
        assert all(ranges(policy) for policy in made)
    listing = {"policy_ports": "explicit", "policy_explicit_ports": "53/UDP,53/TCP,443/TCP"}
    async with program(account, namespace, tmp_path, "second", **listing):

        async def rewritten() -> bool:
            return not any(ranges(policy) for policy in await policies())

        await until(rewritten)
    kept = await policies()
    assert {p["metadata"]["uid"] for p in kept} == {p["metadata"]["uid"] for p in made}
    assert len(await cut_policies(admin, namespace)) == 4
    for policy in kept:
        opened = policy["spec"]["ingress"][0]["ports"]
        assert [(p["protocol"], p["port"]) for p in opened] == [
            *(("TCP", 7601), ("UDP", 53), ("TCP", 53), ("TCP", 443)),
        ]


async def test_a_namespace_goes_with_the_cut_that_lives_in_it(
    admin: KubeClient, namespace: str, cluster: Cluster
):
    await admin.create(swarm(namespace, regions=EMPTY))
    # With rights that do not go with the namespace, as those of an operator that lives elsewhere.
    async with operating(cluster.kubeconfig, namespace):
        await admin.create(partition(namespace))
        await said(admin, namespace, Applied="True")
        await admin.delete(NAMESPACES, "", namespace)

        async def is_gone() -> bool:
            return await admin.get(NAMESPACES, "", namespace) is None

        await until(is_gone)

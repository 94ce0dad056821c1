"""The program is told to end while it works, and while it stands by: it finishes orderly and says nothing alarming.

kopf takes the signals of the process for itself, and cancels at its end whatever it does not know.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

import pytest

from gossipswarm_operator.client import LEASES, KubeClient
from kube import Cluster
from kube_operator_program import Program, by_way_of, program
from kube_operator_runs import cluster_admin, operator_account, swarm, until
from kube_proxy import proxying

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

GRACE_SECONDS: Final = 25.0
"""A little less than Kubernetes gives the pod. A question that is never answered lasts longer, or its end stands in the log."""


async def holder(admin: KubeClient, namespace: str) -> str | None:
    lease = await admin.get(LEASES, namespace, "gossipswarm-operator")
    return None if lease is None else str(lease["spec"]["holderIdentity"])


def alarming(ended: Program) -> list[dict[str, object]]:
    """What it said that nobody should read after an orderly end."""
    return [
        line for line in ended.said() if "plain" in line or line.get("level") in ("error", "fatal")
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_leader_amid_its_work_ends_within_seconds_and_gives_its_lease_away(
    cluster: Cluster,
    admin: KubeClient,
    namespace: str,
    account: Path,
    tmp_path: Path,
    number: signal.Signals,
):
    async with proxying(cluster.server) as proxy:
        never = asyncio.Event()
        proxy.choose = lambda method, path: never if "serviceaccounts/demo-agent" in path else None
        way = by_way_of(proxy.url, account)
        async with program(way, namespace, tmp_path) as leader:
            await until(leader.leads)
            await admin.create(swarm(namespace))

            async def is_at_work() -> bool:
                return proxy.pending > 0 and proxy.told("serviceaccounts/demo-agent") > 0

            await until(is_at_work)
            leader.process.send_signal(number)
            assert await leader.ended(GRACE_SECONDS) == 0
            assert alarming(leader) == []
            late = [line for line in leader.said() if "no answer in time" in str(line)]
            assert not late, "it did not wait for what it had asked"
            assert await holder(admin, namespace) == ""


async def test_a_second_signal_changes_nothing(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with program(account, namespace, tmp_path) as leader:
        await until(leader.leads)
        leader.process.terminate()
        leader.process.terminate()
        assert await leader.ended(GRACE_SECONDS) == 0
        assert alarming(leader) == []


async def test_a_leader_that_is_told_to_end_while_it_looks_for_kinds_does_not_complain(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with proxying(cluster.server) as proxy:
        never = asyncio.Event()
        proxy.choose = lambda method, path: never if path == "/apis" else None
        way = by_way_of(proxy.url, account)
        async with program(way, namespace, tmp_path) as leader:

            async def looks() -> bool:
                return any(path == "/apis" for _, path, _ in proxy.requests)

            await until(looks)
            leader.process.terminate()
            assert await leader.ended(GRACE_SECONDS) == 0
            assert alarming(leader) == []


async def test_a_replica_that_stands_by_ends_at_once_and_leaves_the_lease_alone(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with program(account, namespace, tmp_path, "first") as leader:
        await until(leader.leads)
        async with program(account, namespace, tmp_path, "second") as standby:
            await until(standby.metrics)
            assert await standby.terminated(GRACE_SECONDS) == 0
            assert alarming(standby) == []
        assert str(await holder(admin, namespace)).startswith("first_")

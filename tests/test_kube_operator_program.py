"""The operator's program: who leads, what it serves over HTTP, how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossipswarm_operator.agent_documents import AgentAddress, AgentUnreachable
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    LEASES,
    SECRETS,
    SERVICE_ACCOUNTS,
    STATEFUL_SETS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.leader import Leadership
from kube import Cluster
from kube_operator_program import by_way_of, program
from kube_operator_runs import OWNED, cluster_admin, operator_account, swarm, until
from kube_proxy import Fault, Proxy, proxying

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

EMPTY = [{"name": "us-east", "replicas": 0}]


async def is_whole(admin: KubeClient, namespace: str) -> bool:
    found = [await admin.get(resource, namespace, name) for resource, name in OWNED]
    return all(body is not None for body in found)


def writes(proxy: Proxy) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in proxy.requests if method != "GET"]


async def holder(admin: KubeClient, namespace: str) -> str:
    lease = await admin.get(LEASES, namespace, "gossipswarm-operator")
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def test_a_leader_that_is_told_to_end_ends_and_the_next_begins_at_once(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with program(account, namespace, tmp_path, "first", lease_seconds=60) as first:
        await until(first.leads)
        await admin.create(swarm(namespace, regions=EMPTY))
        await until(lambda: is_whole(admin, namespace))
        async with program(account, namespace, tmp_path, "second", lease_seconds=15) as second:

            async def follows() -> bool:
                return requests(await second.metrics(), resource="leases") >= 2

            await until(follows)
            assert not await second.leads()
            # Far less than the minute for which its Lease would be good.
            assert await first.terminated(25) == 0
            await until(second.leads, 25)
            await admin.delete(STATEFUL_SETS, namespace, "demo-us-east")
            await until(lambda: is_whole(admin, namespace))
        assert not [line for line in first.said() if "plain" in line], "all of its log is JSON"


async def test_a_lease_that_is_not_renewed_forbids_to_write_before_another_may_lead(
    admin: KubeClient, namespace: str, account: Path
):
    configuration = await load_configuration(str(account))
    async with KubeClient(configuration) as elector:
        leadership = Leadership(elector, namespace, "first", 12.0)
        guarded = KubeClient(configuration, before_write=leadership.check)
        async with guarded as kube, AgentsApi(before_write=leadership.check) as agents:
            agent = AgentAddress("demo-us-east-0", "us-east", "http://127.0.0.1:9", "token")
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "written", "namespace": namespace},
            }
            with pytest.raises(ApiError, match="does not lead"):
                await kube.create(body)
            await leadership.acquire()
            await kube.create(body)
            with pytest.raises(AgentUnreachable):
                await agents.put(agent, "key", 1)

            async def is_over() -> bool:
                try:
                    leadership.check()
                except ApiError:
                    return True
                return False

            await until(is_over)
            other = Leadership(elector, namespace, "other", 12.0)
            assert not await other._try(), "nobody else leads yet"
            with pytest.raises(ApiError, match="does not lead"):
                await kube.delete(CONFIG_MAPS, namespace, "written")
            with pytest.raises(ApiError, match="does not lead"):
                await agents.put(agent, "key", 1)
            assert await kube.get(CONFIG_MAPS, namespace, "written") is not None, "reading is free"


async def test_one_that_follows_writes_nothing_and_one_that_stopped_for_a_while_neither(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with (
        proxying(cluster.server) as of_first,
        proxying(cluster.server) as of_second,
        program(
            by_way_of(of_first.url, account), namespace, tmp_path, "first", lease_seconds=6
        ) as first,
    ):
        await until(first.leads)
        kept_back = asyncio.Event()

        def keep_back(method: str, path: str) -> Fault:
            return kept_back if method == "PATCH" and "serviceaccounts" in path else None

        of_first.choose = keep_back
        async with program(
            by_way_of(of_second.url, account), namespace, tmp_path, "second", lease_seconds=6
        ):
            await until(lambda: _asked(of_second, "leases"))
            assert writes(of_second) == [], "it follows"
            await admin.create(swarm(namespace, regions=EMPTY))
            # Stopped within its plan: the account is made, and it would make the Secrets next.
            await until(lambda: admin.get(SERVICE_ACCOUNTS, namespace, "demo-agent"))
            first.freeze()
            await until(lambda: is_whole(admin, namespace))
            assert (await holder(admin, namespace)).startswith("second_")
            secrets = [
                await admin.get(SECRETS, namespace, n) for n in ("demo-tokens", "demo-keyring")
            ]
            before = writes(of_first)
            kept_back.set()
            await until(lambda: _answered(of_first))
            first.thaw()
            assert await first.ended() == 1
            assert writes(of_first) == before
            assert secrets == [
                await admin.get(SECRETS, namespace, n) for n in ("demo-tokens", "demo-keyring")
            ]
            assert any("Lease was not renewed in time" in str(line) for line in first.said())
            assert (await holder(admin, namespace)).startswith("second_")


async def _asked(proxy: Proxy, text: str) -> bool:
    return proxy.told(text) > 0


async def _answered(proxy: Proxy) -> bool:
    return proxy.pending == 0


async def test_what_it_serves_says_whether_it_leads_and_whether_the_api_server_answers(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with proxying(cluster.server) as proxy:
        config = by_way_of(proxy.url, account)
        async with program(config, namespace, tmp_path, "first", lease_seconds=9) as first:
            await until(first.leads)
            await admin.create(swarm(namespace, regions=EMPTY))
            shown = 'gossipswarm_operator_condition{kind="GossipSwarm",name="demo",'
            ready = f'{shown}namespace="{namespace}",type="Ready"}}'
            done = 'gossipswarm_operator_reconciles_total{kind="GossipSwarm",outcome="done"}'

            async def is_shown() -> dict[str, float] | None:
                found = await first.metrics()
                return found if found.get(ready) == 1 and found.get(done, 0) >= 1 else None

            leader = await until(is_shown)
            assert requests(leader, verb="apply", code="201") >= len(OWNED)
            assert requests(leader, verb="get", resource="leases") >= 1
            async with program(account, namespace, tmp_path, "second") as second:
                follower = await until(second.metrics)
                assert (await second.get("/healthz"))[0] == (await second.get("/readyz"))[0] == 200
                assert follower["gossipswarm_operator_leading"] == 0
                assert not [name for name in follower if name.startswith(shown)]
                assert done not in follower
                assert requests(follower, verb="apply") == 0
            proxy.choose = lambda method, path: "cut"
            assert await first.ended() == 1
        async with program(config, namespace, tmp_path, "again", lease_seconds=9) as again:

            async def has_failed() -> bool:
                return requests(await again.metrics(), code="0") >= 2

            await until(has_failed)
            assert (await again.get("/healthz"))[0] == 200, "to start it again would help nobody"
            assert not await again.leads()
            proxy.choose = lambda method, path: None
            await until(again.leads)
            assert requests(await again.metrics(), code="0") >= 2


def requests(metrics: dict[str, float], **labels: str) -> float:
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith("gossipswarm_operator_api_requests_total{")
        and all(label in name for label in wanted)
    )


async def test_before_its_kinds_are_there_it_waits_for_them_and_says_so(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    missing = True

    def without_kinds(method: str, path: str) -> Fault:
        return 404 if missing and path.startswith("/apis/gossipswarm.io") else None

    async with proxying(cluster.server) as proxy:
        proxy.choose = without_kinds
        async with program(by_way_of(proxy.url, account), namespace, tmp_path) as running:

            async def is_said() -> bool:
                return any("install the CRDs" in str(line) for line in running.said())

            await until(is_said)
            await admin.create(swarm(namespace, regions=EMPTY))
            missing = False
            await until(lambda: is_whole(admin, namespace))

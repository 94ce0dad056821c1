"""The operator's program and its watches, which break: nothing is lost, nobody is stormed, the program goes on.

Swarms here have no agents, so that nothing has to be looked at again by the clock, which runs rarely: what happens
within seconds happens because it was seen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from gossipswarm_operator.client import CONFIG_MAPS, SECRETS, STATEFUL_SETS, SWARMS, KubeClient
from kube import Cluster
from kube_operator_program import Program, by_way_of, program
from kube_operator_runs import (
    OWNED,
    cluster_admin,
    make_account,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)
from kube_proxy import Fault, Proxy, proxying

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

REFUSALS: Final[tuple[Fault, ...]] = (429, 503, 403, "cut")
RARELY = {"resync_seconds": 600, "lease_seconds": 300}
WATCHED: Final = 10
"""Kinds: swarms, SwarmConfigs, SwarmPartitions, pods and the six that swarms consist of."""


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    async with proxying(cluster.server) as found:
        yield found


async def whole(admin: KubeClient, namespace: str) -> bool:
    found = [await admin.get(resource, namespace, name) for resource, name in OWNED]
    return all(body is not None for body in found)


def empty(namespace: str, **spec: Any) -> dict[str, Any]:
    return swarm(namespace, regions=[{"name": "us-east", "replicas": 0}], **spec)


async def tagged(admin: KubeClient, namespace: str, tag: str) -> bool:
    found = await admin.get(STATEFUL_SETS, namespace, "demo-us-east")
    assert found is not None
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return bool(image.endswith(f":{tag}"))


async def retag(admin: KubeClient, namespace: str, tag: str) -> None:
    await admin.merge(SWARMS, namespace, "demo", {"spec": {"image": {"tag": tag}}})


async def test_what_was_listed_is_listed_again_when_something_was_noticed_or_done(
    admin: KubeClient, namespace: str, account: Path
):
    key = (namespace, "demo")
    await admin.create(empty(namespace))
    async with reconciler(account, relist_seconds=600.0) as (operator, calls):

        async def lists() -> int:
            calls.seen.clear()
            await operator.reconcile(key)
            # Partitions pass with time, so they are asked for always.
            return sum(verb == "list" and what != "swarmpartitions" for verb, what in calls.seen)

        assert await lists() > 0
        assert await lists() > 0, "its own doing may not be seen in what it listed before"
        await settled(operator, key, 3)
        assert await lists() == 0
        # Nobody told of it, so it is not seen; that is what watches are for.
        await admin.delete(CONFIG_MAPS, namespace, "demo-config")
        assert await lists() == 0
        operator.notice(key)
        assert await lists() > 0
        assert await whole(admin, namespace)
        await settled(operator, key, 2)
        assert await lists() == 0
        # Secrets are not watched: they are asked for by name.
        await admin.delete(SECRETS, namespace, "demo-tokens")
        await operator.reconcile(key)
        assert await whole(admin, namespace)


async def test_a_broken_watch_goes_on_where_it_was(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path, proxy: Proxy
):
    async with program(by_way_of(proxy.url, account), namespace, tmp_path, **RARELY) as running:
        await admin.create(empty(namespace))
        await until(lambda: whole(admin, namespace))
        await running.rests()
        for attempt in range(3):
            await until(lambda: _watches(proxy))
            begun = len(proxy.watches)
            assert proxy.cut_watches() == WATCHED
            # Nobody may be watching at this moment.
            await retag(admin, namespace, f"1.0.{attempt}")
            await until(lambda n=attempt: tagged(admin, namespace, f"1.0.{n}"))
            await until(lambda n=begun: _count(proxy.watches, n + WATCHED))
            assert len(proxy.watches) == begun + WATCHED, "each once"
        await admin.delete(CONFIG_MAPS, namespace, "demo-config")
        await until(lambda: whole(admin, namespace))
        assert running.process.poll() is None


async def _watches(proxy: Proxy) -> bool:
    return proxy.open_watches == WATCHED


async def _count(found: list[str], wanted: int) -> bool:
    return len(found) >= wanted


async def test_an_api_server_that_starts_again_is_watched_again(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with program(account, namespace, tmp_path, **RARELY) as running:
        await admin.create(empty(namespace))
        await until(lambda: whole(admin, namespace))
        await running.rests()
        for number in range(2):
            await asyncio.to_thread(cluster.restart_apiserver, kill=number == 1)
            await retag(admin, namespace, f"2.0.{number}")
            await until(lambda n=number: tagged(admin, namespace, f"2.0.{n}"))
        await admin.delete(CONFIG_MAPS, namespace, "demo-config")
        await until(lambda: whole(admin, namespace))
        assert running.process.poll() is None
        assert await running.leads()
        metrics = await running.metrics()
        assert requests(metrics) < 400, "no hot loop"


async def test_what_happened_before_a_version_that_is_gone_is_made_up_for(
    cluster: Cluster,
    admin: KubeClient,
    namespace: str,
    account: Path,
    tmp_path: Path,
    proxy: Proxy,
):
    config = by_way_of(proxy.url, account)
    settings = {"resync_seconds": 1, "lease_seconds": 300, "log_level": "debug"}
    async with program(config, namespace, tmp_path, **settings) as running:
        await admin.create(empty(namespace))
        await until(lambda: whole(admin, namespace))
        first = await admin.get(SWARMS, namespace, "demo")
        assert first is not None
        proxy.choose = lambda method, path: "cut" if _is_watched(path, namespace) else None
        proxy.cut_watches()
        # Its disappearance is noticed by the clock, and it is forgotten; that there is another one is for the watch.
        await admin.delete(SWARMS, namespace, "demo")
        await until(lambda: _forgotten(running))
        await admin.create(empty(namespace))
        compact(cluster)
        await asyncio.to_thread(cluster.restart_apiserver)
        proxy.choose = lambda method, path: None

        async def is_served() -> bool:
            found = await admin.get(SWARMS, namespace, "demo")
            assert found is not None
            assert found["metadata"]["uid"] != first["metadata"]["uid"]
            return found.get("status", {}).get("observedGeneration") == 1

        await until(is_served)
        await until(lambda: whole(admin, namespace))
        assert any("Restarting the watch-stream" in str(line) for line in running.said())
        assert running.process.poll() is None


def _is_watched(path: str, namespace: str) -> bool:
    """Whether a request is one of kopf's, for a collection in a namespace: the operator's own lists have a limit."""
    return path.endswith(f"/namespaces/{namespace}/gossipswarms")


async def _forgotten(running: Program) -> bool:
    metrics = await running.metrics()
    shown = any('condition{kind="GossipSwarm",name="demo"' in name for name in metrics)
    return bool(metrics) and not shown


def compact(cluster: Cluster) -> None:
    """Have etcd forget every version but the newest."""
    key = base64.b64encode(b"none").decode()
    found = _etcd(cluster, "range", f'{{"key": "{key}"}}')
    _etcd(
        cluster, "compaction", f'{{"revision": "{found["header"]["revision"]}", "physical": true}}'
    )


def _etcd(cluster: Cluster, call: str, body: str) -> Any:
    request = urllib.request.Request(f"{cluster.etcd}/v3/kv/{call}", body.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def requests(metrics: dict[str, float], **labels: str) -> float:
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith("gossipswarm_operator_api_requests_total{")
        and all(label in name for label in wanted)
    )


async def test_an_api_server_that_refuses_for_a_while_is_not_stormed_and_then_watched(
    cluster: Cluster, admin: KubeClient, tmp_path: Path
):
    """In each way in which one can refuse, all at the same time: what they do most is to wait."""
    with contextlib.ExitStack() as stack:
        namespaces = [stack.enter_context(cluster.namespace()) for _ in REFUSALS]
        accounts = [make_account(cluster, namespace) for namespace in namespaces]
        async with asyncio.TaskGroup() as group:
            for namespace, account, fault in zip(namespaces, accounts, REFUSALS, strict=True):
                place = tmp_path / namespace
                place.mkdir()
                group.create_task(bears(cluster, admin, namespace, account, place, fault))


async def bears(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, place: Path, fault: Fault
) -> None:
    """An operator bears a server that refuses everything in one way."""
    async with (
        proxying(cluster.server) as proxy,
        program(by_way_of(proxy.url, account), namespace, place, **RARELY) as running,
    ):
        await admin.create(empty(namespace))
        await until(lambda: whole(admin, namespace))
        await running.rests()
        await until(lambda: _watches(proxy))
        proxy.requests.clear()
        proxy.choose = lambda method, path: fault
        proxy.cut_watches()
        begun = time.monotonic()
        await until(lambda: _count(proxy.requests, 2 * WATCHED))
        await retag(admin, namespace, "3.0.0")
        spent = time.monotonic() - begun
        # At most one a second and watch, and one at once.
        assert len(proxy.requests) <= WATCHED * (2 + spent), fault
        proxy.choose = lambda method, path: None
        await until(lambda: tagged(admin, namespace, "3.0.0"))
        assert running.process.poll() is None

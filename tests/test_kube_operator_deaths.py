"""The operator's program, killed by SIGKILL after every write of every plan; with real agents, which serve all the while.

Beside each swarm of such operators there is one that undergoes the same with an operator that nobody kills. In the end
nothing may tell the two apart: not what the API server holds, not what agents hold, not how often pods were replaced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import CONFIGS, PODS, SECRETS, KubeClient
from gossipswarm_operator.keyring import read_ring
from kube import Cluster, free_port
from kube_injection import HOST, NAME, SECRET, installed, pod, sidecar_of
from kube_operator_agents import addresses
from kube_operator_lives import Write, killed_after_every_write, mortals
from kube_operator_load import under_load
from kube_operator_pair import Pair
from kube_operator_program import program
from kube_operator_runs import cluster_admin, condition, make_account, operator_account, swarm
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

EACH: Final = 5
"""Objects that a swarm has whatever its regions: account, tokens, keys, settings, Service."""


@pytest.fixture
def calm(cluster: Cluster, tmp_path: Path) -> Iterator[Podlet]:
    """Where the swarm whose operator is not killed is."""
    with cluster.namespace() as name, Podlet(cluster, name, tmp_path / "calm") as running:
        yield running


@pytest.fixture
def storage_class(cluster: Cluster) -> Iterator[str]:
    """A class whose volumes can grow."""
    path, name = "/apis/storage.k8s.io/v1/storageclasses", "deaths"
    body = {
        "metadata": {"name": name},
        "provisioner": "example.com/none",
        "allowVolumeExpansion": True,
    }
    cluster.request("POST", path, body)
    yield name
    cluster.request("DELETE", f"{path}/{name}")


@pytest.fixture
async def pair(
    cluster: Cluster, admin: KubeClient, account: Path, podlet: Podlet, calm: Podlet, tmp_path: Path
) -> AsyncIterator[Pair]:
    other = make_account(cluster, calm.namespace)
    async with (
        program(other, calm.namespace, tmp_path, resync_seconds=1),
        mortals(admin, account, podlet.namespace, tmp_path) as lives,
    ):
        yield Pair(admin, podlet, calm, lives)


def regions(**replicas: int) -> dict[str, Any]:
    return {
        "regions": [{"name": name.replace("_", "-"), "replicas": n} for name, n in replicas.items()]
    }


def steps(lived: list[list[Write]]) -> list[Write]:
    """What was written for the swarm, other than to tell of it."""
    return [write for writes in lived for write in writes if not write.is_told]


def repeated(lived: list[list[Write]]) -> list[Write]:
    """What was written though it was what its target had been told last, other than by dying within a step."""
    last: dict[str, Write] = {}
    found = []
    for write in steps([writes for writes in lived if len(writes) == 1]):
        if last.get(write.target) == write:
            found.append(write)
        last[write.target] = write
    return found


async def ring(admin: KubeClient, namespace: str) -> tuple[str, ...]:
    secret = await admin.get(SECRETS, namespace, "demo-keyring")
    assert secret is not None
    return read_ring(secret).ids


def rings(lived: list[list[Write]]) -> list[tuple[str, ...]]:
    """What the Secret was told to hold, each time."""
    return [
        read_ring(write.body).ids
        for write in steps(lived)
        if write.target.endswith("/secrets/demo-keyring")
    ]


async def test_a_swarm_comes_about_once_from_every_place_and_goes_for_good(pair: Pair):
    async def create(namespace: str) -> None:
        await pair.admin.create(swarm(namespace, **regions(us_east=1, eu_west=1)))

    lived = await pair.undergo(create)
    assert repeated(lived) == []
    assert len(steps(lived)) >= EACH + 4 * 2, "every object had its death"
    await pair.change_until_killed(image={"tag": "2.0.0"})
    assert await pair.after_deletion() == [], "what is deleted is not made again"


async def test_keys_are_exchanged_once_from_every_place_and_replaced_when_they_are_lost(pair: Pair):
    await pair.begin(**regions(us_east=1, eu_west=1, ap_south=1))
    first = await ring(pair.admin, pair.namespace)
    async with under_load(pair.admin, pair.namespace):
        lived = await pair.change(encryption={"rotation": {"generation": 1}})
        second = await ring(pair.admin, pair.namespace)
        assert rings(lived) == [(*first, *second), (*second, *first), second], (
            "one key, each step once"
        )
        assert repeated(lived) == []

        async def lose(namespace: str) -> None:
            await pair.admin.delete(SECRETS, namespace, "demo-keyring")

        lived = await pair.undergo(lose)
        third = await ring(pair.admin, pair.namespace)
        assert rings(lived) == [third]
        assert len({*first, *second, *third}) == 3
        within = [len(writes) for writes in lived][:4]
        assert within == [1, 2, 3, 4], (
            "deaths before the first, second and third agent and the Secret had it"
        )


async def test_agents_are_told_replaced_added_and_let_go_once_from_every_place(
    pair: Pair, storage_class: str
):
    storage = {"size": "1Gi", "storageClassName": storage_class}
    await pair.begin(**regions(us_east=2, eu_west=1), storage=storage)
    async with under_load(pair.admin, pair.namespace) as load:
        lived = await pair.change(gossip={"fanout": 5})
        assert repeated(lived) == []
        assert sum(write.target.endswith("/v1/config") for write in steps(lived)) == 1

        lived = await pair.change(
            image={"tag": "2.0.0"}, podTemplate={"metadata": {"annotations": {"team": "gossip"}}}
        )
        assert repeated(lived) == []
        assert {name: len(uids) for name, uids in load.uids.items()} == {
            "demo-us-east-0": 2, "demo-us-east-1": 2, "demo-eu-west-0": 2,
        }  # fmt: skip
        assert load.least_ready == 2, "one after the other"

        lived = await pair.change(**regions(us_east=3, eu_west=1, ap_south=1))
        assert repeated(lived) == []

        lived = await pair.change(storage={"size": "2Gi"})
        assert repeated(lived) == []
        assert len(steps(lived)) >= 5 + 2 * 3, "claims, and each StatefulSet deleted and made again"

        lived = await pair.change(**regions(us_east=2, eu_west=1))
        assert any(len(writes) > 2 for writes in lived), "deaths within a drain, too"
        assert all(len(uids) <= 2 for uids in load.uids.values()), load.uids


def settings(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "SwarmConfig",
        "metadata": {"name": "demo-settings", "namespace": namespace},
        "spec": {
            "swarmRef": {"name": "demo"},
            "prefix": "app",
            "data": {"ttl": 60, "host": "a"},
        },
    }


async def test_a_config_is_delivered_changed_and_taken_back_once_from_every_place(pair: Pair):
    admin, name = pair.admin, "demo-settings"
    await pair.begin(**regions(us_east=2, eu_west=1))

    async def create(namespace: str) -> None:
        await admin.create(settings(namespace))

    async def change(namespace: str) -> None:
        changes = {"spec": {"data": {"ttl": 61, "host": None}}}
        await admin.merge(CONFIGS, namespace, name, changes)

    async def remove(namespace: str) -> None:
        await admin.delete(CONFIGS, namespace, name)

    async def is_delivered() -> bool:
        found = await admin.get(CONFIGS, pair.namespace, name)
        assert found is not None
        if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return False
        return bool(condition(found, "Converged")["status"] == "True")

    async def is_gone() -> bool:
        return await admin.get(CONFIGS, pair.namespace, name) is None

    async def held() -> list[Any]:
        """Value of every agent, and how often it was written."""
        async with AgentsApi() as api:
            agents = await addresses(admin, pair.namespace)
            found = await ask_all(agents, lambda agent: api.read(agent, "app.ttl"))
        return [
            value and (getattr(value, "value", value), getattr(value, "version", None))
            for value in found.values()
        ]

    async with under_load(admin, pair.namespace):
        lived = await pair.undergo(create, is_delivered)
        assert sum(map(len, lived)) >= 3
        assert await held() == [(60, 1)] * 3
        lived = await pair.undergo(change, is_delivered)
        assert sum(map(len, lived)) >= 2
        assert await held() == [(61, 2)] * 3, "written once more, and once only"
        lived = await pair.undergo(remove, is_gone)
        assert sum(map(len, lived)) >= 1
        assert await held() == [None] * 3


async def test_the_webhook_comes_to_its_certificate_and_is_trusted_from_every_place(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    port = free_port()
    settings = {
        "webhook_port": port,
        "webhook_host": HOST,
        "webhook_secret": SECRET,
        "webhook_configuration": NAME,
    }
    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))

    async def injects() -> bool:
        made = await admin.create(pod(namespace, "probe"))
        await admin.delete(PODS, namespace, "probe")
        return sidecar_of(made) is not None

    with installed(cluster, namespace, port):
        async with mortals(admin, account, namespace, tmp_path, **settings) as lives:
            lived = await killed_after_every_write(lives, injects)
    targets = [write.target for write in steps(lived)]
    assert any(target.endswith(f"/mutatingwebhookconfigurations/{NAME}") for target in targets)
    assert any(
        write.method == "POST" and write.target.endswith("/secrets") for write in steps(lived)
    )

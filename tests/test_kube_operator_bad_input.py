"""What cannot be done, on a real API server: a condition and an event say why, nobody is stormed meanwhile, and once the
cause is gone the swarm comes about by itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator import names
from gossipswarm_operator.client import (
    BY_KIND,
    EVENTS,
    PODS,
    STATEFUL_SETS,
    SWARMS,
    KubeClient,
)
from gossipswarm_operator.reconcile import SwarmReconciler
from kube import Cluster, Refused, wait_until
from kube_operator_agents import SETTLED, change, operating, rests, stands
from kube_operator_runs import (
    OWNED,
    Calls,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

NOBODY = [{"name": "us-east", "replicas": 0}]
MERGE = "application/merge-patch+json"


class Demo:
    """The swarm ``demo`` of a namespace, with an operator that looks when it is told to."""

    def __init__(
        self, cluster: Cluster, namespace: str, operator: SwarmReconciler, calls: Calls
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.operator = operator
        self.calls = calls

    def path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    def put(self, kind: str, name: str, **body: Any) -> None:
        """Create or replace an object of the core API."""
        whole = {"metadata": {"name": name}, **body}
        try:
            self.cluster.request("POST", self.path(kind), whole)
        except Refused:
            self.cluster.request("PUT", self.path(kind, name), whole)

    async def said(self, kind: str) -> dict[str, Any]:
        """What a condition says after another look."""
        await self.operator.reconcile((self.namespace, "demo"))
        path = SWARMS.path(self.namespace, "demo")
        return condition(self.cluster.request("GET", path), kind)

    async def says(self, kind: str, reason: str, *words: str) -> None:
        """Look until a condition is False for this reason; an event and the message say it in these words."""
        await self.becomes(kind, reason)
        found = await self.said(kind)
        assert found["status"] == "False"
        for word in words:
            assert word in found["message"]
        events = self.cluster.request("GET", self.path("events"))["items"]
        told = [
            event["message"]
            for event in events
            if event["involvedObject"]["kind"] == "GossipSwarm"
            and reason in f"{event['reason']} {event['message']}"
        ]
        assert any(all(word in message for word in words) for message in told), told

    async def becomes(self, kind: str, reason: str) -> None:
        """Look until a condition has this reason."""
        found: dict[str, Any] = {}

        async def holds() -> bool:
            nonlocal found
            found = await self.said(kind)
            return found["reason"] == reason

        try:
            await until(holds)
        except AssertionError:
            raise AssertionError(f"not {reason}, but {found}") from None

    async def is_patient(self) -> None:
        """Once the status says it, looking again writes nothing, and the next look is some time off."""
        delay: float | None = None

        async def writes_nothing() -> bool:
            nonlocal delay
            self.calls.seen.clear()
            delay = await self.operator.reconcile((self.namespace, "demo"))
            return self.calls.writes == []

        await until(writes_nothing)
        assert delay is not None
        assert delay >= 2

    async def backs_off(self, tries: int) -> None:
        """What is refused is tried once a look, and each look is further off than the one before."""
        delays = []
        for _ in range(3):
            self.calls.seen.clear()
            delays.append(await self.operator.reconcile((self.namespace, "demo")) or 0)
            assert sum(verb == "apply" for verb, _ in self.calls.seen) <= tries
            assert len(self.calls.writes) <= 3 * tries + 2, "each try, its event, and the status"
        assert delays[0] < delays[1] < delays[2]

    async def is_well(self) -> None:
        """It is as its spec wants it, after a few looks."""
        await self.becomes("Progressing", "UpToDate")


@pytest.fixture
async def demo(cluster: Cluster, namespace: str, account: Path) -> Any:
    async with reconciler(account) as (operator, calls):
        yield Demo(cluster, namespace, operator, calls)


# --- what a swarm refers to -----------------------------------------------------------------------


async def test_keys_that_are_missing_or_none(admin: KubeClient, demo: Demo):
    await admin.create(swarm(demo.namespace, regions=NOBODY, encryption={"secretName": "ring"}))
    await demo.says("Progressing", "NoKeys", "Secret ring", "not there")
    assert (await demo.said("KeyringInSync"))["reason"] == "NoKeys"
    await demo.is_patient()
    demo.put("secrets", "ring", data={"primary": base64.b64encode(b"secret").decode()})
    await demo.says("Progressing", "NoKeys")
    assert "primary is not a key: 32 bytes" in (await demo.said("Progressing"))["message"]
    await demo.is_patient()
    key = base64.b64encode(b"k" * 32)
    demo.put("secrets", "ring", data={"primary": base64.b64encode(key).decode()})
    await demo.is_well()
    assert (await demo.said("KeyringInSync"))["status"] == "True"


async def test_a_certificate_and_hooks_that_are_missing_or_something_else(
    admin: KubeClient, demo: Demo
):
    references = {"api": {"tls": {"secretName": "tls"}}, "hooks": {"configMapName": "hooks"}}
    await admin.create(swarm(demo.namespace, regions=NOBODY, **references))
    await demo.says("Progressing", "ReferenceMissing", "ConfigMap hooks", "Secret tls")
    await demo.is_patient()
    demo.put("configmaps", "hooks", data={"values": "1"})
    demo.put("secrets", "tls", data={"tls.crt": ""})
    message = (await demo.said("Progressing"))["message"]
    assert "key hooks.yaml of ConfigMap hooks" in message
    assert "key tls.key of Secret tls" in message
    await demo.is_patient()
    demo.put("configmaps", "hooks", data={"hooks.yaml": "hooks: []"})
    demo.put("secrets", "tls", data={"tls.crt": "", "tls.key": ""})
    await demo.is_well()


async def test_volumes_of_a_class_that_is_not_there(
    cluster: Cluster, admin: KubeClient, demo: Demo
):
    missing = f"class-{demo.namespace}"
    storage = {"storageClassName": missing}
    await admin.create(swarm(demo.namespace, replicasPerRegion=1, storage=storage))
    await demo.says("Ready", "VolumesMissing", "data-demo-us-east-0", missing, "not found")
    await demo.is_patient()
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    cluster.request(
        "POST", classes, {"metadata": {"name": missing}, "provisioner": "example.com/none"}
    )
    volume = {
        "metadata": {"name": missing},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": demo.namespace, "name": "data-demo-us-east-0"},
            "hostPath": {"path": "/nowhere"},
            "storageClassName": missing,
        },
    }
    cluster.request("POST", "/api/v1/persistentvolumes", volume)
    await demo.becomes("Ready", "AgentsNotReady")
    cluster.request("DELETE", f"{classes}/{missing}")


# --- names ----------------------------------------------------------------------------------------


def somebody_elses(namespace: str) -> Iterator[dict[str, Any]]:
    """An object of somebody else under each name that a swarm needs."""
    labels = {"app": "database"}
    specs: dict[str, dict[str, Any]] = {
        "Service": {"spec": {"ports": [{"port": 5432}], "selector": labels}},
        "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": labels}}},
        "PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}},
        "ConfigMap": {"data": {"agent.yaml": "theirs"}},
        "Secret": {"data": {"password": base64.b64encode(b"theirs").decode()}},
        "StatefulSet": {
            "spec": {
                "replicas": 0,
                "serviceName": "database",
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "a", "image": "b"}]},
                },
            }
        },
    }
    for resource, name in OWNED:
        yield {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            **specs.get(resource.kind, {}),
        }


async def test_names_that_are_taken_of_every_kind(admin: KubeClient, demo: Demo):
    theirs = [await admin.create(body) for body in somebody_elses(demo.namespace)]
    await admin.create(swarm(demo.namespace, regions=NOBODY))
    taken = [f"{resource.kind} {name} was made by" for resource, name in OWNED]
    await demo.says("Progressing", "NameTaken", *taken)
    assert (await demo.said("Ready"))["reason"] == "NotCreated"
    await demo.is_patient()
    for before in theirs:
        resource, name = BY_KIND[before["kind"]], before["metadata"]["name"]
        after = await admin.get(resource, demo.namespace, name)
        assert after is not None
        for part in ("spec", "data"):
            assert after.get(part) == before.get(part)
        assert after["metadata"]["labels"] == before["metadata"]["labels"]
        await admin.delete(resource, demo.namespace, name)
    await demo.is_well()
    for resource, name in OWNED:
        found = await admin.get(resource, demo.namespace, name)
        assert found is not None
        assert names.controller_of(found) is not None


async def test_names_that_are_as_long_as_they_may_be(admin: KubeClient, demo: Demo):
    long = {"name": "s" * 24, "region": "r" * 23}
    body = swarm(demo.namespace, regions=[{"name": long["region"], "replicas": 1}])
    body["metadata"]["name"] = long["name"]
    await admin.create(body)
    await settled(demo.operator, (demo.namespace, long["name"]), 3)
    pod = f"{long['name']}-{long['region']}-0"
    await until(lambda: admin.get(PODS, demo.namespace, pod))
    found = await admin.get(SWARMS, demo.namespace, long["name"])
    assert found is not None
    assert condition(found, "Ready")["reason"] == "AgentsNotReady"
    assert condition(found, "Progressing")["reason"] in ("UpToDate", "KeyRotation")
    body["spec"]["regions"][0]["name"] += "r"
    with pytest.raises(Refused, match="may have 47 characters together"):
        demo.cluster.request("POST", f"{SWARMS.path(demo.namespace)}?dryRun=All", body)


# --- what the cluster does not allow --------------------------------------------------------------


def limit(demo: Demo, **hard: str) -> None:
    """Set a quota, and wait until it counts."""
    spec = {"hard": {name.replace("__", "/"): value for name, value in hard.items()}}
    demo.put("resourcequotas", "small", spec=spec)

    def counts() -> bool:
        found = demo.cluster.request("GET", demo.path("resourcequotas", "small"))
        return bool(found.get("status", {}).get("hard") == found["spec"]["hard"])

    wait_until(counts, 180, "the quota counts")


async def test_a_quota_that_leaves_no_room_for_a_region(admin: KubeClient, demo: Demo):
    limit(demo, **{"count__statefulsets.apps": "0"})
    await admin.create(swarm(demo.namespace, regions=NOBODY))
    await demo.says("Progressing", "QuotaExceeded", "StatefulSet demo-us-east", "exceeded quota")
    await demo.backs_off(tries=1)
    limit(demo, **{"count__statefulsets.apps": "5"})
    await demo.is_well()
    assert await admin.get(STATEFUL_SETS, demo.namespace, "demo-us-east") is not None


async def test_a_quota_that_leaves_no_room_for_pods(admin: KubeClient, demo: Demo):
    limit(demo, pods="0")
    await admin.create(swarm(demo.namespace, replicasPerRegion=1))
    await demo.says("Ready", "PodsRefused", "demo-us-east", "exceeded quota: small")
    await demo.is_patient()
    limit(demo, pods="5")
    await until(lambda: admin.get(PODS, demo.namespace, "demo-us-east-0"), 300)
    await demo.becomes("Ready", "AgentsNotReady")


async def test_a_namespace_that_is_being_deleted(
    cluster: Cluster, admin: KubeClient, namespace: str, demo: Demo
):
    await admin.create(swarm(namespace, regions=NOBODY))
    cluster.stop_program("kube-controller-manager")  # it would take the swarm away at once
    try:
        cluster.request("DELETE", f"/api/v1/namespaces/{namespace}")
        found = await demo.said("Progressing")
        assert (found["status"], found["reason"]) == ("False", "NamespaceTerminating")
        assert f"namespace {namespace} because it is being terminated" in found["message"]
        await demo.backs_off(tries=len(OWNED))
    finally:
        cluster.start_controllers()

    async def is_gone() -> bool:
        return await admin.get(SWARMS, namespace, "demo") is None

    await until(is_gone)


# --- images ---------------------------------------------------------------------------------------


async def test_an_image_that_cannot_be_pulled(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    good, bad = ({"repository": "example.com/agent", "tag": tag} for tag in ("1", "2"))
    podlet.broken_images.add("example.com/agent:2")
    await admin.create(swarm(namespace, replicasPerRegion=2, image=bad, update={"timeout": "3s"}))
    async with operating(account, namespace) as calls:

        async def said(kind: str, reason: str) -> bool:
            found = await stands(admin, namespace, **{kind: "False"})
            told = condition(found, kind)
            return told["reason"] == reason and "no image example.com/agent:2" in told["message"]

        await until(lambda: said("Ready", "ImagePullBackOff"))
        await rests(calls)
        events = await admin.list_all(EVENTS, namespace)
        assert any("no image example.com/agent:2" in event["message"] for event in events)

        await change(admin, namespace, image=good)
        await stands(admin, namespace, **SETTLED)

        await change(admin, namespace, image=bad)
        await until(lambda: said("Progressing", "UpdateTimedOut"))
        found = await stands(admin, namespace, Available="True")
        assert found["status"]["ready"] == "1/2"
        await rests(calls)
        podlet.broken_images.clear()
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["version"] == "2"

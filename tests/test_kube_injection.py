"""Sidecars by the webhook, on a real API server: what pods come back as, and that they are made whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import LEASES, PODS, SECRETS, SWARMS, WEBHOOKS, KubeClient
from gossipswarm_operator.events import utc_now
from gossipswarm_operator.injection.served import content
from gossipswarm_operator.main import operate
from gossipswarm_operator.settings import Settings
from kube import Cluster, free_port
from kube_injection import (
    HOST,
    NAME,
    SECRET,
    configuration,
    event_of,
    injected_soon,
    installed,
    pod,
    sidecar_of,
    webhook,
)
from kube_operator_agents import SETTLED, addresses, operating, stands
from kube_operator_runs import IMAGE, cluster_admin, operator_account, swarm, until
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


@pytest.fixture
def port(cluster: Cluster, namespace: str, account: Path):
    """Where the webhook is to listen; its configuration says so."""
    found = free_port()
    with installed(cluster, namespace, found):
        yield found


def places(container) -> dict[str, str]:
    """Volumes of a container by where they are."""
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


async def test_an_injected_edge_runs_beside_its_application_and_keeps_its_file(
    admin: KubeClient, namespace: str, account: Path, port: int, podlet: Podlet
):
    await admin.create(swarm(namespace, replicasPerRegion=2))
    async with (
        operating(account, namespace),
        webhook(account, namespace, port),
        AgentsApi() as api,
    ):
        await injected_soon(admin, namespace)
        await stands(admin, namespace, **SETTLED)
        agents = await addresses(admin, namespace)
        await api.put(agents[0], "app.config", {"colour": "green"})

        made = await admin.create(
            pod(namespace, annotations={"project": "app.config=/config/app.json"})
        )
        assert sidecar_of(made) is not None
        assert "/config" in places(made["spec"]["containers"][0])
        token = "/var/run/secrets/kubernetes.io/serviceaccount"
        assert token in places(made["spec"]["containers"][0])
        assert places(sidecar_of(made))[token] == "gossipswarm-no-account"

        async def started() -> bool:
            found = await admin.get(PODS, namespace, "web")
            statuses = (found or {}).get("status", {}).get("initContainerStatuses", [])
            return any(each["ready"] for each in statuses)

        await until(started)
        file = podlet.file_of("web", "/config/app.json")
        assert json.loads(file.read_text("utf-8")) == {"colour": "green"}, "there at the start"
        assert file.stat().st_mode & 0o004, "the application runs as somebody else"

        await api.put(agents[1], "app.config", {"colour": "blue"})

        async def changed() -> bool:
            return json.loads(file.read_text("utf-8")) == {"colour": "blue"}

        await until(changed)


async def test_a_restricted_namespace_admits_the_pod_and_whoever_opts_out_gets_nothing(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, port: int
):
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    await admin.create(swarm(namespace, api={"tls": {"secretName": "agents-tls"}}))
    async with webhook(account, namespace, port):
        await injected_soon(admin, namespace)
        asked = {"project": "app=/config/app.json", "access": "write"}
        sidecar = sidecar_of(await admin.create(pod(namespace, "everything", asked)))
        assert sidecar is not None
        assert sidecar["restartPolicy"] == "Always"
        out = pod(namespace, "out")
        out["metadata"]["labels"]["gossipswarm.io/inject"] = "false"
        assert sidecar_of(await admin.create(out)) is None


async def test_a_job_with_a_sidecar_completes(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, port: int
):
    await admin.create(swarm(namespace))
    template = pod(namespace, restartPolicy="Never")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate", "namespace": namespace},
        "spec": {"template": {"metadata": {"labels": template["metadata"]["labels"]}, "spec": template["spec"]}},
    }  # fmt: skip
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    async with webhook(account, namespace, port):
        await injected_soon(admin, namespace)
        cluster.request("POST", path, job)

        async def made():
            found = await admin.list_all(
                PODS, namespace, labels="batch.kubernetes.io/job-name=migrate"
            )
            return found[0] if found else None

        found = await until(made)
        assert sidecar_of(found) is not None
        assert len(found["spec"]["containers"]) == 1
        # As a kubelet does when the application has ended: the sidecar is ended by it, and does not count.
        await admin.patch_status(PODS, namespace, found["metadata"]["name"], {"phase": "Succeeded"})

        async def complete() -> bool:
            status = cluster.request("GET", f"{path}/migrate")["status"]
            return any(each["type"] == "Complete" for each in status.get("conditions", ()))

        await until(complete)


@pytest.mark.parametrize(
    ("label", "annotation", "reason", "said"),
    [
        ("demo", "app=/etc/app.json", "BadAnnotation", "gossipswarm.io/project"),
        ("dmeo", "app=/config/app.json", "NoSuchSwarm", "there is no GossipSwarm dmeo"),
        ("demo.elsewhere", "app=/config/app.json", "OtherNamespace", "run the pod in elsewhere"),
    ],
)
async def test_whoever_asks_for_what_cannot_be_is_told_and_gets_the_pod(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, port: int, label, annotation, reason, said
):  # fmt: skip
    await admin.create(swarm(namespace))
    async with webhook(account, namespace, port) as found:
        await injected_soon(admin, namespace)
        asked = pod(namespace, annotations={"project": annotation})
        asked["metadata"]["labels"]["gossipswarm.io/inject"] = label
        shown = await asyncio.to_thread(
            cluster.kubectl, "create", "-f", "-", stdin=json.dumps(asked)
        )
        assert "pod/web created" in shown.stdout
        assert "Warning: no sidecar: " in shown.stderr
        assert said in shown.stderr
        again = await found.uninjected.reconcile((namespace, "web"))
        assert again is not None
        event = await event_of(admin, namespace, "web")
        assert event["reason"] == reason
        assert said in event["message"]
        counted = (
            f'gossipswarm_operator_uninjected_pods{{namespace="{namespace}",reason="{reason}"}} 1.0'
        )
        assert counted in found.metrics.text().decode()
        await admin.delete(PODS, namespace, "web")
        assert await found.uninjected.reconcile((namespace, "web")) is None
        assert counted not in found.metrics.text().decode()


async def test_certificates_are_replaced_while_pods_are_made_and_none_goes_without(
    admin: KubeClient, namespace: str, account: Path, port: int
):
    await admin.create(swarm(namespace))
    async with webhook(account, namespace, port) as found:
        # From now on the first certificate is two months old, and due.
        await admin.delete(SECRETS, namespace, SECRET)
        await found.rotation(clock=lambda: utc_now() - dt.timedelta(days=61)).step()
        await found.serving.look()
        await injected_soon(admin, namespace)
        first = await asyncio.to_thread(ssl.get_server_certificate, (HOST, port))
        made, done = [], asyncio.Event()

        async def keep_making() -> None:
            for number in itertools.count():
                made.append(await admin.create(pod(namespace, f"web-{number}")))
                if done.is_set():
                    return

        making = asyncio.create_task(keep_making())
        rotation = found.rotation(settling=dt.timedelta(seconds=5))
        bundles = set()

        async def replaced() -> bool:
            held = await rotation.step()
            await found.serving.look()
            bundles.add(held.authorities.count(b"BEGIN"))
            served = await asyncio.to_thread(ssl.get_server_certificate, (HOST, port))
            return served != first

        await until(replaced)
        count = len(made)

        async def more() -> bool:
            return len(made) > count + 10

        await until(more)
        done.set()
        await making
    assert bundles == {2}, "the old authority is trusted on"
    assert [each["metadata"]["name"] for each in made if sidecar_of(each) is None] == []


async def test_of_two_replicas_the_one_that_stands_by_answers_and_the_leader_misses_what_was_not_injected(
    admin: KubeClient, namespace: str, account: Path, port: int
):
    await admin.create(swarm(namespace))
    ports, pages = (port, free_port()), (free_port(), free_port())

    def settings(number: int) -> Settings:
        return Settings(
            agent_image=IMAGE,
            namespace=namespace,
            pod=f"operator-{number}",
            watch_namespaces=(namespace,),
            http_port=pages[number],
            kubeconfig=str(account),
            lease_seconds=60.0,
            webhook_port=ports[number],
            webhook_host=HOST,
            webhook_secret=SECRET,
            webhook_configuration=NAME,
        )

    async def leader() -> str:
        found = await admin.get(LEASES, namespace, "gossipswarm-operator")
        return (found or {}).get("spec", {}).get("holderIdentity") or ""

    async def trusted() -> list[dict[str, Any]] | None:
        found = (await admin.get(WEBHOOKS, "", NAME) or {})["webhooks"]
        return found if all("caBundle" in hook["clientConfig"] for hook in found) else None

    async def asked_at(where: int) -> None:
        body = configuration(namespace, where)
        await admin.merge(WEBHOOKS, "", NAME, {"webhooks": [
            {**hook, "clientConfig": {**body["webhooks"][0]["clientConfig"],
                                      "caBundle": hook["clientConfig"]["caBundle"]}}
            for hook in await until(trusted)
        ]})  # fmt: skip

    def read(number: int, page: str) -> str:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{pages[number]}{page}", timeout=30) as answer,
        ):
            return answer.read().decode()
        return ""

    async def ready() -> bool:
        return all(["ok" in await asyncio.to_thread(read, n, "/readyz") for n in (0, 1)])

    stopping = [asyncio.Event(), asyncio.Event()]
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(operate(settings(n), stopping[n])) for n in (0, 1)]
        await until(leader)
        leads = 0 if (await leader()).startswith("operator-0") else 1
        await until(ready)
        await asked_at(ports[1 - leads])
        injected = 'reviewed_pods_total{outcome="injected"}'

        async def answered() -> bool:
            await injected_soon(admin, namespace)
            return injected in await asyncio.to_thread(read, 1 - leads, "/metrics")

        await until(answered)
        await asked_at(free_port())

        async def made_without():
            name = f"lonely-{next(numbers)}"
            return name if sidecar_of(await admin.create(pod(namespace, name))) is None else None

        numbers = itertools.count()
        lonely = await until(made_without)
        event = await event_of(admin, namespace, lonely)
        assert event["reason"] == "NotInjected"
        assert "make the pod anew" in event["message"]
        wanted = f'uninjected_pods{{namespace="{namespace}",reason="NotInjected"}} 1.0'

        async def counted() -> bool:
            return wanted in await asyncio.to_thread(read, leads, "/metrics")

        await until(counted)
        for told in stopping:
            told.set()
        assert [await run for run in runs] == [0, 0]


async def test_a_certificate_that_was_lost_is_made_again_and_a_foreign_bundle_is_replaced(
    admin: KubeClient, namespace: str, account: Path, port: int
):
    async with webhook(account, namespace, port) as found:
        await admin.delete(SECRETS, namespace, SECRET)
        held = await found.rotation().step()
        stored = await admin.get(SECRETS, namespace, SECRET)
        assert content(stored, "tls.crt") == held.certificate
        broken = await admin.get(WEBHOOKS, "", NAME)
        assert broken is not None
        broken["webhooks"][0]["clientConfig"].pop("caBundle")
        await admin.merge(WEBHOOKS, "", NAME, {"webhooks": broken["webhooks"]})
        await found.rotation().step()
        mended = await admin.get(WEBHOOKS, "", NAME)
        assert mended is not None
        assert mended["webhooks"][0]["clientConfig"]["caBundle"]
        assert await admin.get(SWARMS, namespace, "demo") is None

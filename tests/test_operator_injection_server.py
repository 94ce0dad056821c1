"""The webhook over HTTPS: whatever happens to it, the answer is that the pod may be made."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.injection import server as webhook
from gossipswarm_operator.injection.certificates import Identity, issue
from gossipswarm_operator.injection.reviews import NoReview, read
from gossipswarm_operator.injection.server import Injector, WebhookServer
from gossipswarm_operator.metrics import Metrics
from operator_world import IMAGE, swarm_source

POD = {
    "metadata": {"generateName": "web-", "labels": {"gossipswarm.io/inject": "demo"}},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}


class Kube:
    """An API server that has these objects by kind and name, or fails."""

    def __init__(self, **objects: Any) -> None:
        self.objects = objects
        self.error: Exception | None = None
        self.silent = False

    async def get(self, resource: Any, namespace: str, name: str) -> Any:
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        found = self.objects.get(f"{resource.kind}_{name}".replace("-", "_"))
        return found if namespace == "prod" else None


class Asked:
    """A running webhook, and how it is asked."""

    def __init__(self, kube: Kube, identity: Identity) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self.server = WebhookServer(Injector(kube, IMAGE), self.metrics)  # type: ignore[arg-type]
        self.server.use(identity.certificate, identity.key)
        self.port = 0

    async def raw(self, body: bytes, trusted: bytes) -> tuple[int, Any]:
        context = ssl.create_default_context(cadata=trusted.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"https://127.0.0.1:{self.port}/inject", data=body, ssl=context) as answer,
        ):
            return answer.status, await answer.json()

    async def review(self, trusted: bytes, pod: Any = POD) -> dict[str, Any]:
        request = {"uid": "u1", "namespace": "prod", "operation": "CREATE", "object": pod}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        status, answer = await self.raw(json.dumps(body).encode(), trusted)
        assert (status, answer["kind"], answer["response"]["uid"]) == (200, "AdmissionReview", "u1")
        assert answer["response"]["allowed"] is True
        found: dict[str, Any] = answer["response"]
        return found


IDENTITY = issue("127.0.0.1", datetime.now(UTC))


@contextlib.asynccontextmanager
async def running(**objects: Any) -> AsyncIterator[Asked]:
    asked = Asked(Kube(**objects), IDENTITY)
    asked.port = await asked.server.start(0)
    try:
        yield asked
    finally:
        await asked.server.close()


async def test_a_pod_gets_its_patch():
    async with running(GossipSwarm_demo=swarm_source()) as asked:
        response = await asked.review(IDENTITY.authority)
        assert response["patchType"] == "JSONPatch"
        patch = json.loads(base64.b64decode(response["patch"]))
        assert patch[-1]["path"] == "/spec/initContainers"
        text = asked.metrics.text().decode()
        assert 'gossipswarm_operator_reviewed_pods_total{outcome="injected"} 1.0' in text


async def test_it_listens_on_every_address_with_one_port():
    async with running() as asked:
        for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            _, writer = await asyncio.open_connection(host, asked.port)
            writer.close()
            await writer.wait_closed()


async def test_a_port_that_is_taken_is_an_error():
    async with running() as asked:
        with pytest.raises(OSError, match="in use"):
            await WebhookServer(Injector(asked.kube, IMAGE), asked.metrics).start(asked.port)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ApiError(503, "ServiceUnavailable", "etcd is away"), "etcd is away"),
        (ApiError(403, "Forbidden", "may not get gossipswarms"), "may not get"),
        (RuntimeError("surprise"), "surprise"),
    ],
)
async def test_a_cluster_that_does_not_answer_costs_the_sidecar_only(error, said):
    async with running() as asked:
        asked.kube.error = error
        response = await asked.review(IDENTITY.authority)
        assert "patch" not in response
        assert said in response["warnings"][0]


async def test_nobody_waits_for_a_cluster_that_is_silent(monkeypatch):
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.05)
    async with running() as asked:
        asked.kube.silent = True
        response = await asked.review(IDENTITY.authority)
        assert "no answer in time" in response["warnings"][0]


async def test_a_swarm_that_makes_no_sense_is_named():
    broken = swarm_source(regions=[])
    async with running(GossipSwarm_demo=broken) as asked:
        response = await asked.review(IDENTITY.authority)
        assert "GossipSwarm demo: spec.regions" in response["warnings"][0]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"tls.crt": "", "ca.crt": ""}, "ca.crt"),
        ({"tls.crt": ""}, "tls.crt"),
        ({}, "ca.crt"),
    ],
)
async def test_agents_certificates_are_verified_by_their_authority_or_by_themselves(data, key):
    source = swarm_source(api={"tls": {"secretName": "agents"}})
    async with running(GossipSwarm_demo=source, Secret_agents={"data": data}) as asked:
        response = await asked.review(IDENTITY.authority)
        patch = json.loads(base64.b64decode(response["patch"]))
        (volumes,) = [step["value"] for step in patch if step["path"] == "/spec/volumes"]
        (authority,) = [each for each in volumes if each["name"] == "gossipswarm-authority"]
        assert authority["secret"]["items"] == [{"key": key, "path": "ca.crt"}]


async def test_another_certificate_is_served_without_closing_the_port():
    following = issue("127.0.0.1", datetime.now(UTC))
    async with running(GossipSwarm_demo=swarm_source()) as asked:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await asked.review(following.authority)
        asked.server.use(following.certificate, following.key)
        assert "patch" in await asked.review(following.authority)
        with pytest.raises(ValueError, match="of no use"):
            asked.server.use(IDENTITY.certificate, following.key)
        assert "patch" in await asked.review(following.authority), "the old one is served on"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"request": null}',
        b'{"request": {"uid": "u", "namespace": "n"}}',
        b'{"request": {"uid": "u", "namespace": "n", "object": {"metadata": {}, "spec": {}}}}',
        b'{"request": {"uid": 1, "namespace": "n", "object": {"metadata": {}, "spec": {"containers": []}}}}',
        b'{"request": {"uid": "u", "namespace": "n", "object": {"metadata": [], "spec": {"containers": []}}}}',
    ],
)
async def test_what_is_no_review_is_refused_by_what_is_missing(body):
    with pytest.raises(NoReview):
        read(body)
    async with running() as asked:
        status, answer = await asked.raw(body, IDENTITY.authority)
        assert status == 400
        assert "AdmissionReview" in answer["message"] or "pod's" in answer["message"]

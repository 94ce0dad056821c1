"""The sidecar webhook beside a real API server, as the operator runs it and the chart installs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from gossipswarm_operator.client import EVENTS, PODS, WEBHOOKS, KubeClient, load_configuration
from gossipswarm_operator.events import Events
from gossipswarm_operator.injection.rotation import Rotation
from gossipswarm_operator.injection.served import Serving
from gossipswarm_operator.injection.server import Injector, WebhookServer
from gossipswarm_operator.injection.uninjected import Uninjected
from gossipswarm_operator.metrics import Metrics
from kube import Cluster
from kube_operator_runs import IMAGE, RULES, until

HOST: Final = "127.0.0.1"
NAME: Final = "gossipswarm-operator"
SECRET: Final = "gossipswarm-operator-webhook"
CHART: Final = Path(__file__).parent / "golden" / "chart" / "default.yaml"


def configuration(namespace: str, port: int) -> dict[str, Any]:
    """The chart's webhook, of one namespace and at a port of this machine."""
    documents = yaml.safe_load_all(CHART.read_text("utf-8"))
    (found,) = [each for each in documents if each and each["kind"] == WEBHOOKS.kind]
    (hook,) = found["webhooks"]
    hook["clientConfig"] = {"url": f"https://{HOST}:{port}/inject"}
    only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
    hook["namespaceSelector"]["matchExpressions"].append(only)
    return found


@contextlib.contextmanager
def installed(cluster: Cluster, namespace: str, port: int) -> Iterator[None]:
    """The webhook's configuration, which the operator's account of the namespace may change."""
    body = configuration(namespace, port)
    account = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    role = f"webhook-{namespace}"
    rules = yaml.safe_load(RULES.read_text("utf-8"))["webhook"]
    rbac = "rbac.authorization.k8s.io"
    objects: list[dict[str, Any]] = [
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [account],
        },
        body,
    ]  # fmt: skip
    text = yaml.safe_dump_all(objects)
    cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=text)


class Webhook:
    """One replica, whose leader's and follower's steps are taken by the test."""

    def __init__(self, kube: KubeClient, namespace: str, port: int) -> None:
        self.metrics = Metrics()
        injector = Injector(kube, IMAGE)
        self._kube = kube
        self._namespace = namespace
        self.server = WebhookServer(injector, self.metrics)
        self.serving = Serving(kube, self.server, self.metrics, namespace, SECRET, port)
        self.uninjected = Uninjected(kube, Events(kube), self.metrics, injector)

    def rotation(self, **options: Any) -> Rotation:
        return Rotation(self._kube, self._namespace, SECRET, NAME, HOST, **options)


@contextlib.asynccontextmanager
async def webhook(account: Path, namespace: str, port: int) -> AsyncIterator[Webhook]:
    """A replica that serves, trusted by the API server."""
    async with KubeClient(await load_configuration(str(account))) as kube:
        found = Webhook(kube, namespace, port)
        await until(lambda: _may(found))
        await found.serving.look()
        assert found.serving.ready
        try:
            yield found
        finally:
            await found.server.close()


async def _may(found: Webhook) -> bool:
    """Take the leader's first step, once its rights have come to count."""
    try:
        await found.rotation().step()
    except Exception as error:
        if getattr(error, "status", 0) == 403:
            return False
        raise
    return True


def pod(namespace: str, name: str = "web", annotations: dict[str, str] | None = None, **spec: Any):
    """A pod that asks for a sidecar of the swarm ``demo``, and that every namespace admits."""
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"gossipswarm.io/inject": "demo"},
            "annotations": {f"gossipswarm.io/{k}": v for k, v in (annotations or {}).items()},
        },
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "web", "image": "web:1", "securityContext": locked}],
            **spec,
        },
    }


def sidecar_of(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The sidecar of a pod as the API server has it."""
    assert found is not None
    containers = found["spec"].get("initContainers") or []
    return next((each for each in containers if each["name"] == "gossipswarm"), None)


async def injected_soon(admin: KubeClient, namespace: str) -> None:
    """Wait until the API server has heard of the webhook: it watches for that."""

    async def holds() -> bool:
        made = await admin.create(pod(namespace, "probe"))
        await admin.delete(PODS, namespace, "probe")

        async def gone() -> bool:
            return await admin.get(PODS, namespace, "probe") is None

        await until(gone)
        return sidecar_of(made) is not None

    await until(holds)


async def event_of(admin: KubeClient, namespace: str, name: str) -> dict[str, Any]:
    """The one warning about a pod."""

    async def told() -> list[dict[str, Any]]:
        fields = f"involvedObject.kind=Pod,involvedObject.name={name},type=Warning"
        events = await admin.list_all(EVENTS, namespace, fields=fields)
        return [each for each in events if each["source"]["component"] == "gossipswarm-operator"]

    (event,) = await until(told)
    return event

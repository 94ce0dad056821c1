"""Sidecars in pods that a kubelet runs: beside a Job, beside an application that everybody has left, and without the webhook."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, Final

from e2e.cluster import Cluster, Object, until
from e2e.installation import SYSTEM
from e2e.settings import Settings
from e2e.swarm import Swarm, plain
from gossipswarm_operator.injection.certificates import LIFE, Identity, expiry, issue

OPERATOR: Final = "gossipswarm-operator"
SECRET: Final = f"{OPERATOR}-webhook"
REGION: Final = plain(("us-east",))
LOCAL: Final = "http://127.0.0.1:7602"
ROTATION_SECONDS: Final = 180.0
READ: Final = f"""
import json, urllib.request
with urllib.request.urlopen("{LOCAL}/v1/state/app.config", timeout=5) as answer:
    print(answer.read().decode())
"""
WRITE: Final = f"""
import json, urllib.error, urllib.request
request = urllib.request.Request("{LOCAL}/v1/state/app.config.x", b"1", {{"Content-Type": "application/json"}}, method="PUT")
try:
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(json.dumps([answer.status, None]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.status, error.headers["Retry-After"]]))
"""
READ_RECEIPT: Final = f"""
import urllib.request
with urllib.request.urlopen("{LOCAL}/v1/projections", timeout=5) as answer:
    print(answer.read().decode())
"""
RELOADS: Final = """
import signal
signal.signal(signal.SIGHUP, lambda *_: print(open("/config/app.json").read(), flush=True))
while True:
    signal.pause()
"""
ANSWERS: Final = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Reload(BaseHTTPRequestHandler):
    def do_POST(self):
        print(open("/config/app.env").read(), flush=True)
        self.send_response(204)
        self.end_headers()
HTTPServer(("127.0.0.1", 8080), Reload).serve_forever()
"""
IDLE: Final = "import signal; signal.sigwait({signal.SIGTERM})"


def pod(settings: Settings, swarm: str, script: str = IDLE, **annotations: str) -> Object:
    """Metadata and spec of a pod that runs a script beside a sidecar."""
    return {
        "metadata": {
            "labels": {"gossipswarm.io/inject": swarm},
            "annotations": {f"gossipswarm.io/{name}": value for name, value in annotations.items()},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "application",
                    "image": settings.agent_image,
                    "command": ["python3", "-c", script],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def named(name: str, template: Object, kind: str = "Pod", **labels: str) -> Object:
    """The pod by itself."""
    metadata = {**template["metadata"], "name": name}
    metadata["labels"] = {**metadata["labels"], **labels}
    return {"apiVersion": "v1", "kind": kind, **template, "metadata": metadata}


def sidecars(found: Object) -> list[str]:
    """Names of a pod's init containers that go on."""
    containers = found["spec"].get("initContainers", [])
    return [each["name"] for each in containers if each.get("restartPolicy") == "Always"]


def test_a_job_completes_beside_its_sidecar_and_who_opts_out_has_none(
    cluster: Cluster, swarm: Swarm, settings: Settings
) -> None:
    swarm.apply(regions=REGION, replicasPerRegion=2)
    swarm.settled(2)
    swarm.write("app.config", {"colour": "green"})
    reads = "print(open('/config/app.json').read())"
    template = pod(settings, swarm.name, reads, project="app.config=/config/app.json")
    cluster.apply(
        swarm.namespace,
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "migrate"},
            "spec": {"backoffLimit": 0, "template": template},
        },
        named("without", pod(settings, swarm.name), **{"gossipswarm.io/inject": "false"}),
    )

    cluster.wait(swarm.namespace, "job/migrate", "Complete", 60)
    [done] = cluster.find(swarm.namespace, "pods", "batch.kubernetes.io/job-name=migrate")
    assert sidecars(done) == ["gossipswarm"]
    assert done["status"]["phase"] == "Succeeded"
    printed = cluster.kubectl("-n", swarm.namespace, "logs", "job/migrate", "-c", "application")
    assert json.loads(printed) == {"colour": "green"}

    cluster.wait(swarm.namespace, "pod/without", "Ready", 60)
    assert sidecars(cluster.get(swarm.namespace, "pod", "without")) == []


def test_applications_are_told_by_a_signal_or_by_http_and_their_sidecars_have_the_receipts(
    cluster: Cluster, swarm: Swarm, settings: Settings
) -> None:
    swarm.apply(regions=REGION, replicasPerRegion=1)
    swarm.settled(1)
    signalled = pod(
        settings, swarm.name, RELOADS,
        **{"project": "app.config=/config/app.json", "reload-signal": "HUP python3"},
    )  # fmt: skip
    signalled["spec"]["shareProcessNamespace"] = True
    signalled["spec"]["securityContext"]["runAsUser"] = 65_532
    answering = pod(
        settings, swarm.name, ANSWERS,
        **{"project": "app.config=/config/app.env", "reload-url": "http://127.0.0.1:8080/reload"},
    )  # fmt: skip
    results = {"signalled": "signalled", "answering": "acknowledged"}
    cluster.apply(swarm.namespace, named("signalled", signalled), named("answering", answering))
    for name in results:
        cluster.wait(swarm.namespace, f"pod/{name}", "Ready", 60)

    swarm.write("app.config", {"colour": "blue"})

    def told() -> bool | None:
        for name, result in results.items():
            [receipt] = inside(cluster, swarm, READ_RECEIPT, name)["projections"]
            how = (receipt["reload"] or {}).get("result")
            if not receipt["version"] or not receipt["applied"] or how != result:
                return None
        return True

    def printed() -> bool | None:
        logs = [
            cluster.kubectl("-n", swarm.namespace, "logs", name, "-c", "application")
            for name in results
        ]
        return all("blue" in log for log in logs) or None

    until("the sidecars have their receipts", told, 30)
    until("the applications have read their files", printed, 30)


def test_a_sidecar_serves_on_when_operator_and_agents_are_gone_and_pods_start_without_the_webhook(
    cluster: Cluster, swarm: Swarm, settings: Settings
) -> None:
    swarm.apply(regions=REGION, replicasPerRegion=2)
    swarm.settled(2)
    swarm.write("app.config", {"colour": "green"})
    cluster.apply(swarm.namespace, named("served", pod(settings, swarm.name, access="write")))
    cluster.wait(swarm.namespace, "pod/served", "Ready", 60)
    assert inside(cluster, swarm, WRITE) == [200, None]

    with operator_gone(cluster):
        cluster.kubectl("-n", swarm.namespace, "scale", "statefulset", "--all", "--replicas=0")
        until("no agent is left", lambda: not swarm.pods() or None, 60)
        answer = inside(cluster, swarm, READ)
        assert answer["value"] == {"colour": "green", "x": 1}
        status, retry_after = inside(cluster, swarm, WRITE)
        assert status == 503
        assert int(retry_after) >= 1
        assert inside(cluster, swarm, READ)["degraded"] is True

        cluster.apply(swarm.namespace, named("lonely", pod(settings, swarm.name)))
        cluster.wait(swarm.namespace, "pod/lonely", "Ready", 60)
        assert sidecars(cluster.get(swarm.namespace, "pod", "lonely")) == []

    def told() -> list[str] | None:
        events = cluster.find(swarm.namespace, "events")
        return [
            each["message"]
            for each in events
            if each["involvedObject"]["name"] == "lonely" and each["reason"] == "NotInjected"
        ] or None

    [message] = until("an event tells that a pod goes without", told, 60)
    assert "make the pod anew" in message
    swarm.settled(2)
    until(
        "writes go through the sidecar again",
        lambda: inside(cluster, swarm, WRITE) == [200, None] or None,
        60,
    )


def test_no_pod_goes_without_its_sidecar_while_the_certificate_is_renewed(
    cluster: Cluster, swarm: Swarm, settings: Settings
) -> None:
    swarm.apply(regions=REGION, replicasPerRegion=1)
    asking = named("asking", pod(settings, swarm.name))
    until("pods get sidecars", lambda: injected(cluster, swarm, asking) or None, 60)
    aged = issue(f"{OPERATOR}.{SYSTEM}.svc", dt.datetime.now(dt.UTC) - LIFE * 2 / 3)
    serve(cluster, aged)

    made = 0

    def renewed() -> bool | None:
        nonlocal made
        assert injected(cluster, swarm, asking), f"pod {made} would be made without"
        made += 1
        ends = expiry(held(cluster)["tls.crt"])
        return (ends > expiry(aged.certificate) and all_serve(cluster, ends)) or None

    until("every replica serves the next certificate", renewed, ROTATION_SECONDS)
    assert made > 10
    assert injected(cluster, swarm, asking)


# --- parts ----------------------------------------------------------------------------------------


def inside(cluster: Cluster, swarm: Swarm, script: str, name: str = "served") -> Any:
    """What a script prints in the application's container of a pod."""
    command = ["exec", name, "-c", "application", "--", "python3", "-c", script]
    return json.loads(cluster.kubectl("-n", swarm.namespace, *command))


def injected(cluster: Cluster, swarm: Swarm, asked: Object) -> bool:
    """Whether a pod would be made with its sidecar now."""
    shown = cluster.kubectl(
        "-n", swarm.namespace, "create", "--dry-run=server", "-o", "json", "-f", "-",
        stdin=json.dumps(asked),
    )  # fmt: skip
    return sidecars(json.loads(shown)) == ["gossipswarm"]


@contextlib.contextmanager
def operator_gone(cluster: Cluster) -> Iterator[None]:
    """Without any replica of the operator, and so without the webhook."""
    replicas = cluster.get(SYSTEM, "deployment", OPERATOR)["spec"]["replicas"]

    def scale(number: int) -> None:
        cluster.kubectl("-n", SYSTEM, "scale", f"deployment/{OPERATOR}", f"--replicas={number}")

    scale(0)
    try:
        until("no operator is left", lambda: not operators(cluster) or None, 60)
        yield
    finally:
        scale(replicas)
        cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{OPERATOR}")


def operators(cluster: Cluster) -> list[Object]:
    """Pods of the operator."""
    return [
        each
        for each in cluster.find(SYSTEM, "pods")
        if each["metadata"]["name"].startswith(f"{OPERATOR}-")
    ]


def held(cluster: Cluster) -> dict[str, bytes]:
    """What the webhook's Secret holds."""
    data = cluster.get(SYSTEM, "secret", SECRET)["data"]
    return {name: base64.b64decode(value) for name, value in data.items()}


def serve(cluster: Cluster, identity: Identity) -> None:
    """Put another certificate in the place of the one that is served, trusted before it is."""
    store(cluster, {"ca.crt": identity.authority + held(cluster)["ca.crt"]})

    def trusted() -> bool | None:
        [hook] = cluster.get(SYSTEM, "mutatingwebhookconfiguration", OPERATOR)["webhooks"]
        return identity.authority in base64.b64decode(hook["clientConfig"]["caBundle"]) or None

    until("the API server is told of its authority", trusted, 60)
    store(cluster, {"tls.crt": identity.certificate, "tls.key": identity.key})


def store(cluster: Cluster, values: dict[str, bytes]) -> None:
    """Change some of what the webhook's Secret holds."""
    data = {name: base64.b64encode(value).decode() for name, value in values.items()}
    patch = json.dumps({"data": data})
    cluster.kubectl("-n", SYSTEM, "patch", "secret", SECRET, "--type=merge", "--patch", patch)


def all_serve(cluster: Cluster, ends: dt.datetime) -> bool:
    """Whether every replica serves a certificate that ends then."""
    metric = "gossipswarm_operator_webhook_certificate_expiry_timestamp_seconds"
    for each in operators(cluster):
        [port] = [
            port["containerPort"]
            for port in each["spec"]["containers"][0]["ports"]
            if port["name"] == "http"
        ]
        name = f"{each['metadata']['name']}:{port}"
        shown = cluster.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}/proxy/metrics"
        )
        values = [line.split()[1] for line in shown.splitlines() if line.startswith(metric)]
        if [float(value) for value in values] != [ends.timestamp()]:
            return False
    return True

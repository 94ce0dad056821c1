"""Agents as pods of a StatefulSet written by hand: they meet, go without loss, and see what is mounted change."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from gossipswarm_agent.runtime.keyring import key_id
from kube import Cluster, wait_until
from podlet import Podlet

pytestmark = pytest.mark.kube

REGION, SWARM = "us-east", "demo"
NAME = f"{SWARM}-{REGION}"
LABELS = {
    "gossipswarm.io/swarm": SWARM,
    "gossipswarm.io/region": REGION,
    "gossipswarm.io/role": "agent",
}
KEY = os.urandom(32)
MERGE = "application/merge-patch+json"
SECONDS = 180.0
"""Far more than anything takes."""


def agent_yaml(replicas: int) -> str:
    declared = {f"{NAME}-{number}": REGION for number in range(replicas)}
    seeds = [f"{REGION}=srv:_gossip-udp._udp.{NAME}.default.svc"]
    return yaml.safe_dump({"swarm": "tests", "seeds": seeds, "declared": declared})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def of_pod(name: str, field: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def container() -> dict[str, Any]:
    plain = {
        "CONFIG": "/etc/gossipswarm/agent.yaml",
        "REGION": REGION,
        "HOST": "0.0.0.0",
        "DATA_DIR": "/var/lib/gossipswarm",
        "KEYS_FILE": "/etc/gossipswarm/keys",
        "READ_TOKEN_FILE": "/etc/gossipswarm/tokens/read",
        "WRITE_TOKEN_FILE": "/etc/gossipswarm/tokens/write",
        "LABELS": "node=$(NODE_NAME)",
    }
    return {
        "name": "agent",
        "image": "gossipswarm-agent:test",
        "ports": [{"name": "api", "containerPort": 7601}],
        "env": [
            of_pod("GOSSIPSWARM_NAME", "metadata.name"),
            of_pod("GOSSIPSWARM_ADVERTISE", "status.podIP"),
            of_pod("NODE_NAME", "spec.nodeName"),
            *({"name": f"GOSSIPSWARM_{name}", "value": value} for name, value in plain.items()),
        ],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/gossipswarm"},
            {"name": "keys", "mountPath": "/etc/gossipswarm/keys"},
            {"name": "tokens", "mountPath": "/etc/gossipswarm/tokens"},
            {"name": "data", "mountPath": "/var/lib/gossipswarm"},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "api"}, "periodSeconds": 3},
    }


def objects(replicas: int) -> list[dict[str, Any]]:
    spec = {
        "serviceName": NAME,
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "containers": [container()],
                "nodeSelector": {"topology.kubernetes.io/region": REGION},
                "terminationGracePeriodSeconds": 30,
                "volumes": [
                    {"name": "config", "configMap": {"name": f"{SWARM}-config"}},
                    {"name": "keys", "secret": {"secretName": f"{SWARM}-keyring"}},
                    {"name": "tokens", "secret": {"secretName": f"{SWARM}-tokens"}},
                ],
            },
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "64Mi"}},
                },
            }
        ],
    }
    service = {"clusterIP": "None", "selector": LABELS, "publishNotReadyAddresses": True}
    service["ports"] = [{"name": "gossip-udp", "port": 7600, "protocol": "UDP"}]
    keys = {f"primary-{key_id(KEY).hex()}": encoded(base64.b64encode(KEY).decode())}
    tokens = {"read": encoded("reader"), "write": encoded("writer")}
    return [
        made("v1", "ConfigMap", f"{SWARM}-config", data={"agent.yaml": agent_yaml(replicas)}),
        made("v1", "Secret", f"{SWARM}-keyring", data=keys),
        made("v1", "Secret", f"{SWARM}-tokens", data=tokens),
        made("v1", "Service", NAME, spec=service),
        made("apps/v1", "StatefulSet", NAME, spec=spec),
    ]


def made(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}


class Swarm:
    """The pods of the StatefulSet, asked over the agents' API."""

    def __init__(self, cluster: Cluster, namespace: str, podlet: Podlet) -> None:
        self.cluster, self.namespace, self.podlet = cluster, namespace, podlet

    def create(self, replicas: int) -> None:
        everything = yaml.safe_dump_all(objects(replicas))
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=everything)

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        base = "/apis/apps/v1" if path.startswith("statefulsets") else "/api/v1"
        self.cluster.request("PATCH", f"{base}/namespaces/{self.namespace}/{path}", body, MERGE)

    def stateful_set(self) -> dict[str, Any]:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets/{NAME}"
        found: dict[str, Any] = self.cluster.request("GET", path)
        return found

    def settled(self, replicas: int) -> bool:
        status = self.stateful_set()["status"]
        return status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas

    def ask(
        self, number: int, method: str, path: str, value: Any = None, *, token: str = "writer"
    ) -> Any:
        address = self.podlet.address_of(self.namespace, f"{NAME}-{number}")
        request = urllib.request.Request(
            f"http://{address}:7601{path}",
            method=method,
            data=None if value is None else json.dumps(value).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def log(self, number: int) -> str:
        return self.podlet.log_of(self.namespace, f"{NAME}-{number}").read_text()

    def said(self, number: int) -> list[dict[str, Any]]:
        """The log of the pod that there is now."""
        return [json.loads(line) for line in self.log(number).splitlines()]

    def uid(self, number: int) -> str | None:
        """Of a pod that is ready; None while there is none."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.cluster.request("GET", path)["items"]:
            if pod["metadata"]["name"] == f"{NAME}-{number}":
                conditions = pod["status"].get("conditions", ())
                ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
                return str(pod["metadata"]["uid"]) if ready else None
        return None


@pytest.fixture
def swarm(cluster: Cluster, namespace: str, podlet: Podlet) -> Swarm:
    made = Swarm(cluster, namespace, podlet)
    made.create(3)
    wait_until(lambda: made.settled(3), SECONDS, "three pods are ready")
    return made


def test_pods_become_ready_and_gossip_with_each_other(swarm: Swarm) -> None:
    def met() -> Any:
        members = swarm.ask(0, "GET", "/v1/members")["members"]
        return members if len(members) >= 3 else None

    members = wait_until(met, SECONDS, "they have met")
    assert [member["name"] for member in members] == [f"{NAME}-{n}" for n in range(3)]
    assert {member["labels"]["node"] for member in members} == {"podlet-us-east"}
    swarm.ask(0, "PUT", "/v1/state/app.ttl?wait=converged&threshold=1.0&timeout=60s", 60)
    for number in range(3):
        assert swarm.ask(number, "GET", "/v1/state/app.ttl", token="reader")["value"] == 60
    addresses = {swarm.podlet.address_of(swarm.namespace, f"{NAME}-{n}") for n in range(3)}

    def found_by_service() -> bool:
        slices = swarm.cluster.request(
            "GET", f"/apis/discovery.k8s.io/v1/namespaces/{swarm.namespace}/endpointslices"
        )
        endpoints = [e for each in slices["items"] for e in each["endpoints"] or ()]
        return {e["addresses"][0] for e in endpoints} == addresses

    wait_until(found_by_service, SECONDS, "the service leads to all of them")


def test_a_pod_that_is_deleted_leaves_and_comes_back_with_its_data(swarm: Swarm) -> None:
    swarm.ask(2, "PUT", "/v1/state/app.owner", "pod 2")
    before = swarm.podlet.address_of(swarm.namespace, f"{NAME}-2")
    log = swarm.podlet.log_of(swarm.namespace, f"{NAME}-2")
    uid = swarm.uid(2)
    swarm.cluster.kubectl("delete", "pod", f"{NAME}-2", "-n", swarm.namespace, "--wait=true")
    text = log.read_text()
    assert '"others have everything"' in text
    assert '"agent stopped"' in text
    assert swarm.ask(0, "GET", "/v1/state/app.owner")["value"] == "pod 2"
    wait_until(lambda: swarm.uid(2) not in (None, uid), SECONDS, "there is another pod")
    wait_until(lambda: swarm.settled(3), SECONDS, "the pod is back")
    assert swarm.podlet.address_of(swarm.namespace, f"{NAME}-2") != before
    [start] = [line for line in swarm.said(2) if line["message"] == "agent started"]
    assert start["leaves"] == 1, "what it had written, before it heard of others"

    def met() -> Any:
        info = swarm.ask(2, "GET", "/v1/agent")
        return info if info["members_alive"] == 3 else None

    assert wait_until(met, SECONDS, "it has met the others")["incarnation"] >= 2


def test_pods_that_were_drained_go_and_nothing_is_lost(swarm: Swarm) -> None:
    swarm.ask(1, "PUT", "/v1/state/app.one", 1)
    swarm.ask(2, "PUT", "/v1/state/app.two", 2)
    leaving = [f"{NAME}-1", f"{NAME}-2"]
    for number in (1, 2):
        order = {"leaving": leaving, "hold": "10m"}
        drained = swarm.ask(number, "POST", "/v1/admin/drain", order)
        assert drained["holders"] == [f"{NAME}-0"]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        swarm.ask(1, "PUT", "/v1/state/app.late", 1)
    swarm.patch(f"configmaps/{SWARM}-config", {"data": {"agent.yaml": agent_yaml(1)}})
    swarm.patch(f"statefulsets/{NAME}", {"spec": {"replicas": 1}})
    wait_until(lambda: swarm.settled(1), SECONDS, "one pod is left")
    assert swarm.ask(0, "GET", "/v1/state/app")["value"] == {"one": 1, "two": 2}
    assert swarm.ask(0, "GET", "/readyz") == {"status": "ready"}


def test_changed_objects_reach_the_mounted_files(swarm: Swarm) -> None:
    swarm.patch(
        f"configmaps/{SWARM}-config", {"data": {"agent.yaml": agent_yaml(3) + "labels: {}\n"}}
    )
    swarm.patch(f"secrets/{SWARM}-tokens", {"data": {"write": encoded("renewed")}})

    def renewed() -> bool:
        try:
            swarm.ask(0, "PUT", "/v1/state/app.renewed", 1, token="renewed")
        except urllib.error.HTTPError as refused:
            assert refused.code == 401
            return False
        return True

    wait_until(renewed, SECONDS, "the agent takes the new token")
    assert "is of no use" not in swarm.log(0)


def test_an_agent_that_is_killed_is_started_again_and_reported(swarm: Swarm) -> None:
    swarm.ask(0, "PUT", "/v1/state/app.kept", 1)
    swarm.podlet.crash(f"{NAME}-0")

    def restarted() -> bool:
        path = f"/api/v1/namespaces/{swarm.namespace}/pods/{NAME}-0"
        [status] = swarm.cluster.request("GET", path)["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    wait_until(restarted, SECONDS, "the container runs again")
    assert swarm.ask(0, "GET", "/v1/state/app.kept")["value"] == 1


def test_an_image_that_cannot_be_pulled_is_said_and_does_not_run(
    cluster: Cluster, namespace: str, podlet: Podlet
) -> None:
    podlet.broken_images.add("gossipswarm-agent:test")
    made = Swarm(cluster, namespace, podlet)
    made.create(1)

    def reason() -> Any:
        pods = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        statuses = [s for pod in pods for s in pod["status"].get("containerStatuses", ())]
        return statuses and statuses[0]["state"]["waiting"]["reason"] == "ImagePullBackOff"

    wait_until(reason, SECONDS, "the reason is reported")
    podlet.broken_images.clear()
    wait_until(lambda: made.settled(1), SECONDS, "it runs once there is an image")


def test_a_pod_waits_for_what_is_to_be_mounted(
    cluster: Cluster, namespace: str, podlet: Podlet
) -> None:
    made = Swarm(cluster, namespace, podlet)
    config, *others = objects(1)
    text = yaml.safe_dump_all(others)
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)

    def message() -> Any:
        pods = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        statuses = [s for pod in pods for s in pod["status"].get("containerStatuses", ())]
        return statuses and "'demo-config' not found" in statuses[0]["state"]["waiting"]["message"]

    wait_until(message, SECONDS, "it is said what is missing")
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(config))
    wait_until(lambda: made.settled(1), SECONDS, "it runs once the ConfigMap is there")

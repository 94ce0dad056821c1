"""A client of the swarm, in a pod beside it, for as long as something is done to the swarm."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from e2e.cluster import ROOT, Cluster, Object, until

COUNTER: Final = "smoke.counter"
"""The key that the client writes."""


class Traffic:
    """Starts and ends the client, and reads what it prints.

    Args:
        image: an image of the agent, which has Python and the client library.
        expected: what the key ``app.config`` holds.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, swarm: str, image: str, expected: Any
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._pod = _pod(swarm, namespace, image, expected)

    def start(self) -> None:
        """Return once requests are on their way."""
        script = f"--from-file={ROOT}/e2e/client.py"
        self._kubectl("create", "configmap", "client", script)
        self._cluster.apply(self._namespace, self._pod)
        self._cluster.wait(self._namespace, "pod/client", "Ready", 60)
        until("the client's first line", lambda: self._line(0.0), 30)

    def seen_by_now(self) -> Object:
        """What the client has counted, all of it until now included."""
        now = time.time()
        return until("news of the client", lambda: self._line(now), 30)

    def stop(self) -> None:
        """Remove the client."""
        self._kubectl("delete", "pod/client", "configmap/client", "--wait")

    def _kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl("-n", self._namespace, *arguments)

    def _line(self, since: float) -> Object | None:
        last = self._kubectl("logs", "client", "--tail", "1").strip()
        if not last.startswith("{"):
            return None
        seen = dict(json.loads(last))
        return seen if seen["at"] > since else None


def _pod(swarm: str, namespace: str, image: str, expected: Any) -> Object:
    environment = {
        "SWARM_URL": f"http://{swarm}.{namespace}.svc:7601",
        "READ_KEY": "app.config",
        "READ_VALUE": json.dumps(expected),
        "WRITE_KEY": COUNTER,
    }
    container = {
        "name": "client",
        "image": image,
        "command": ["python3", "/client/client.py"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": [
            {"name": "client", "mountPath": "/client"},
            {"name": "tokens", "mountPath": "/tokens"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "client", "configMap": {"name": "client"}},
                {"name": "tokens", "secret": {"secretName": f"{swarm}-tokens"}},
            ],
        },
    }

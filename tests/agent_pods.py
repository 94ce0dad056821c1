"""Pods with real agents in them, for tests of what reaches agents through the API server.

No operator and no kubelet: the pod objects are made and declared ready here, and each has a
``gossipswarm-agent`` process behind its address. The API server's proxy refuses loopback addresses, so the
agents live in a network that is routed to this machine itself, which takes CAP_NET_ADMIN.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import kube

AGENT = Path(sys.executable).with_name("gossipswarm-agent")
NETWORK = "10.202.0.0/16"
READ, WRITE = "reads-only", "writes-too"
_hosts = count(1)


def require_network() -> None:
    """Route the network here. Skips the test where that is not allowed."""
    try:
        done = subprocess.run(
            ["ip", "route", "replace", "local", NETWORK, "dev", "lo"], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("NOT TESTED through the API server's proxy: no program ip")
    if done.returncode:
        pytest.skip("NOT TESTED through the API server's proxy: it takes CAP_NET_ADMIN")


class AgentPods:
    """Agents of one swarm."""

    def __init__(
        self, cluster: kube.Cluster, namespace: str, directory: Path, swarm: str = "gossip"
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.swarm = swarm
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._seeds: list[str] = []
        self._addresses: dict[str, str] = {}
        self.node: str | None = None
        """Where pods made from now on are bound to."""
        for name, token in (("read", READ), ("write", WRITE)):
            (directory / name).write_text(token)

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def make_tokens(self) -> None:
        """The Secret that the operator would make."""
        data = {"read": READ, "write": WRITE}
        self.cluster.request(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/secrets",
            {
                "metadata": {"name": f"{self.swarm}-tokens"},
                "data": {
                    name: base64.b64encode(each.encode()).decode() for name, each in data.items()
                },
            },
        )

    def make_pod(self, region: str, ordinal: int) -> str:
        """A pod of the swarm that is nowhere yet; its name."""
        name = f"{self.swarm}-{region}-{ordinal}"
        labels = {"swarm": self.swarm, "region": region, "role": "agent"}
        self.cluster.request(
            "POST",
            self._pods,
            {
                "metadata": {
                    "name": name,
                    "labels": {f"gossipswarm.io/{key}": value for key, value in labels.items()},
                },
                "spec": {
                    "containers": [{"name": "agent", "image": "agent:test"}],
                    **({"nodeName": self.node} if self.node else {}),
                },
            },
        )
        return name

    def set_status(self, name: str, status: dict[str, Any]) -> None:
        """What a kubelet would say of a pod."""
        self.cluster.request(
            "PATCH",
            f"{self._pods}/{name}/status",
            {"status": status},
            "application/merge-patch+json",
        )

    def start(self, region: str, ordinal: int) -> str:
        """A pod with an agent that is ready; the agent's name."""
        name = self.make_pod(region, ordinal)
        self.run(name, region)
        return name

    def run(self, name: str, region: str) -> None:
        """Start the agent of a pod and declare the pod ready."""
        address = f"10.202.{os.getpid() % 250 + 1}.{next(_hosts)}"
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    AGENT, "--name", name, "--region", region, "--swarm", "u1", "--plaintext",
                    "--host", address, "--data-dir", self._directory / name,
                    "--read-token-file", self._directory / "read",
                    "--write-token-file", self._directory / "write",
                    *(("--seeds", ",".join(self._seeds)) if self._seeds else ()),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._addresses[name] = address
        self._seeds.append(f"{region}={address}:7600")
        kube.wait_until(lambda: _is_ready(address), 180, f"agent {name} is ready")
        self.set_status(
            name,
            {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        )

    def log_of(self, namespace: str, name: str) -> Path:
        """What the agent of a pod wrote."""
        assert namespace == self.namespace
        return self._directory / f"{name}.log"

    def address_of(self, namespace: str, name: str) -> str:
        """The pod's address."""
        assert namespace == self.namespace
        return self._addresses[name]

    def delete(self, name: str) -> None:
        """End the agent and remove its pod at once."""
        self._end(name)
        self.cluster.request("DELETE", f"{self._pods}/{name}?gracePeriodSeconds=0")

    def kill(self, name: str) -> None:
        """End the agent and leave its pod as it is."""
        self._end(name)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End every agent."""
        for name in list(self._processes):
            self._end(name)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:7601/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

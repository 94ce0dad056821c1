"""A kubelet of ours: runs the agents of pods as processes of this machine, against a real API server.

The StatefulSet controller makes pods; a podlet gives them a node, an address and volumes, starts a real
``gossipswarm-agent`` for each, probes it, reports, restarts it, and ends it with SIGTERM and grace when the pod is deleted.
Only pods with a container called ``agent`` are run, and of pods with a sidecar the sidecar.

Each pod has an address of its own in 10.201.0.0/16, all of which is made local to this machine: the API server
refuses loopback addresses where it would proxy to them. That needs root.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Self

from kube import Cluster, Refused, wait_until
from podlet_pod import PodProcess, sidecars

NETWORK: Final = "10.201"
POLL_SECONDS: Final = 0.2
FOLLOW_SECONDS: Final = 1.0
"""Between two looks at ConfigMaps and Secrets that are mounted; a kubelet takes a minute."""
GOSSIP_PORT, API_PORT = 7600, 7601
SWARM_LABEL: Final = "gossipswarm.io/swarm"
REGION_LABEL: Final = "gossipswarm.io/region"
INJECT_LABEL: Final = "gossipswarm.io/inject"
CLASSLESS: Final = ""
_numbers = count(os.getpid() * 251)
"""Of addresses: no podlet of this process gives one that another has given, though nobody listens there yet."""


def need_addresses() -> None:
    """Make the pods' network local to this machine.

    Raises:
        LookupError: that is not allowed here; the message says what is needed.
    """
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((f"{NETWORK}.0.1", 0))
        return
    route = ["ip", "route", "replace", "local", f"{NETWORK}.0.0/16", "dev", "lo"]
    try:
        done = subprocess.run(route, capture_output=True, text=True, timeout=10)
    except OSError as error:
        raise LookupError(f"pods need addresses: {' '.join(route)}: {error}") from None
    if done.returncode:
        raise LookupError(f"pods need addresses: {' '.join(route)}: {done.stderr.strip()}")


class Podlet:
    """Runs the pods of one namespace from a thread of its own. A context manager; all processes end with it."""

    def __init__(
        self, cluster: Cluster, namespace: str, directory: Path, *, kubelet_port: int | None = None
    ) -> None:
        """``kubelet_port``: where the nodes say that a kubelet answers, for logs."""
        self.broken_images: set[str] = set()
        """Images that cannot be pulled."""
        self.errors: list[BaseException] = []
        """What went wrong in the thread; raised at the end."""
        self.taken_in: Counter[str] = Counter()
        """How many pods of each name there have been."""
        self._cluster = cluster
        self.namespace = namespace
        self._directory = directory
        self._kubelet_port = kubelet_port
        self._pods: dict[str, PodProcess] = {}
        self._reported: dict[str, dict[str, Any]] = {}
        self._nodes: set[str] = set()
        self._follow_due = 0.0
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="podlet", daemon=True)

    # --- for tests --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        need_addresses()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for process in self._pods.values():
            process.forget()
        if self.errors:
            raise self.errors[0]

    def log_of(self, namespace: str, pod: str) -> Path:
        """Where the agent of a pod writes, over all its restarts."""
        assert namespace == self.namespace
        return self._named(pod).log

    def address_of(self, namespace: str, pod: str) -> str:
        """The address of a pod."""
        assert namespace == self.namespace
        return self._named(pod).address

    def file_of(self, pod: str, path: str) -> Path:
        """Where a file of a sidecar's volumes is on this machine."""
        return self._named(pod).file(path)

    def crash(self, pod: str) -> None:
        """Kill the agent of a pod; it is started again."""
        with self._lock:
            self._named(pod).crash()

    def wait_ready(self, count: int, seconds: float = 180.0) -> None:
        """Wait until so many pods, and no others, are there and ready."""

        def ready() -> bool:
            with self._lock:
                found = [process.ready for process in self._pods.values()]
            return len(found) == count and all(found)

        wait_until(ready, seconds, f"{count} pods are ready")

    def _named(self, pod: str) -> PodProcess:
        with self._lock:
            return next(p for p in self._pods.values() if p.pod["metadata"]["name"] == pod)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self._pass()
            except (OSError, TimeoutError):
                continue  # no API server at the moment; what runs goes on running
            except Refused as refused:
                if refused.status not in (403, 404, 409, 429, 500, 503):
                    self.errors.append(refused)
            except Exception as error:  # noqa: BLE001 - it belongs to the test, not to this thread
                self.errors.append(error)
                return

    def _pass(self) -> None:
        found = {pod["metadata"]["uid"]: pod for pod in self._list("pods") if _is_ours(pod)}
        self._bind_claims()
        with self._lock:
            for uid in self._pods.keys() - found.keys():
                self._pods.pop(uid).forget()
                self._reported.pop(uid, None)
            for uid, pod in found.items():
                if uid not in self._pods and "deletionTimestamp" not in pod["metadata"]:
                    self._pods[uid] = self._take_in(pod)
                    self.taken_in[pod["metadata"]["name"]] += 1
            follow = time.monotonic() >= self._follow_due
            for uid, pod in found.items():
                if uid in self._pods:
                    self._drive(self._pods[uid], pod, follow)
                elif "deletionTimestamp" in pod["metadata"]:
                    self._delete(pod)
            if follow:
                self._follow_due = time.monotonic() + FOLLOW_SECONDS

    def _take_in(self, pod: Mapping[str, Any]) -> PodProcess:
        metadata = pod["metadata"]
        node = pod["spec"].get("nodeName") or self._bind(pod)
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        place = self._directory / f"{metadata['name']}-{metadata['uid'][:8]}"
        return PodProcess(bound, _free_address(), place, self._directory / "claims", self._fetch)

    def _drive(self, process: PodProcess, pod: Mapping[str, Any], follow: bool) -> None:
        metadata, image = pod["metadata"], process.container["image"]
        if "deletionTimestamp" in metadata:
            process.terminate(float(metadata.get("deletionGracePeriodSeconds", 30)))
        elif image in self.broken_images:
            process.waiting, process.message = "ImagePullBackOff", f"no image {image}"
            self._report(process)
            return
        process.seeds = self._seeds_for(process)
        process.step()
        if process.is_over:
            self._delete(pod)
            return
        if follow:
            process.follow()
        self._report(process)

    def _seeds_for(self, process: PodProcess) -> list[str]:
        swarm, port = _label(process, SWARM_LABEL), GOSSIP_PORT
        if not swarm:
            swarm, port = _label(process, INJECT_LABEL), API_PORT
        return [
            f"{_label(other, REGION_LABEL)}={other.address}:{port}".removeprefix("=")
            for other in self._pods.values()
            if other is not process and _label(other, SWARM_LABEL) == swarm
        ]

    def _report(self, process: PodProcess) -> None:
        metadata, status = process.pod["metadata"], process.status()
        if self._reported.get(metadata["uid"]) != status:
            path = f"{self._path('pods', metadata['name'])}/status"
            body = {"metadata": {"uid": metadata["uid"]}, "status": status}
            self._cluster.request("PATCH", path, body, "application/merge-patch+json")
            self._reported[metadata["uid"]] = status

    def _delete(self, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        self._cluster.request("DELETE", self._path("pods", metadata["name"]), body)

    # --- nodes and claims -------------------------------------------------------------------------

    def _bind(self, pod: Mapping[str, Any]) -> str:
        """Put a pod on a node that its selector selects, made if need be; the node's name."""
        selector = pod["spec"].get("nodeSelector", {})
        node = "-".join(["podlet", *(selector[key] for key in sorted(selector))]).lower()
        if node not in self._nodes:
            self._make_node(node, selector)
            self._nodes.add(node)
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"{self._path('pods', pod['metadata']['name'])}/binding"
        self._cluster.request("POST", path, body)
        return node

    def _make_node(self, name: str, labels: Mapping[str, str]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        }
        with _there_already():
            self._cluster.request("POST", "/api/v1/nodes", body)
        resources = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
        status: dict[str, Any] = {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Podlet"}],
        }
        if self._kubelet_port is not None:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": self._kubelet_port}}
        merge = "application/merge-patch+json"
        self._cluster.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, merge)

    def _bind_claims(self) -> None:
        """Give each claim a volume made for it; the controller manager binds the two."""
        for claim in self._list("persistentvolumeclaims"):
            if claim.get("status", {}).get("phase") == "Bound" or claim["spec"].get("volumeName"):
                continue
            metadata, spec = claim["metadata"], claim["spec"]
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"podlet-{metadata['uid']}"},
                "spec": {
                    "accessModes": spec["accessModes"],
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "claimRef": {"namespace": self.namespace, "name": metadata["name"],
                                 "uid": metadata["uid"]},
                    "hostPath": {"path": str(self._directory / "claims" / metadata["uid"])},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": spec.get("storageClassName") or CLASSLESS,
                },
            }  # fmt: skip
            with _there_already():
                self._cluster.request("POST", "/api/v1/persistentvolumes", volume)

    # --- the API ----------------------------------------------------------------------------------

    def _path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    def _list(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._cluster.request("GET", self._path(kind))["items"]
        return found

    def _fetch(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._cluster.request("GET", self._path(kind, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return found


def _is_ours(pod: Mapping[str, Any]) -> bool:
    return bool(sidecars(pod)) or any(c["name"] == "agent" for c in pod["spec"]["containers"])


def _label(process: PodProcess, name: str) -> str:
    return str(process.pod["metadata"].get("labels", {}).get(name, ""))


def _free_address() -> str:
    for number in islice(_numbers, 1 << 16):
        address = f"{NETWORK}.{number // 250 % 255}.{1 + number % 250}"
        if all(_is_free(address, port) for port in (GOSSIP_PORT, API_PORT)):
            return address
    raise LookupError(f"no address of {NETWORK}.0.0/16 is free")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _there_already() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        if refused.status != 409:
            raise

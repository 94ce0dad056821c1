"""Flip a flag in twenty pods, three ways in one run: how long until the last of them has it?

    kubectl apply -f examples/quickstart.yaml && kubectl wait --for=condition=Ready gswarm/quickstart
    python examples/sidecar/measure.py [--flips 3] [--context NAME] [--namespace NAME] [--image IMAGE] [--json FILE]

Applies this directory, flips the flag by a write beside a sidecar, by a SwarmConfig, and by the ConfigMap that is mounted as a
volume, asks every pod when it saw which, and removes what it made. Needs kubectl and nothing else.

A pod says when it saw a release by the clock of its node. For the ConfigMap the clock starts when the API server has
acknowledged the change, for the others before the write is sent.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from timing import HEADING, Late, Seen, await_release, percentile, row

HERE = Path(__file__).parent
IMAGE, SWARM = "python:3.12-alpine", "quickstart"
"""What the manifests name, for ``--image`` and ``--swarm`` to replace."""
FILE, SETTINGS, CONFIGMAP = "/config/flags.json", "/config/settings.json", "/configmap/flags.json"
SWARM_SECONDS, CONFIGMAP_SECONDS = 30.0, 300.0
"""What is waited for at most."""
_WRITE = """
import json, sys, time, urllib.request
value = json.loads(sys.argv[1])
begun = time.time()
asked = urllib.request.Request("http://127.0.0.1:7602/v1/state/shop.flags", method="PUT",
    data=json.dumps(value).encode(), headers={"Content-Type": "application/json"})
urllib.request.urlopen(asked, timeout=10).read()
print(begun)
"""


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        found = shutil.which("kubectl")
        if found is None:
            raise SystemExit("kubectl is not on PATH")
        self._command = [found]
        if context is not None:
            self._command += ["--context", context]
        if namespace is not None:
            self._command += ["--namespace", namespace]
        self.namespace = namespace or self._current()

    def _current(self) -> str:
        view = self.kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}")
        return view.strip() or "default"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints. Raises CalledProcessError."""
        done = subprocess.run(
            [*self._command, *arguments],
            check=True,
            input=stdin,
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
        )
        return done.stdout

    def pods(self) -> list[str]:
        """Names of the shops."""
        found = json.loads(self.kubectl("get", "pods", "-l", "app=shop", "-o", "json"))
        return [pod["metadata"]["name"] for pod in found["items"]]

    def seen(self, pods: Sequence[str]) -> list[Seen]:
        """What each of these pods has seen."""
        paths = [f"/api/v1/namespaces/{self.namespace}/pods/{pod}:8080/proxy/seen" for pod in pods]
        with ThreadPoolExecutor(10) as pool:
            return [
                json.loads(text) for text in pool.map(partial(self.kubectl, "get", "--raw"), paths)
            ]


def main() -> int:
    """Run it; 0 if every flip reached every pod."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--context", help="of the kubeconfig (default: the current one)")
    parser.add_argument("--namespace", help="of the swarm (default: the context's)")
    parser.add_argument("--swarm", default=SWARM, help=f"default: {SWARM}")
    parser.add_argument("--image", default=IMAGE, help=f"with python3 (default: {IMAGE})")
    parser.add_argument("--flips", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--keep", action="store_true", help="remove nothing at the end")
    options = parser.parse_args()
    cluster = Cluster(options.context, options.namespace)
    manifests = cluster.kubectl("kustomize", str(HERE))
    manifests = manifests.replace(IMAGE, options.image)
    manifests = manifests.replace(f"inject: {SWARM}", f"inject: {options.swarm}")
    manifests = manifests.replace(f"name: {SWARM}", f"name: {options.swarm}")
    try:
        cluster.kubectl("apply", "-f", "-", stdin=manifests)
        measured = measure(cluster, options.flips)
    except (Late, subprocess.SubprocessError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            cluster.kubectl(
                "delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=manifests
            )
    if options.json is not None:
        options.json.write_text(json.dumps(figures(measured), indent=2) + "\n")
    return 0


def measure(cluster: Cluster, flips: int) -> dict[str, list[list[float]]]:
    """Flip the flag each way so many times; seconds by way, flip and pod."""
    for name in ("shop", "shop-desk"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=5m")
    pods = cluster.pods()
    ways: dict[str, tuple[Callable[[Cluster, str], float], str, float]] = {
        "a write beside a sidecar": (write_beside_sidecar, FILE, SWARM_SECONDS),
        "SwarmConfig": (apply_swarmconfig, SETTINGS, SWARM_SECONDS),
        "ConfigMap, as a volume": (patch_configmap, CONFIGMAP, CONFIGMAP_SECONDS),
    }
    measured: dict[str, list[list[float]]] = {}
    for way, (flip, file, seconds) in ways.items():
        measured[way] = []
        for number in range(1, flips + 1):
            release = f"release-{time.time():.0f}-{number}"
            begun = flip(cluster, release)
            every = 0.5 if seconds < 60 else 5.0
            times = await_release(partial(cluster.seen, pods), file, release, begun, seconds, every)
            print(
                f"{way}, flip {number}: all {len(pods)} pods after {max(times):.3f} s", flush=True
            )
            measured[way].append(times)
    print(f"\n{len(pods)} pods, {flips} flips each; until a pod has read the new flags\n")
    print(HEADING)
    for way, times_of_flips in measured.items():
        print(row(way, times_of_flips))
    return measured


# --- three ways to flip a flag ---------------------------------------------------------------------


def value_of(release: str) -> dict[str, Any]:
    """The flags of a release."""
    return {"release": release, "new_checkout": True}


def write_beside_sidecar(cluster: Cluster, release: str) -> float:
    """Write from within the desk's pod, on its loopback; when the write was sent."""
    program = ["python3", "-c", _WRITE, json.dumps(value_of(release))]
    return float(cluster.kubectl("exec", "deploy/shop-desk", "-c", "desk", "--", *program))


def apply_swarmconfig(cluster: Cluster, release: str) -> float:
    """Change the SwarmConfig; when kubectl was called."""
    begun = time.time()
    patch = json.dumps({"spec": {"data": value_of(release)}})
    cluster.kubectl("patch", "swarmconfig", "shop-settings", "--type=merge", "-p", patch)
    return begun


def patch_configmap(cluster: Cluster, release: str) -> float:
    """Change the ConfigMap; when the API server had acknowledged it."""
    patch = json.dumps({"data": {"flags.json": json.dumps(value_of(release))}})
    cluster.kubectl("patch", "configmap", "shop-flags", "-p", patch)
    return time.time()


def figures(measured: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """What the table shows, in seconds."""
    return {
        way: {
            "p50": round(percentile([s for flip in flips for s in flip], 0.5), 4),
            "p99": round(percentile([s for flip in flips for s in flip], 0.99), 4),
            "last_max": round(max(max(flip) for flip in flips), 4),
        }
        for way, flips in measured.items()
    }


if __name__ == "__main__":
    sys.exit(main())

"""What a story that failed leaves behind to be looked at: objects, events, logs, what agents say of themselves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

from e2e.cluster import ROOT, Cluster, Failed
from e2e.installation import SYSTEM
from e2e.swarm import Swarm
from gossipctl.failures import CommandFailed
from gossipswarm_client.errors import GossipSwarmError

FOLDER: Final = ROOT / "e2e" / "failures"
OBJECTS: Final = (
    "gossipswarms,swarmconfigs,swarmpartitions,pods,statefulsets,services,endpointslices,configmaps,"
    "networkpolicies,poddisruptionbudgets,persistentvolumeclaims"
)
"""Not Secrets."""
PATHS: Final = ("/v1/agent", "/v1/members", "/v1/partition", "/v1/conflicts", "/v1/config")


def forget() -> None:
    """Remove what an earlier run has left."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def gather(cluster: Cluster, namespace: str, story: str, failure: str) -> Path:
    """Write all there is to know about a namespace; the folder. What cannot be had is left out."""
    folder = FOLDER / re.sub(r"[^\w.-]+", "_", story)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(failure, "utf-8")
    commands = {
        "objects.yaml": ("-n", namespace, "get", OBJECTS, "-o", "yaml"),
        "events.txt": ("-n", namespace, "get", "events", "--sort-by=.lastTimestamp"),
        "nodes.txt": ("get", "nodes,pods", "-A", "-o", "wide"),
        "operator.log": (
            "-n", SYSTEM, "logs", "-l", "app.kubernetes.io/name=gossipswarm-operator", "--prefix", "--tail", "3000",
        ),
    }  # fmt: skip
    for name, command in commands.items():
        _write(folder / name, cluster, *command)
    for pod in _names(cluster, namespace):
        _write(folder / f"{pod}.log", cluster, "-n", namespace, "logs", pod, "--all-containers")
    for swarm in _swarms(cluster, namespace):
        _write_agents(folder, Swarm(cluster, namespace, swarm))
    return folder


def _write(file: Path, cluster: Cluster, *command: str) -> None:
    try:
        file.write_text(cluster.kubectl(*command, seconds=60), "utf-8")
    except Failed as failed:
        file.write_text(str(failed), "utf-8")


def _names(cluster: Cluster, namespace: str) -> list[str]:
    try:
        return [pod["metadata"]["name"] for pod in cluster.find(namespace, "pods")]
    except Failed:
        return []


def _swarms(cluster: Cluster, namespace: str) -> list[str]:
    try:
        return [each["metadata"]["name"] for each in cluster.find(namespace, "gossipswarms")]
    except Failed:
        return []


def _write_agents(folder: Path, swarm: Swarm) -> None:
    try:
        agents = swarm.agents()
    except (CommandFailed, GossipSwarmError):
        return
    for agent in agents:
        found: dict[str, Any] = {}
        for path in PATHS:
            try:
                found[path] = agent.request("GET", path)
            except (CommandFailed, GossipSwarmError) as error:
                found[path] = f"{type(error).__name__}: {error}"
        (folder / f"{agent.name}.json").write_text(json.dumps(found, indent=1), "utf-8")

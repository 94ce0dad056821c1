"""Logs of agents, from the kubelets that keep them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.resources import CONTAINER, core


def last(api: Api, namespace: str, pods: Sequence[str], lines: int) -> list[dict[str, Any]]:
    """The last lines of these agents, oldest first."""
    from concurrent.futures import ThreadPoolExecutor

    def of(pod: str) -> list[dict[str, Any]]:
        return [parse(line, pod) for line in _read(api, namespace, pod, tailLines=lines)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = [line for each in pool.map(of, pods) for line in each]
    return sorted(found, key=lambda line: line["time"])[-lines:]


def follow(api: Api, namespace: str, pods: Sequence[str], lines: int) -> Iterator[dict[str, Any]]:
    """The last lines of these agents and all that come later; ends when the last of them has ended."""
    arrived: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()

    def pass_on(pod: str) -> None:
        try:
            for line in _read(api, namespace, pod, tailLines=lines, follow="true"):
                arrived.put(parse(line, pod))
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            arrived.put(error)
        arrived.put(None)

    for pod in pods:
        threading.Thread(target=pass_on, args=(pod,), daemon=True).start()
    left = len(pods)
    while left:
        found = arrived.get()
        if isinstance(found, Exception):
            raise found
        if found is None:
            left -= 1
        else:
            yield found


def _read(api: Api, namespace: str, pod: str, **how: Any) -> Iterator[bytes]:
    path = f"{core('pods', namespace, pod)}/log"
    return api.lines(path, container=CONTAINER, timestamps="true", **how)


def parse(line: bytes, pod: str) -> dict[str, Any]:
    """One line as the CLI shows it: what the agent wrote, or else its text with the kubelet's time."""
    stamp, _, text = line.decode(errors="replace").partition(" ")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"level": "info", "message": text}
    return {"time": stamp, **found, "agent": pod, "source": pod}

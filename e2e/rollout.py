"""Watching an update pass through the regions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.cluster import Cluster, Failed, Object
from e2e.swarm import Swarm


@dataclass
class Rollout:
    """What was seen of an update, look by look."""

    image: str
    """What agents are updated to."""
    together: int = 0
    """Most regions that were being updated at one look."""
    mixed: set[str] = field(default_factory=set)
    """Regions that were seen half way."""
    finished: dict[str, float] = field(default_factory=dict)
    """By region: seconds from the start until all its agents were new and ready."""
    looks: int = 0

    def look(self, pods: list[Object], elapsed: float) -> None:
        """Take in the agents' pods as they are after ``elapsed`` seconds."""
        self.looks += 1
        regions: dict[str, list[Object]] = {}
        for pod in pods:
            regions.setdefault(pod["metadata"]["labels"]["gossipswarm.io/region"], []).append(pod)
        under_way = set()
        for region, members in regions.items():
            new = [pod for pod in members if pod["spec"]["containers"][0]["image"] == self.image]
            if not new:
                continue
            if len(new) < len(members) or not all(map(_ready, members)):
                under_way.add(region)
            else:
                self.finished.setdefault(region, elapsed)
        # A region whose last pod was deleted a moment ago has one pod less and looks finished: it is not under way
        # twice, so the order is that of the last look at which a region was seen half way.
        for region in under_way:
            self.finished.pop(region, None)
        self.mixed |= under_way
        self.together = max(self.together, len(under_way))


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class Watcher:
    """Looks at the pods of a swarm until it is told to stop."""

    def __init__(self, cluster: Cluster, namespace: str, swarm: str, image: str) -> None:
        self.rollout = Rollout(image)
        self._list: Callable[[], list[Object]] = lambda: cluster.find(
            namespace, "pods", f"gossipswarm.io/swarm={swarm},gossipswarm.io/role=agent"
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._began = time.monotonic()

    def __enter__(self) -> Rollout:
        self._thread.start()
        return self.rollout

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            try:
                pods = self._list()
            except Failed:
                continue
            self.rollout.look(pods, time.monotonic() - self._began)


@contextmanager
def observed(swarm: Swarm, kind: str) -> Iterator[list[Object]]:
    """A condition of a swarm is looked at every second: what it was whenever it was not True."""
    stopped = threading.Event()
    lapses: list[Object] = []

    def watch() -> None:
        while not stopped.wait(1.0):
            try:
                condition = swarm.condition(kind)
            except Failed as failed:
                condition = {"type": kind, "status": "Unknown", "message": str(failed)}
            if condition.get("status") != "True":
                lapses.append(condition)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lapses
    finally:
        stopped.set()
        thread.join()

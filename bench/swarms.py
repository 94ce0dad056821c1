"""Local swarms to measure: made by the same code as ``gossipctl swarm init``, in files of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gossipctl.backend import Agent
from gossipctl.local.backend import Swarm
from gossipctl.local.client import LocalSwarm
from gossipctl.local.lifecycle import init

REGIONS = ("us-east", "us-west", "eu-central")
PLACES = {"HOME": ".", "XDG_STATE_HOME": "state", "XDG_RUNTIME_DIR": "run"}


def evenly(agents: int, regions: tuple[str, ...] = REGIONS) -> dict[str, int]:
    """So many agents, spread over the regions: 211 are 71, 70 and 70."""
    each, more = divmod(agents, len(regions))
    return {region: each + (index < more) for index, region in enumerate(regions)}


class Measured(Swarm):
    """A running local swarm and what benchmarks ask of it."""

    def spawn(self, regions: Mapping[str, int]) -> None:
        """Start agents called ``<region>-<n>`` and wait until all know all and have caught up."""
        for region, count in regions.items():
            if count:
                for _ in self.stream("spawn", region=region, name=region, count=count):
                    pass

        def settled() -> bool:
            found = self.stats()
            others = len(found) - 1
            return all(each["ready"] and each["members_alive"] >= others for each in found)

        until(settled, 30.0, "all agents know each other")

    def agree(self) -> bool:
        """Whether all agents hold the same state and the same history."""
        found = self.stats()
        return len({(each["state_hash"], each["losses_hash"]) for each in found}) == 1

    def worker_pids(self) -> list[int]:
        """The processes that host the agents."""
        workers = self.request("status", verbose=True)["workers"]
        return [worker["pid"] for worker in workers if worker.get("pid")]

    def configure(self, **settings: Any) -> None:
        """Change parameters of the swarm and wait until every agent applies them."""
        self.request("config", changes=settings)

        def applied() -> bool:
            return all(
                settings.items() <= agent.request("GET", "/v1/config")["settings"].items()
                for agent in self.agents()
            )

        until(applied, 10.0, "all agents apply the parameters")


@contextmanager
def swarm(agents: Mapping[str, int], **spec: Any) -> Iterator[Measured]:
    """A swarm with these agents by region; gone afterwards, with all its files.

    ``spec``: settings, workers, encryption and so on, as ``gossipctl.local.lifecycle.init`` takes them.
    """
    before = {name: os.environ.get(name) for name in (*PLACES, "GOSSIPSWARM_SWARM")}
    with tempfile.TemporaryDirectory(prefix="gossipswarm-bench-") as directory:
        for name, place in PLACES.items():
            path = Path(directory) / place
            path.mkdir(exist_ok=True)
            os.environ[name] = str(path)
        os.environ.pop("GOSSIPSWARM_SWARM", None)
        local: LocalSwarm | None = None
        try:
            init(name="bench", regions=list(agents) or list(REGIONS), **spec)
            local = LocalSwarm("bench")
            measured = Measured(local)
            measured.spawn(agents)
            yield measured
        finally:
            if local is not None:
                local.delete()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.02) -> float:
    """Wait for a condition; seconds it took. Raises TimeoutError naming ``what``."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"after {seconds:g} s not: {what}")
        time.sleep(every)
    return time.monotonic() - begun


def command(*arguments: str) -> list[str]:
    """The command line of ``gossipctl`` as installed beside this interpreter."""
    installed = Path(sys.executable).with_name("gossipctl")
    return [str(installed), *arguments]


def convergence(agent: Agent, dot: str, threshold: float) -> dict[str, Any]:
    """How a traced write reached this share of the agents; waits for it."""
    report: dict[str, Any] = agent.request(
        "GET",
        f"/v1/convergence/{quote(dot, safe='')}",
        query={"wait": "true", "threshold": threshold, "timeout": "30s"},
        timeout=40.0,
    )
    return report


def gossipctl(*arguments: str) -> Any:
    """The JSON that a command prints."""
    done = subprocess.run(
        command(*arguments, "-o", "json"), capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"gossipctl {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)

"""Real local swarms for tests: in a home of their own, gone without a trace afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gossipctl.local import client, lifecycle
from gossipctl.local.client import LocalSwarm
from gossipswarm_client.sync import Client

REGIONS = ("us-east", "us-west", "eu-central")


_open: list[LocalSwarm] = []


def eventually(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer within this time; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds:g} s"
        time.sleep(0.02)
    return answer


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Local:
    """A running local swarm with what tests ask of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.swarm = LocalSwarm(name)
        self.seen_pids: set[int] = set()
        _open.append(self.swarm)

    def __call__(self, op: str, **arguments: Any) -> Any:
        """The result of an operation."""
        return self.swarm.request(op, **arguments)

    def spawn(self, per_region: int, *regions: str) -> list[str]:
        """Names of new agents in each of the regions."""
        names = []
        for region in regions or REGIONS:
            answer = self("spawn", region=region, count=per_region)
            names += [agent["name"] for agent in answer["agents"]]
        return names

    def client(self, agent: str, **options: Any) -> Client:
        """HTTP client of an agent."""
        address = self("resolve", name=agent)
        return Client(address["api"], token=address["token"], **{"timeout": 60.0, **options})

    def get(self, agent: str, key: str) -> Any:
        """The value that an agent has; None if it has none."""
        with self.client(agent) as http:
            found = http.find(key)
        return None if found is None else found.value

    def set(self, agent: str, key: str, value: Any) -> None:
        """Write at an agent; durable there when this returns."""
        with self.client(agent) as http:
            http.set(key, value)

    def is_back(self, worker: str) -> bool:
        """Whether a worker that died was started again, with all its agents."""
        status = self("status", verbose=True)
        (found,) = [each for each in status["workers"] if each["name"] == worker]
        return (
            bool(found["restarts"])
            and status["status"] in ("active", "partitioned")
            and all(agent["status"] == "active" for agent in status["agents"])
        )

    def pids(self) -> dict[str, int]:
        """Processes by name: the supervisor's and the workers'."""
        status = self("status", verbose=True)
        found = {worker["name"]: worker["pid"] for worker in status["workers"]}
        found["supervisor"] = status["supervisor"]["pid"]
        self.seen_pids |= {pid for pid in found.values() if pid}
        return found

    def is_whole(self) -> bool:
        """Whether all agents run and have the same state."""
        return bool(self("converged")["converged"])

    def up(self) -> dict[str, Any]:
        """Start it after it went down."""
        self.swarm.close()
        return lifecycle.up(self.name)


@contextmanager
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State and runtime directories for one test; at its end neither process nor file may be left."""
    state, run = tmp_path / "state", tmp_path / "run"
    for name, place in (("XDG_STATE_HOME", state), ("XDG_RUNTIME_DIR", run)):
        place.mkdir()
        monkeypatch.setenv(name, str(place))
    monkeypatch.delenv("GOSSIPSWARM_SWARM", raising=False)
    try:
        yield state
    finally:
        for name in client.names():
            with LocalSwarm(name) as swarm:
                swarm.delete()
        while _open:
            _open.pop().close()
    assert [*state.iterdir(), *run.iterdir()] == []


def make(name: str = "demo", **arguments: Any) -> Local:
    """A new swarm of three regions, still without agents, and with two workers."""
    lifecycle.init(**{"name": name, "regions": list(REGIONS), "workers": 2, **arguments})
    local = Local(name)
    local.pids()
    return local


def all_gone(local: Local) -> bool:
    """Whether none of the processes seen is left.

    A process that is ending gives up its files, and so the locks that the swarm's end is known by, a moment before it is gone.
    """
    return not any(map(is_alive, local.seen_pids))


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    os.kill(pid, 9)
    eventually(lambda: not is_alive(pid))

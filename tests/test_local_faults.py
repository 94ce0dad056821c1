"""Processes that die without warning: what was acknowledged is there afterwards, and nobody is left over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gossipctl.local import client, lifecycle
from gossipctl.local.client import LocalSwarm
from gossipctl.local.errors import LocalError
from gossipswarm_client.errors import GossipSwarmError
from local_swarms import all_gone, eventually, home, kill, make


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with home(tmp_path, monkeypatch) as directory:
        yield directory


class Writers:
    """One writer an agent, as fast as acknowledgements come; remembers what was acknowledged."""

    def __init__(self, swarm, names):
        self.acknowledged: dict[str, int] = {}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(swarm.client(name, retries=0), name))
            for name in names
        ]

    def _write(self, client, name):
        number = 0
        with client:
            while not self._over.is_set():
                number += 1
                key = f"{name}.{number}"
                try:
                    client.set(key, number)
                except GossipSwarmError:
                    self._over.wait(0.01)
                else:
                    self.acknowledged[key] = number

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def lost(swarm, names, acknowledged):
    """Acknowledged writes that some agent does not have."""
    missing = []
    for name in names:
        with swarm.client(name) as client:
            tree = client.find("")
            held = tree.value if tree is not None else {}
            missing += [
                (name, key)
                for key, value in acknowledged.items()
                if held.get(key.split(".")[0], {}).get(key.split(".")[1]) != value
            ]
    return missing


def test_a_killed_worker_comes_back_with_its_agents_and_every_acknowledged_write():
    swarm = make()
    names = swarm.spawn(2)
    before = {agent["name"]: agent["api"] for agent in swarm("agents")["agents"]}
    writers = Writers(swarm, names)
    with writers.running():
        eventually(lambda: len(writers.acknowledged) > 200)
        victim = swarm.pids()["worker-1"]
        kill(victim)
        eventually(lambda: swarm.is_back("worker-1"))
        count = len(writers.acknowledged)
        eventually(lambda: len(writers.acknowledged) > count + 200)
    eventually(swarm.is_whole)
    assert lost(swarm, names, writers.acknowledged) == []
    assert {agent["name"]: agent["api"] for agent in swarm("agents")["agents"]} == before
    worker = swarm("status", verbose=True)["workers"][0]
    assert worker["pid"] != victim
    assert (worker["restarts"], worker["last_exit"]) == (1, "killed by SIGKILL")


def test_a_killed_supervisor_takes_its_workers_along_and_resumes_with_every_acknowledged_write():
    swarm = make()
    names = swarm.spawn(2)
    writers = Writers(swarm, names)
    with writers.running():
        eventually(lambda: len(writers.acknowledged) > 200)
        kill(swarm.pids()["supervisor"])
        eventually(lambda: all_gone(swarm))
    with pytest.raises(LocalError) as error:
        swarm.swarm.request("status")
    assert error.value.exit == 4
    assert swarm.up()["status"] == "active"
    eventually(swarm.is_whole)
    assert lost(swarm, names, writers.acknowledged) == []


def test_all_processes_killed_at_once_lose_no_acknowledged_write():
    swarm = make()
    names = swarm.spawn(1)
    writers = Writers(swarm, names)
    with writers.running():
        eventually(lambda: len(writers.acknowledged) > 100)
        for pid in swarm.pids().values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all_gone(swarm))
    swarm.up()
    eventually(swarm.is_whole)
    assert lost(swarm, names, writers.acknowledged) == []


def test_a_worker_that_hangs_does_not_outlive_its_supervisor():
    swarm = make()
    swarm.spawn(1)
    pids = swarm.pids()
    os.kill(pids["worker-1"], signal.SIGSTOP)
    kill(pids["supervisor"])
    os.kill(pids["worker-1"], signal.SIGCONT)
    eventually(lambda: all_gone(swarm))
    assert swarm.up()["status"] == "active"


def test_a_partition_outlives_the_supervisor():
    swarm = make()
    east, west = swarm.spawn(1, "us-east", "us-west")
    cut = swarm("partition", group1="us-east", group2="us-west,eu-central", duration_ms=3_600_000)
    kill(swarm.pids()["supervisor"])
    swarm.up()
    swarm.set(east, "key", "east")
    status = swarm("partition-status")
    assert status["status"] == "partitioned"
    assert [(each["id"], each["expires_at"]) for each in status["cuts"]] == [
        (cut["id"], cut["expires_at"])
    ]
    assert status["enforced"]["agents"] == 2
    assert swarm.get(west, "key") is None
    swarm("heal")
    eventually(lambda: swarm.get(west, "key") == "east")


def test_a_partition_that_outlived_the_supervisor_ends_when_its_time_is_over():
    swarm = make()
    east, west = swarm.spawn(1, "us-east", "us-west")
    # Where the next supervisor is not up by then, it has nothing to end any more; elsewhere it has.
    swarm("partition", group1="us-east", group2="us-west,eu-central", duration_ms=8000)
    kill(swarm.pids()["supervisor"])
    swarm.up()
    swarm.set(east, "key", "east")
    eventually(lambda: swarm("partition-status")["status"] == "healthy")
    eventually(lambda: swarm.get(west, "key") == "east")


def test_a_partition_that_ran_out_while_the_swarm_was_down_is_over():
    swarm = make()
    east, west = swarm.spawn(1, "us-east", "us-west")
    swarm("partition", group1="us-east", duration_ms=100)
    swarm.swarm.down()
    swarm.up()
    assert swarm("partition-status")["status"] == "healthy"
    swarm.set(east, "key", 1)
    eventually(lambda: swarm.get(west, "key") == 1)


def test_a_killed_worker_comes_back_into_the_cut_that_is_in_force():
    swarm = make()
    names = swarm.spawn(2, "us-east", "us-west")
    swarm("partition", group1="us-east", group2="us-west,eu-central")
    swarm.set(names[0], "key", "east")
    kill(swarm.pids()["worker-2"])
    eventually(lambda: swarm.is_back("worker-2"))
    eventually(lambda: swarm.get(names[1], "key") == "east")
    assert [swarm.get(name, "key") for name in names[2:]] == [None, None]
    assert swarm("partition-status")["enforced"] == {"agents": 4, "of": 4}


def test_deleting_a_swarm_whose_supervisor_was_killed_leaves_nothing(state):
    swarm = make()
    swarm.spawn(1)
    kill(swarm.pids()["supervisor"])
    swarm.swarm.close()
    swarm.swarm.delete()
    eventually(lambda: all_gone(swarm))
    assert not (state / "gossipswarm").exists()


def refusal_to_resolve(swarm, name):
    with pytest.raises(LocalError) as refused:
        swarm("resolve", name=name)
    return refused.value.message


def test_an_agent_that_cannot_start_is_reported_and_tried_again(state):
    swarm = make()
    broken, whole = swarm.spawn(1, "us-east", "us-west")
    swarm.swarm.down()
    journal = state / "gossipswarm" / "demo" / "agents" / broken / "journal"
    journal.rename(journal.with_name("aside"))
    journal.write_text("not a directory")
    assert swarm.up()["status"] == "degraded"
    # Now and then it is being tried again.
    (failed,) = eventually(lambda: swarm("agents", filter="failed")["agents"])
    assert failed["name"] == broken
    assert f"agent {broken} cannot start" in failed["error"]
    eventually(lambda: f"agent {broken} is failed" in refusal_to_resolve(swarm, broken))
    swarm.set(whole, "key", 1)
    journal.unlink()
    journal.with_name("aside").rename(journal)
    eventually(lambda: swarm("status")["status"] == "active")
    eventually(lambda: swarm.get(broken, "key") == 1)


def test_a_worker_that_keeps_dying_comes_back_every_time():
    swarm = make()
    names = swarm.spawn(1)
    for _ in range(3):
        pid = swarm.pids()["worker-1"]
        kill(pid)
        eventually(lambda pid=pid: swarm.pids()["worker-1"] not in (None, pid))
    eventually(lambda: len(swarm("agents", filter="active")["agents"]) == len(names))
    assert swarm("status", verbose=True)["workers"][0]["restarts"] == 3
    lines = swarm("logs", name="supervisor", lines=1000)["lines"]
    assert sum("killed by SIGKILL" in line["message"] for line in lines) == 3


@pytest.fixture
def small_disk(state):
    """The state directory on a file system of half a megabyte, or a skip where we may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(state)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes privileges")
    yield state
    for name in client.names():
        LocalSwarm(name).delete()
    # Lazily: a process that has given up its locks may not have closed all its files yet.
    subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(directory):
    """A file that takes all that is left."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"\0" * 512)
    return ballast


def test_a_full_state_directory_is_reported_and_recovers(small_disk):
    swarm = make()
    (name,) = swarm.spawn(1, "us-east")
    ballast = fill(small_disk)
    with pytest.raises(LocalError) as error:
        swarm.spawn(1, "us-west")
    assert error.value.reason == "disk-full"
    assert "free some space" in error.value.hint
    assert [agent["name"] for agent in swarm("agents")["agents"]] == [name]
    ballast.unlink()
    swarm.spawn(1, "us-west")


def test_no_swarm_is_made_in_a_full_directory(small_disk):
    ballast = fill(small_disk)
    with pytest.raises(LocalError) as error:
        lifecycle.init(name="demo", regions=["us-east"])
    assert error.value.reason == "disk-full"
    ballast.unlink()
    assert client.names() == []


def test_a_read_only_state_directory_is_reported(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(LocalError) as error:
        lifecycle.init(name="demo", regions=["us-east"])
    assert error.value.reason == "state-directory"
    assert "read-only file system" in error.value.message
    assert "XDG_STATE_HOME" in error.value.hint

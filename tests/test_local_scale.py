"""Local swarms of the walkthrough's sizes: 150 and 211 agents, every one of them real."""

from __future__ import annotations

import time

import pytest

from local_swarms import REGIONS, all_gone, eventually, home, kill, make

pytestmark = pytest.mark.swarm


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with home(tmp_path, monkeypatch) as directory:
        yield directory


def are_acquainted(swarm, count):
    """Whether every agent is ready and sees all the others alive."""
    agents = swarm("stats")["agents"]
    return len(agents) == count and all(
        agent["ready"] and agent["members_alive"] == count - 1 for agent in agents
    )


def fill(swarm, sizes):
    """Names by region."""
    return {region: swarm.spawn(size, region) for region, size in zip(REGIONS, sizes, strict=True)}


def test_150_agents_are_up_spread_cheap_and_in_agreement():
    swarm = make(max_agents=150)
    names = fill(swarm, (50, 50, 50))
    agents = swarm("agents", filter="active")["agents"]
    assert len(agents) == 150
    by_worker = {worker["name"]: worker for worker in swarm("status", verbose=True)["workers"]}
    assert [worker["agents"] for worker in by_worker.values()] == [75, 75]
    eventually(lambda: are_acquainted(swarm, 150), 300)
    with swarm.client(names["us-east"][0]) as http:
        written = http.set("app.config", {"cache_ttl": 3600}, wait=True, threshold=1.0, timeout=120)
    assert written.convergence.received == 150
    for region in REGIONS:
        assert swarm.get(names[region][9], "app.config") == {"cache_ttl": 3600}
    # 150 agents in about two interpreters: what one more agent takes is a fraction of a MiB.
    resident = sum(worker["rss_bytes"] for worker in by_worker.values())
    assert resident < 2 * 80 * 2**20 + 150 * 1.5 * 2**20


def test_an_idle_swarm_of_150_agents_leaves_the_supervisor_asleep():
    swarm = make()
    fill(swarm, (50, 50, 50))
    eventually(lambda: are_acquainted(swarm, 150), 300)

    def used():
        return swarm("status", verbose=True)["supervisor"]["cpu_seconds"]

    # A supervisor that polls would show here; what is measured is its own time, not the machine's.
    before, began = used(), time.monotonic()
    eventually(lambda: time.monotonic() - began > 5)
    assert used() - before < 0.2 * (time.monotonic() - began)


def test_211_agents_survive_a_partition_a_dead_worker_and_a_restart():
    swarm = make()
    names = fill(swarm, (71, 70, 70))
    eventually(lambda: are_acquainted(swarm, 211), 300)
    east, west = names["us-east"], names["us-west"]
    swarm.set(east[0], "app.config", {"cache_ttl": 3600})
    eventually(swarm.is_whole, 120)

    swarm("partition", group1="us-east", group2="us-west,eu-central")
    eventually(lambda: swarm("partition-status")["detection"]["agents"] == 211, 120)
    swarm.set(east[0], "app.config.cache_ttl", 7200)
    swarm.set(west[0], "app.config.cache_ttl", 1800)
    swarm.set(west[1], "app.west", True)
    eventually(lambda: swarm.get(west[69], "app.config.cache_ttl") == 1800)
    eventually(lambda: swarm.get(east[70], "app.config.cache_ttl") == 7200)

    kill(swarm.pids()["worker-2"])
    eventually(lambda: swarm.is_back("worker-2"), 300)
    assert swarm("partition-status")["enforced"] == {"agents": 211, "of": 211}
    assert swarm.get(east[1], "app.west") is None

    swarm("heal")
    eventually(swarm.is_whole, 300)
    assert swarm.get(east[1], "app.west") is True
    assert swarm.get(east[1], "app.config.cache_ttl") == 1800

    swarm.pids()
    swarm.swarm.down()
    eventually(lambda: all_gone(swarm))
    swarm.up()
    assert len(swarm("agents", filter="active")["agents"]) == 211
    eventually(swarm.is_whole, 300)
    assert swarm.get(names["eu-central"][69], "app.config.cache_ttl") == 1800

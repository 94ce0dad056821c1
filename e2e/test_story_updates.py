"""Agents and operator are replaced while people read and write."""

from __future__ import annotations

import pytest

from e2e.cluster import Cluster, until
from e2e.installation import Installation, reference
from e2e.rollout import Watcher
from e2e.settings import Settings
from e2e.swarm import REGIONS, Swarm, plain
from e2e.traffic import COUNTER, Traffic

CONFIG = {"cache_ttl": 3600}


@pytest.fixture
def traffic(cluster: Cluster, settings: Settings, swarm: Swarm) -> Traffic:
    """A client that reads and writes, beside a swarm of six agents."""
    swarm.apply(regions=plain(), replicasPerRegion=2)
    swarm.settled(6)
    swarm.write("app.config", CONFIG)
    made = Traffic(cluster, swarm.namespace, swarm.name, settings.agent_image, CONFIG)
    made.start()
    return made


def check(traffic: Traffic, swarm: Swarm) -> None:
    """Nobody was left without an answer, and nothing that was acknowledged is lost."""
    seen = traffic.seen_by_now()
    traffic.stop()
    assert seen["reads"] > 100
    assert seen["wrong_reads"] == 0
    assert seen["twice_failed_reads"] == 0, seen
    counters = swarm.everywhere(COUNTER)
    assert min(counters.values()) >= seen["last_acknowledged"], counters


def test_an_update_goes_region_by_region_and_readers_never_fail(
    cluster: Cluster, settings: Settings, swarm: Swarm, traffic: Traffic
) -> None:
    image = settings.next_agent_image
    with Watcher(cluster, swarm.namespace, swarm.name, image) as rollout:
        swarm.patch(image=reference(image))
        swarm.settled(6, image=image)

    assert set(rollout.finished) == set(REGIONS)
    assert rollout.together == 1
    check(traffic, swarm)


def test_an_update_that_sticks_stops_at_its_first_agent_and_is_taken_back(
    settings: Settings, swarm: Swarm, traffic: Traffic
) -> None:
    swarm.patch(update={"timeout": "20s"})
    before = swarm.lives()
    good, _, _ = settings.agent_image.rpartition(":")

    swarm.patch(image={"repository": good, "tag": "never-built"})

    def stuck() -> dict[str, str] | None:
        found = swarm.condition("Progressing")
        return found if found.get("reason") == "UpdateTimedOut" else None

    said = until("the update is said to be stuck", stuck, 90)
    assert "has not become ready within 20s" in said["message"]
    assert "never-built" in said["message"]
    after = swarm.lives()
    assert len([name for name in before if after.get(name) != before[name]]) == 1

    swarm.patch(image=reference(settings.agent_image))

    swarm.settled(6, image=settings.agent_image)
    assert len([name for name, life in swarm.lives().items() if life != before[name]]) == 1
    check(traffic, swarm)


def test_the_operator_is_upgraded_and_rolled_back_and_agents_do_not_notice(
    installation: Installation, swarm: Swarm, traffic: Traffic
) -> None:
    before = swarm.lives()
    installation.install(log={"level": "debug", "format": "json"})
    installation.rollback()

    swarm.scale(3)
    swarm.settled(9)
    after = swarm.lives()
    assert {name: after[name] for name in before} == before
    check(traffic, swarm)

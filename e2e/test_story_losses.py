"""Disks, nodes, agents and the operator are lost; what was acknowledged is not."""

from __future__ import annotations

import random
import time

import pytest

from e2e import nodes
from e2e.cluster import Cluster, Failed, until
from e2e.cut import Cut
from e2e.disturbances import Disturbances, agreed, kill
from e2e.installation import SYSTEM
from e2e.ledger import Ledger
from e2e.settings import Settings
from e2e.swarm import AGREE_SECONDS, REGIONS, Swarm, bound, plain

PAUSE_SECONDS = 15.0


def test_an_agent_whose_disk_is_lost_gets_everything_from_its_peers(
    cluster: Cluster, swarm: Swarm
) -> None:
    swarm.apply(regions=plain(), replicasPerRegion=2)
    swarm.settled(6)
    values = {f"k{number}": "x" * 100 for number in range(500)}
    swarm.write("app", values, at="us-east-0")
    swarm.agree("app", values, agents=6)
    pod = swarm.pod("us-east-0")
    kubectl = ("-n", swarm.namespace, "delete")
    volume = cluster.get(swarm.namespace, "pvc", f"data-{pod}")["spec"]["volumeName"]

    # The claim goes only once no pod uses it; the pod that comes next makes a new one.
    cluster.kubectl(*kubectl, "pvc", f"data-{pod}", "--wait=false")
    cluster.kubectl(*kubectl, "pod", pod)

    swarm.settled(6)
    new = cluster.get(swarm.namespace, "pvc", f"data-{pod}")["spec"]["volumeName"]
    assert new != volume
    assert swarm.read("app", at="us-east-0") == values


def test_a_drain_leaves_a_region_as_many_agents_as_its_budget_says(
    cluster: Cluster, swarm: Swarm
) -> None:
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    swarm.write("key", "value")
    node = nodes.of_region(cluster, "us-east")
    with nodes.cordoned(cluster, node):
        with pytest.raises(Failed, match="disruption budget"):
            cluster.kubectl(
                "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s",
                f"--pod-selector={swarm.selector}", "--force",
            )  # fmt: skip
        left = [pod["metadata"]["name"] for pod in swarm.pods("us-east") if _runs(pod)]
        assert len(left) == 1
        assert swarm.read("key", at=left[0].removeprefix(f"{swarm.name}-")) == "value"
    swarm.settled(6)
    swarm.agree("key", "value", agents=6)


def _runs(pod: dict[str, object]) -> bool:
    status = pod["status"]
    assert isinstance(status, dict)
    return status.get("phase") == "Running" and "deletionTimestamp" not in str(pod["metadata"])


def test_a_node_that_stands_still_costs_its_region_and_nobody_else(
    cluster: Cluster, settings: Settings, swarm: Swarm
) -> None:
    _needs_kind(settings)
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    with nodes.stopped(nodes.of_region(cluster, "us-west")):
        for number in range(20):
            swarm.write("key", number, at="us-east-0")
        until("eu-central has it", lambda: swarm.read("key", at="eu-central-1") == 19 or None, 5)
    swarm.settled(6)
    swarm.agree("key", 19, agents=6)


def test_nothing_acknowledged_is_lost_whoever_is_killed(
    cluster: Cluster, settings: Settings, swarm: Swarm
) -> None:
    _needs_kind(settings)
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    with Ledger(swarm) as ledger:
        for region in REGIONS:
            kill(cluster, swarm.namespace, swarm.pod(f"{region}-0"))
        kill(cluster, SYSTEM, "--all")
        swarm.settled(6)
        with nodes.stopped(nodes.of_region(cluster, "eu-central")):
            kill(cluster, swarm.namespace, swarm.pod("us-east-1"))
            time.sleep(PAUSE_SECONDS)
        for agent in ("us-west-0", "us-west-1"):
            kill(cluster, swarm.namespace, swarm.pod(agent))
        swarm.settled(6)
    assert len(ledger.lines) > 200
    ledger.check(agents=6)


def test_nothing_acknowledged_is_lost_under_cuts_and_whatever_else_happens(
    cluster: Cluster, settings: Settings, swarm: Swarm
) -> None:
    _needs_kind(settings)
    seed = random.randrange(1_000_000) if settings.seed is None else settings.seed
    print(f"repeat it with E2E_SEED={seed}")
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    with Ledger(swarm) as ledger:
        happened = Disturbances(swarm, 2, ledger, seed)
        happened.run()
        swarm.settled(6)
    print(
        f"{len(ledger.lines)} writes acknowledged, {ledger.unknown} not; {happened.held} cuts held"
    )
    assert happened.held > 0
    assert len(ledger.lines) > 500
    ledger.check(agents=6)
    agreed(swarm, 6, AGREE_SECONDS)

    assert Cut(swarm).policies() == []
    assert cluster.find(swarm.namespace, "swarmpartitions") == []
    assert swarm.condition("Partitioned")["status"] == "False"


def _needs_kind(settings: Settings) -> None:
    if settings.kind is None:
        pytest.skip("NOT TESTED: only nodes of a kind cluster can be stopped from here")

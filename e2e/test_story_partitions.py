"""Regions are cut off from each other on purpose, go on serving, and agree when they meet again."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from e2e import nodes, probes
from e2e.cluster import Cluster, until
from e2e.cut import Cut
from e2e.installation import SYSTEM
from e2e.settings import Refused
from e2e.swarm import REGIONS, Swarm, bound, plain

OPERATOR = "deployment/gossipswarm-operator"
WEST = ["us-west", "eu-central"]


@pytest.fixture
def swarm(swarm: Swarm) -> Swarm:
    """Six agents in three regions that hold a value."""
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    swarm.write("app.ttl", 3600)
    swarm.agree("app.ttl", 3600, agents=6)
    return swarm


@pytest.fixture
def cut(swarm: Swarm) -> Cut:
    return Cut(swarm)


def test_both_sides_of_a_cut_are_written_to_and_agree_when_it_heals(swarm: Swarm, cut: Cut) -> None:
    cut.make(["us-east"], WEST)
    cut.wait("Enforced")

    swarm.write("app.ttl", 7200, at="us-east-0")
    swarm.arrives("app.ttl", 7200, at="us-east-1")
    swarm.write("app.ttl", 1800, at="us-west-0")
    swarm.arrives("app.ttl", 1800, at="eu-central-1")
    cut.wait("Detected")
    assert swarm.read("app.ttl", at="us-east-1") == 7200
    swarm.cluster.wait(swarm.namespace, f"gossipswarm/{swarm.name}", "Partitioned", 60)
    assert swarm.condition("Ready")["status"] == "True"

    cut.delete()

    assert cut.policies() == []
    swarm.whole(6)
    swarm.agree("app.ttl", 1800, agents=6)
    assert _lost(swarm, "app.ttl") == {((7200, 1800),)}
    swarm.settled(6)


def test_three_regions_that_hear_nobody_agree_when_they_meet_again(swarm: Swarm, cut: Cut) -> None:
    cut.make(["us-east"], ["us-west"], ["eu-central"])
    cut.wait("Enforced")
    cut.wait("Detected")
    assert cut.get()["status"]["groups"] == "us-east | us-west | eu-central"
    assert len(cut.sides()) == 3

    for number, region in enumerate(REGIONS):
        swarm.write("app.ttl", number, at=f"{region}-0")
        swarm.write(f"only.{region}", number, at=f"{region}-0")
    for number, region in enumerate(REGIONS):
        swarm.arrives(f"only.{region}", number, at=f"{region}-1")
    cut.silent(*REGIONS)
    for number, region in enumerate(REGIONS):
        assert swarm.read("app.ttl", at=f"{region}-1") == number
        assert swarm.read("only", at=f"{region}-1") == {region: number}

    cut.delete()

    swarm.whole(6)
    swarm.agree("app.ttl", 2, agents=6)
    swarm.agree("only", {region: number for number, region in enumerate(REGIONS)}, agents=6)
    (lost,) = _lost(swarm, "app.ttl")
    assert {loser for loser, _ in lost} == {0, 1}
    swarm.settled(6)


def test_each_side_has_a_policy_and_everything_but_gossip_stays_open(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    other = Swarm(cluster, swarm.namespace, "bystander")
    other.apply(regions=plain(("us-east", "us-west")), replicasPerRegion=1)
    other.settled(2)
    cut.make(["us-east"])
    cut.wait("Enforced")

    assert len(cut.sides()) == 2
    labels = [each["metadata"]["labels"] for each in cut.policies()]
    assert {each["gossipswarm.io/partition"] for each in labels} == {cut.name}
    assert cut.get()["status"]["groups"] == "us-east | eu-central,us-west"
    before = swarm.lives()
    for agent in ("us-east-0", "us-west-0"):
        host = f"{swarm.name}.{swarm.namespace}.svc"
        script = "import socket, sys; print(socket.getaddrinfo(sys.argv[1], 7601)[0][4][0])"
        assert cluster.python(swarm.namespace, swarm.pod(agent), script, host).strip()
    other.write("key", "heard")
    other.agree("key", "heard", agents=2)
    _probed(cluster, swarm)
    assert swarm.lives() == before
    assert swarm.condition("Ready")["status"] == "True"
    assert other.condition("Partitioned")["status"] != "True"

    cut.delete()
    swarm.whole(6)


def test_a_cut_that_was_forgotten_ends_by_itself(swarm: Swarm, cut: Cut) -> None:
    cut.make(["us-east"], WEST, duration="10s")
    cut.wait("Enforced")
    cut.wait("Healed", 30)
    assert cut.policies() == []
    swarm.whole(6)
    swarm.write("app.ttl", 1)
    swarm.agree("app.ttl", 1, agents=6)


def test_a_cut_that_is_overdue_is_healed_when_the_operator_comes_back(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    cut.make(["us-east"], WEST, duration="15s")
    cut.wait("Enforced")
    with _no_operator(cluster):
        ends = datetime.fromisoformat(cut.get()["status"]["expiresAt"])
        until("its time is over", lambda: datetime.now(UTC) > ends or None, 30)
        assert len(cut.sides()) == 2
    cut.healed(60)
    cut.wait("Healed")
    swarm.whole(6)
    swarm.write("app.ttl", 1)
    swarm.agree("app.ttl", 1, agents=6)


def test_a_cut_is_healed_from_the_command_line_without_the_operator(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    cut.make(["us-east"], WEST)
    cut.wait("Enforced")
    program = str(Path(sys.executable).with_name("kubectl-gossip"))
    where = ("--context", cluster.context, "-n", swarm.namespace, "--swarm", swarm.name)
    with _no_operator(cluster):
        done = subprocess.run(
            [program, "network", "heal-partition", *where],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert cut.policies() == []
        swarm.whole(6)
        swarm.write("app.ttl", 2)
        swarm.agree("app.ttl", 2, agents=6)


def test_a_pod_that_is_born_inside_a_cut_hears_its_own_side_only(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    cut.make(["us-east"], WEST)
    cut.wait("Enforced")
    swarm.write("inside", "east", at="us-east-1")
    swarm.write("inside", "west", at="us-west-0")
    pod = swarm.pod("us-east-0")
    before = swarm.lives()[pod]
    for claim in (f"pvc/data-{pod}", f"pod/{pod}"):
        cluster.kubectl("-n", swarm.namespace, "delete", claim, "--wait=false")
    until("a new pod is there", lambda: swarm.lives().get(pod, before) != before or None, 60)
    cluster.wait(swarm.namespace, f"pod/{pod}", "Ready", 120)

    swarm.arrives("inside", "east", at="us-east-0")
    cut.silent("us-east")
    assert swarm.read("inside", at="us-east-0") == "east"  # a later write would have won

    cut.delete()
    swarm.whole(6)
    swarm.agree("inside", "west", agents=6)


def test_cuts_that_overlap_hold_together_and_heal_one_by_one(swarm: Swarm, cut: Cut) -> None:
    second = Cut(swarm, "second")
    cut.make(["us-east"], WEST)
    second.make(["us-west"], ["us-east", "eu-central"])
    cut.wait("Enforced")
    second.wait("Enforced")

    swarm.write("three", "eu", at="eu-central-0")
    swarm.arrives("three", "eu", at="eu-central-1")
    cut.silent("us-east", "us-west")
    assert {swarm.read("three", at=agent) for agent in ("us-east-0", "us-west-0")} == {None}

    second.delete()
    swarm.arrives("three", "eu", at="us-west-1")
    cut.silent("us-east")
    assert swarm.read("three", at="us-east-0") is None

    cut.delete()
    swarm.whole(6)
    swarm.agree("three", "eu", agents=6)


def test_where_the_network_enforces_nothing_the_agents_make_the_cut(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    with _ignoring_policies(cluster):
        cut.make(["us-east"], WEST)
        cut.wait("Enforced")
        assert cut.get()["status"]["mechanism"] == "Agent"
        swarm.write("unheard", "west", at="us-west-0")
        swarm.arrives("unheard", "west", at="eu-central-1")
        cut.silent("us-east")
        assert swarm.read("unheard", at="us-east-0") is None
        cut.delete()
        swarm.whole(6)
        swarm.agree("unheard", "west", agents=6)


def test_where_the_network_enforces_nothing_a_cut_may_be_given_up(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    with _ignoring_policies(cluster):
        cut.make(["us-east"], WEST, mechanism="NetworkPolicy", onUnenforced="Fail")
        cut.wait("Healed")
        applied = cut.condition("Applied")
        assert (applied["status"], applied["reason"]) == ("False", "NotEnforced")
        assert cut.condition("Enforced")["status"] == "False"
        assert cut.policies() == []
        swarm.whole(6)
        swarm.write("heard", 1)
        swarm.agree("heard", 1, agents=6)


def _lost(swarm: Swarm, key: str) -> set[tuple[tuple[object, object], ...]]:
    """What lost at a key, and to what, as agents remember it: one entry if all remember the same."""
    return {
        tuple(
            sorted((each.losing_value, each.winning_value) for each in history if each.key == key)
        )
        for history in (agent.conflicts().history for agent in swarm.agents())
    }


def _probed(cluster: Cluster, swarm: Swarm) -> None:
    """Wait until every agent has told its kubelet again that it lives, and as often that it is ready as it takes to doubt it."""
    before = probes.answered(cluster, swarm.namespace)
    times = {"Liveness": 1, "Readiness": 3}
    due = before + Counter({(pod, kind): times[kind] for pod in swarm.lives() for kind in times})
    until(
        "kubelets have asked every agent",
        lambda: probes.answered(cluster, swarm.namespace) >= due or None,
        60,
    )


@contextmanager
def _ignoring_policies(cluster: Cluster) -> Iterator[None]:
    try:
        with nodes.policies_ignored(cluster):
            yield
    except Refused as refused:
        pytest.skip(f"NOT TESTED: {refused}")


@contextmanager
def _no_operator(cluster: Cluster) -> Iterator[None]:
    """The operator is away."""
    cluster.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=0")
    cluster.kubectl(
        "-n", SYSTEM, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=gossipswarm-operator",
        "--timeout=60s",
    )  # fmt: skip
    try:
        yield
    finally:
        cluster.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=2")

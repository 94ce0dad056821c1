"""Regions are cut off from each other on purpose, go on serving, and agree when they meet again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e import nodes
from e2e.cluster import Cluster, until
from e2e.cut import Cut
from e2e.installation import SYSTEM
from e2e.settings import Refused
from e2e.swarm import Swarm, bound, plain

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
    until("us-east has it", lambda: swarm.read("app.ttl", at="us-east-1") == 7200 or None, 10)
    swarm.write("app.ttl", 1800, at="us-west-0")
    until("eu-central has it", lambda: swarm.read("app.ttl", at="eu-central-1") == 1800 or None, 10)
    cut.wait("Detected")
    assert swarm.read("app.ttl", at="us-east-1") == 7200
    swarm.cluster.wait(swarm.namespace, f"gossipswarm/{swarm.name}", "Partitioned", 60)
    assert swarm.condition("Ready")["status"] == "True"

    cut.delete()

    assert cut.policies() == []
    swarm.agree("app.ttl", 1800, agents=6)
    for agent in swarm.agents():
        found = [each for each in agent.conflicts().history if each.key == "app.ttl"]
        assert [(each.winning_value, each.losing_value) for each in found] == [(1800, 7200)]
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
    time.sleep(
        20
    )  # as long as it would take the kubelet to find an agent unready, and to restart one
    assert swarm.lives() == before
    assert swarm.condition("Ready")["status"] == "True"
    assert other.condition("Partitioned")["status"] != "True"


def test_a_cut_that_was_forgotten_ends_by_itself(swarm: Swarm, cut: Cut) -> None:
    cut.make(["us-east"], WEST, duration="10s")
    cut.wait("Enforced")
    cut.wait("Healed", 30)
    assert cut.policies() == []
    swarm.write("app.ttl", 1)
    swarm.agree("app.ttl", 1, agents=6)


def test_a_cut_that_is_overdue_is_healed_when_the_operator_comes_back(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    cut.make(["us-east"], WEST, duration="15s")
    cut.wait("Enforced")
    with _no_operator(cluster):
        time.sleep(20)
        assert len(cut.sides()) == 2
    cut.healed(60)
    cut.wait("Healed")
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

    for _ in range(20):
        assert swarm.read("inside", at="us-east-0") in (None, "east")
        time.sleep(0.25)
    assert swarm.read("inside", at="us-east-0") == "east"

    cut.delete()
    swarm.agree("inside", "west", agents=6)


def test_cuts_that_overlap_hold_together_and_heal_one_by_one(swarm: Swarm, cut: Cut) -> None:
    second = Cut(swarm, "second")
    cut.make(["us-east"], WEST)
    second.make(["us-west"], ["us-east", "eu-central"])
    cut.wait("Enforced")
    second.wait("Enforced")

    swarm.write("three", "eu", at="eu-central-0")
    until("eu-central has it", lambda: swarm.read("three", at="eu-central-1") == "eu" or None, 10)
    time.sleep(3)
    assert {swarm.read("three", at=agent) for agent in ("us-east-0", "us-west-0")} == {None}

    second.delete()
    until("us-west has it", lambda: swarm.read("three", at="us-west-1") == "eu" or None, 30)
    assert swarm.read("three", at="us-east-0") is None

    cut.delete()
    swarm.agree("three", "eu", agents=6)


def test_where_the_network_enforces_nothing_the_agents_make_the_cut(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    with _ignoring_policies(cluster):
        cut.make(["us-east"], WEST)
        cut.wait("Enforced")
        assert cut.get()["status"]["mechanism"] == "Agent"
        swarm.write("unheard", "west", at="us-west-0")
        until("eu-central has it", lambda: swarm.read("unheard", at="eu-central-1") or None, 10)
        time.sleep(3)
        assert swarm.read("unheard", at="us-east-0") is None
        cut.delete()
        swarm.agree("unheard", "west", agents=6)


def test_where_the_network_enforces_nothing_a_cut_may_be_given_up(
    cluster: Cluster, swarm: Swarm, cut: Cut
) -> None:
    with _ignoring_policies(cluster):
        cut.make(["us-east"], WEST, mechanism="NetworkPolicy", onUnenforced="Fail")
        until(
            "it is given up", lambda: cut.condition("Applied").get("status") == "False" or None, 60
        )
        assert cut.condition("Enforced")["status"] == "False"
        assert cut.policies() == []
        swarm.write("heard", 1)
        swarm.agree("heard", 1, agents=6)


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

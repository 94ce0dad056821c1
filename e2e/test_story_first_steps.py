"""The first minutes with GossipSwarm on Kubernetes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.cluster import Cluster, Failed
from e2e.swarm import REGIONS, Swarm, plain


def test_a_swarm_of_two_lines_becomes_ready_and_converged(cluster: Cluster, namespace: str) -> None:
    swarm = Swarm(cluster, namespace, "first")
    swarm.apply(regions=[{"name": "here"}])
    cluster.wait(namespace, "gossipswarm/first", "Ready", 120)
    cluster.wait(namespace, "gossipswarm/first", "Converged", 60)

    swarm.write("app.config", {"cache_ttl": 3600}, at="here-0")

    swarm.agree("app.config", {"cache_ttl": 3600}, agents=3)
    columns = cluster.kubectl("-n", namespace, "get", "gswarm", "--no-headers").split()
    assert columns[:5] == ["first", "1", "3/3", "True", "-"]


def test_a_namespace_that_admits_restricted_pods_only_admits_agents(
    cluster: Cluster, swarm: Swarm
) -> None:
    with pytest.raises(Failed, match="violates PodSecurity"):
        cluster.kubectl(
            "-n", swarm.namespace, "run", "careless", "--image", "busybox:1", "--restart=Never"
        )
    swarm.apply(regions=plain(), replicasPerRegion=1)
    swarm.settled(3)


def test_two_swarms_in_a_namespace_know_nothing_of_each_other(
    cluster: Cluster, namespace: str
) -> None:
    one, two = (Swarm(cluster, namespace, name) for name in ("one", "two"))
    for swarm in (one, two):
        swarm.apply(regions=plain(("us-east",)), replicasPerRegion=2)
    for swarm in (one, two):
        swarm.settled(2)

    one.write("key", "of one")
    two.write("key", "of two")

    one.agree("key", "of one", agents=2)
    two.agree("key", "of two", agents=2)
    one.delete()
    two.agree("key", "of two", agents=2)
    two.settled(2)


def test_one_name_in_two_namespaces_is_two_swarms(
    cluster: Cluster, make_namespace: Callable[[], str]
) -> None:
    here, there = (Swarm(cluster, make_namespace(), "same") for _ in range(2))
    for swarm in (here, there):
        swarm.apply(regions=plain(("us-east",)), replicasPerRegion=2)
    for swarm in (here, there):
        swarm.settled(2)

    here.write("key", "here")
    there.write("key", "there")

    here.agree("key", "here", agents=2)
    there.agree("key", "there", agents=2)


def test_configuration_is_delivered_with_a_receipt(cluster: Cluster, swarm: Swarm) -> None:
    swarm.apply(regions=plain(), replicasPerRegion=1)
    swarm.settled(3)
    values = {"cache_ttl": 3600, "feature_flags": {"new_ui": True}}
    cluster.apply(
        swarm.namespace,
        {
            "apiVersion": "gossipswarm.io/v1alpha1",
            "kind": "SwarmConfig",
            "metadata": {"name": "app"},
            "spec": {"swarmRef": {"name": swarm.name}, "prefix": "app.config", "data": values},
        },
    )
    cluster.wait(swarm.namespace, "swarmconfig/app", "Converged", 60)

    # The receipt came: every agent has it already.
    assert list(swarm.everywhere("app.config").values()) == [values] * len(REGIONS)

    swarm.write("app.config.cache_ttl", "tampered")
    swarm.agree("app.config", values, agents=3)


def test_an_agent_that_is_killed_comes_back_with_what_it_held(
    cluster: Cluster, swarm: Swarm
) -> None:
    swarm.apply(regions=plain(("us-east",)), replicasPerRegion=2)
    swarm.settled(2)
    swarm.write("key", "before")
    before = swarm.lives()
    cluster.kubectl(
        "-n",
        swarm.namespace,
        "delete",
        "pod",
        swarm.pod("us-east-0"),
        "--grace-period=0",
        "--force",
    )
    swarm.write("key", "meanwhile", at="us-east-1")
    swarm.settled(2)
    assert swarm.lives() != before
    swarm.agree("key", "meanwhile", agents=2)

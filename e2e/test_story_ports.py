"""Policies that list ports, for networks that do not know ranges, on one that enforces what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.cut import Cut
from e2e.installation import Installation
from e2e.swarm import Swarm, bound

FOUND = "import socket, sys; print(socket.getaddrinfo(sys.argv[1], 7601)[0][4][0])"
"""Asks a name server."""


@pytest.fixture
def listing(installation: Installation) -> Iterator[None]:
    """The operator is told that the network does not know ranges."""
    installation.install(networkPolicies={"ports": "Explicit", "explicit": ["53/UDP", "53/TCP"]})
    yield
    installation.install()


@pytest.mark.usefixtures("listing")
def test_a_cut_by_listed_ports_holds_and_leaves_name_servers_and_the_api_open(
    cluster: Cluster, swarm: Swarm
) -> None:
    swarm.apply(regions=bound(), replicasPerRegion=1)
    swarm.settled(3)
    cut = Cut(swarm)
    cut.make(["us-east"])
    cut.wait("Enforced")
    assert cut.get()["status"]["mechanism"] == "NetworkPolicy"
    cut.wait("Detected")
    policies = cluster.find(swarm.namespace, "networkpolicies")
    assert len(policies) == 5
    assert not any("endPort" in str(policy["spec"]) for policy in policies)

    host = f"{swarm.name}.{swarm.namespace}.svc"
    for agent in ("us-east-0", "us-west-0"):
        assert cluster.python(swarm.namespace, swarm.pod(agent), FOUND, host).strip()
    swarm.write("app.ttl", 1, at="us-east-0")
    swarm.write("app.ttl", 2, at="us-west-0")
    swarm.arrives("app.ttl", 2, at="eu-central-0")
    assert swarm.condition("Ready")["status"] == "True"

    cut.delete()
    swarm.whole(3)
    swarm.agree("app.ttl", 2, agents=3)

"""GossipSwarm is removed, and nothing of it is left. This runs last: stories before it need the installation."""

from __future__ import annotations

import pytest

from e2e.cluster import Cluster, until
from e2e.conftest import KEEPS
from e2e.installation import OURS, Installation
from e2e.swarm import Swarm, plain


@pytest.mark.skipif(KEEPS, reason="NOT TESTED: E2E_KEEP leaves the installation")
def test_uninstalling_leaves_nothing(
    cluster: Cluster, installation: Installation, swarm: Swarm
) -> None:
    swarm.apply(regions=plain(("us-east",)), replicasPerRegion=2, storage={"retention": "Delete"})
    swarm.settled(2)
    swarm.delete()
    until(
        "its volumes are gone",
        lambda: not cluster.find(swarm.namespace, "pvc") or None,
        60,
    )
    cluster.kubectl("delete", "namespace", swarm.namespace, "--timeout=120s")

    installation.uninstall()

    assert installation.left() == []

    def gone() -> bool | None:
        return None if cluster.kubectl("get", "namespace", "-l", OURS, "-o", "name") else True

    until("no namespace of a story is left", gone, 180)

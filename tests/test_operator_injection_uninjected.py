"""Pods that run without the sidecar that they asked for: which of them count."""

from __future__ import annotations

from typing import Any

from gossipswarm_operator.injection.decision import Refuse
from gossipswarm_operator.injection.uninjected import Uninjected
from gossipswarm_operator.metrics import Metrics

KEY = ("team", "web")
POD: dict[str, Any] = {
    "metadata": {"namespace": "team", "name": "web", "labels": {"gossipswarm.io/inject": "demo"}},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}


class Cluster:
    """One pod and no swarm. ``goes``: the pod does while it is looked at, and the watch tells of it."""

    def __init__(self, *, goes: bool = False) -> None:
        self.metrics = Metrics()
        self.told: list[str] = []
        self.pods = Uninjected(self, self, self.metrics, self)
        self._goes = goes

    async def get(self, *_: object) -> dict[str, Any]:
        return POD

    async def decide(self, *_: object) -> Refuse:
        if self._goes:
            self.pods.forget(KEY)
        return Refuse("NoSuchSwarm", "there is no GossipSwarm demo")

    async def warning(self, about: object, reason: str, message: str) -> None:
        self.told.append(reason)

    @property
    def counts(self) -> bool:
        return 'uninjected_pods{namespace="team"' in self.metrics.text().decode()


async def test_a_pod_without_its_sidecar_is_counted_and_told_of_until_it_is_gone():
    cluster = Cluster()
    assert await cluster.pods.reconcile(KEY) is not None
    assert cluster.counts
    assert cluster.told == ["NoSuchSwarm"]
    cluster.pods.forget(KEY)
    assert not cluster.counts


async def test_a_pod_that_goes_while_it_is_looked_at_does_not_count():
    cluster = Cluster(goes=True)
    assert await cluster.pods.reconcile(KEY) is None, "it need not be looked at again"
    assert not cluster.counts
    assert cluster.told == []

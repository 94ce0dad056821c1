"""When a replica of the operator says that it may be asked about pods."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from gossipswarm_operator.injection import served
from gossipswarm_operator.metrics import Metrics


class NoCertificate:
    """An API server whose Secret stays empty: whoever leads knows nothing of a webhook."""

    async def get(self, *where):
        return {"data": {}}


async def test_a_replica_becomes_ready_although_nobody_makes_a_certificate(monkeypatch):
    monkeypatch.setattr(served, "PATIENCE_SECONDS", 0.2)
    settings = SimpleNamespace(
        webhook_port=0, agent_image="agent:1", namespace="n", webhook_secret="s"
    )
    async with served.serving(NoCertificate(), Metrics(), settings) as ready:
        assert not ready()
        async with asyncio.timeout(10):
            while not ready():  # noqa: ASYNC110 - asked as a probe asks
                await asyncio.sleep(0.01)

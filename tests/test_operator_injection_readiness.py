"""When a replica of the operator says that it may be asked about pods."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from datetime import UTC, datetime
from types import SimpleNamespace

from gossipswarm_operator.injection import served
from gossipswarm_operator.injection.certificates import issue
from gossipswarm_operator.metrics import Metrics


class NoCertificate:
    """An API server whose Secret stays empty: whoever leads knows nothing of a webhook."""

    async def get(self, *where):
        return {"data": {}}


async def test_a_replica_becomes_ready_although_nobody_makes_a_certificate(monkeypatch):
    monkeypatch.setattr(served, "PATIENCE_SECONDS", 1.0)
    settings = SimpleNamespace(
        webhook_port=0, agent_image="agent:1", namespace="n", webhook_secret="s"
    )
    async with served.serving(NoCertificate(), Metrics(), settings) as ready:
        assert not ready()
        async with asyncio.timeout(60):
            while not ready():  # noqa: ASYNC110 - asked as a probe asks
                await asyncio.sleep(0.01)


class Certificate:
    """An API server whose Secret has a certificate."""

    def __init__(self) -> None:
        made = issue("127.0.0.1", datetime.now(UTC))
        self.data = {"tls.crt": made.certificate, "tls.key": made.key}

    async def get(self, *where):
        return {"data": {name: base64.b64encode(pem).decode() for name, pem in self.data.items()}}


async def test_a_disk_that_is_full_for_a_while_does_not_end_the_webhook(monkeypatch, tmp_path):
    monkeypatch.setattr(served, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(served, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    looks = 0
    kube = Certificate()
    found = kube.get

    async def counted(*where):
        nonlocal looks
        looks += 1
        return await found(*where)

    monkeypatch.setattr(kube, "get", counted)
    settings = SimpleNamespace(
        webhook_port=0, agent_image="agent:1", namespace="n", webhook_secret="s"
    )
    async with served.serving(kube, Metrics(), settings) as ready:
        async with asyncio.timeout(60):
            while looks < 3:  # noqa: ASYNC110 - a loop of its own
                await asyncio.sleep(0.01)
            assert not ready()
            (tmp_path / "missing").mkdir()
            while not ready():  # noqa: ASYNC110 - asked as a probe asks
                await asyncio.sleep(0.01)

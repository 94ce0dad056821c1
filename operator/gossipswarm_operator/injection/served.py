"""The certificate that a replica serves: read from the Secret, again and again, and used as soon as it is another."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from gossipswarm_operator.client import SECRETS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.injection import certificates
from gossipswarm_operator.injection.server import Injector, WebhookServer
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.settings import Settings

LOOK_SECONDS: Final = 10.0
"""Between two looks at the Secret: within ``certificates.SETTLING`` every replica has looked several times."""
FIRST_LOOK_SECONDS: Final = 1.0
"""Between two looks while there is no certificate yet."""

PATIENCE_SECONDS: Final = 20.0
"""For so long a replica calls itself unready for want of a certificate. Not for ever: an operator that leads and is of a
version without the webhook makes none, and is replaced only once its successor is ready.
"""

_log = logging.getLogger(__name__)


def content(secret: Mapping[str, Any] | None, name: str) -> bytes:
    """One value of a Secret; empty where it has none."""
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(name) or "", validate=True)
    except binascii.Error:
        return b""


class Serving:
    """Serves the webhook from when there is a certificate."""

    def __init__(
        self,
        kube: KubeClient,
        server: WebhookServer,
        metrics: Metrics,
        namespace: str,
        secret: str,
        port: int,
    ) -> None:
        self._kube = kube
        self._server = server
        self._metrics = metrics
        self._namespace = namespace
        self._secret = secret
        self._port = port
        self._used: tuple[bytes, bytes] | None = None
        self.port: int | None = None
        """Where it listens; None until there is a certificate."""

    @property
    def ready(self) -> bool:
        """The API server may ask this replica."""
        return self.port is not None

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS if self.ready else FIRST_LOOK_SECONDS)
        finally:
            await self._server.close()

    async def look(self) -> None:
        """Serve what the Secret holds now."""
        await self._read()
        if self._used is not None and self.port is None:
            await self._listen()

    async def _read(self) -> None:
        try:
            secret = await self._kube.get(SECRETS, self._namespace, self._secret)
        except ApiError as error:
            _log.warning("cannot read the webhook's certificate", extra={"error": error.message})
            return
        found = content(secret, "tls.crt"), content(secret, "tls.key")
        if found == self._used or not all(found):
            return
        try:
            self._server.use(*found)
            until = certificates.expiry(found[0])
        except (ValueError, OSError) as error:  # of no use, or no room for it on the disk
            _log.error("the old certificate is served on", extra={"error": str(error)})
            return
        self._used = found
        self._metrics.certificate_expiry.set(until.timestamp())
        _log.info("the webhook has a certificate", extra={"until": until.isoformat()})

    async def _listen(self) -> None:
        try:
            self.port = await self._server.start(self._port)
        except OSError as error:
            _log.error("the webhook cannot listen", extra={"error": str(error)})


@asynccontextmanager
async def serving(
    kube: KubeClient, metrics: Metrics, settings: Settings
) -> AsyncIterator[Callable[[], bool]]:
    """Serve the webhook, if there is to be one, in the background; yields what tells whether the API server may ask."""
    if settings.webhook_port is None:
        yield lambda: True
        return
    server = WebhookServer(Injector(kube, settings.agent_image), metrics)
    found = Serving(
        kube, server, metrics, settings.namespace, settings.webhook_secret, settings.webhook_port
    )
    task = asyncio.create_task(found.run())
    patient_until = time.monotonic() + PATIENCE_SECONDS

    def ready() -> bool:
        return not task.done() and (found.ready or time.monotonic() > patient_until)

    try:
        yield ready
    finally:
        task.cancel()
        await asyncio.wait({task})

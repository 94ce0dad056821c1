"""The leader's part of the webhook: its certificate in a Secret, and the API server's trust in it."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Callable
from typing import Any, Final

from gossipswarm_operator.client import SECRETS, WEBHOOKS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.events import utc_now
from gossipswarm_operator.injection.certificates import LIFE, SETTLING, Held, covers, rotate
from gossipswarm_operator.injection.served import content
from gossipswarm_operator.names import MANAGED_BY_LABEL, MANAGER_NAME
from gossipswarm_operator.settings import Settings

ROUND_SECONDS: Final = 10.0

_NAMES: Final = {
    "certificate": "tls.crt",
    "key": "tls.key",
    "next_certificate": "next.crt",
    "next_key": "next.key",
    "authorities": "ca.crt",
}
"""Field of ``Held`` to name in the Secret."""

_log = logging.getLogger(__name__)


class Rotation:
    """Keeps the certificate fresh. Only one may be at work at a time."""

    def __init__(
        self,
        kube: KubeClient,
        namespace: str,
        secret: str,
        webhook: str,
        host: str,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        settling: dt.timedelta = SETTLING,
        life: dt.timedelta = LIFE,
    ) -> None:
        """``host`` is what the API server calls the webhook; ``webhook`` names the MutatingWebhookConfiguration."""
        self._kube = kube
        self._namespace = namespace
        self._secret = secret
        self._webhook = webhook
        self._host = host
        self._clock = clock
        self._settling = settling
        self._life = life

    async def run(self) -> None:
        """Do what is due until cancelled."""
        while True:
            try:
                await self.step()
            except ApiError as error:
                # The old certificate is good for weeks; an alert tells long before it is not.
                _log.warning("cannot renew the webhook's certificate", extra={"error": str(error)})
            await asyncio.sleep(ROUND_SECONDS)

    async def step(self) -> Held:
        """Do what is due now; what the Secret holds then. Raises ApiError."""
        secret = await self._kube.get(SECRETS, self._namespace, self._secret)
        webhook = await self._kube.get(WEBHOOKS, "", self._webhook)
        held = Held(**{field: content(secret, name) for field, name in _NAMES.items()})
        trusted = _trusted(webhook)
        wanted = rotate(held, trusted, self._host, self._clock(), self._settling, self._life)
        if webhook is not None and trusted != wanted.authorities:
            # First trusted, then served; what is trusted and never served does no harm.
            await self._trust(webhook, wanted.authorities)
            if not covers(trusted, wanted.authorities):
                _log.info("the API server is told of another authority of the webhook")
        if wanted != held:
            await self._store(secret, wanted)
            served = "served now" if wanted.certificate != held.certificate else "served soon"
            _log.info("a new certificate of the webhook", extra={"it is": served})
        return wanted

    async def _store(self, secret: dict[str, Any] | None, held: Held) -> None:
        data = {
            name: base64.b64encode(getattr(held, field)).decode() for field, name in _NAMES.items()
        }
        if secret is None:
            metadata = {
                "name": self._secret,
                "namespace": self._namespace,
                "labels": {MANAGED_BY_LABEL: MANAGER_NAME},
            }
            await self._kube.create(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": metadata,
                    "type": "Opaque",
                    "data": data,
                }
            )
            return
        version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
        await self._kube.merge(
            SECRETS, self._namespace, self._secret, {"metadata": version, "data": data}
        )

    async def _trust(self, webhook: dict[str, Any], authorities: bytes) -> None:
        bundle = base64.b64encode(authorities).decode()
        hooks = [
            {**hook, "clientConfig": {**hook["clientConfig"], "caBundle": bundle}}
            for hook in webhook["webhooks"]
        ]
        # A merge patch replaces the list, so it must still be the one that was read.
        version = {"resourceVersion": webhook["metadata"]["resourceVersion"]}
        patch = {"metadata": version, "webhooks": hooks}
        await self._kube.merge(WEBHOOKS, "", self._webhook, patch)


def rotation_of(kube: KubeClient, settings: Settings) -> Rotation:
    """The rotation that an operator's settings ask for."""
    assert settings.webhook_configuration is not None
    return Rotation(
        kube,
        settings.namespace,
        settings.webhook_secret,
        settings.webhook_configuration,
        settings.webhook_host,
    )


def _trusted(webhook: dict[str, Any] | None) -> bytes:
    """What all its hooks trust; empty if they differ."""
    bundles = {
        hook["clientConfig"].get("caBundle", "") for hook in (webhook or {}).get("webhooks") or ()
    }
    return base64.b64decode(bundles.pop()) if len(bundles) == 1 else b""

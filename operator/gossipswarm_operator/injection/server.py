"""The webhook: HTTPS, at every replica, whether it leads or stands by. It answers from what the API server says of the swarm at
this moment, changes nothing, and keeps nothing."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from gossipswarm_operator.client import SECRETS, SWARMS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.injection import reviews
from gossipswarm_operator.injection.decision import (
    AUTHORITY,
    Decision,
    Inject,
    Leave,
    Refuse,
    asked,
    decide,
    swarm_named,
)
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.model import InvalidSpec, Swarm, parse
from gossipswarm_operator.web import bind

PATH: Final = "/inject"
BODY_LIMIT: Final = 8 << 20
"""Bytes; the API server takes objects of 3 MiB, and sends the old one too."""
ANSWER_SECONDS: Final = 3.0
"""The API server waits for five."""
AT_ONCE: Final = 64
"""Questions that are looked into at a time; further ones wait."""

_OUTCOMES: Final[Mapping[type, str]] = {Inject: "injected", Refuse: "refused", Leave: "left"}

_log = logging.getLogger(__name__)


class Injector:
    """Decides on pods by what the cluster holds."""

    def __init__(self, kube: KubeClient, default_image: str) -> None:
        self._kube = kube
        self._default_image = default_image

    async def decide(self, pod: Mapping[str, Any], namespace: str) -> Decision:
        """What becomes of a pod. Raises ApiError if the cluster did not say."""
        name = asked(pod)
        if name is None:
            return Leave()
        swarm, authority = None, AUTHORITY
        found = swarm_named(name, namespace)
        if not isinstance(found, Refuse):
            source = await self._kube.get(SWARMS, namespace, found)
            if source is not None:
                try:
                    swarm = parse(source)
                except InvalidSpec as error:
                    return Refuse("NotPossible", f"GossipSwarm {found}: {error}")
                authority = await self._authority(swarm)
        return decide(pod, namespace, swarm, self._default_image, authority)

    async def _authority(self, swarm: Swarm) -> str:
        """Key of the agents' TLS Secret that holds the authority."""
        name = swarm.spec.api.tls.secret_name
        if not name:
            return AUTHORITY
        secret = await self._kube.get(SECRETS, swarm.namespace, name)
        data = (secret or {}).get("data") or {}
        return "tls.crt" if "ca.crt" not in data and "tls.crt" in data else AUTHORITY


class WebhookServer:
    """Serves reviews of pods. ``use`` a certificate before ``start``; one that follows is for connections from then on."""

    def __init__(self, injector: Injector, metrics: Metrics) -> None:
        self._injector = injector
        self._metrics = metrics
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._runner: web.AppRunner | None = None

    def use(self, certificate: bytes, key: bytes) -> None:
        """Serve this certificate. Raises ValueError if it is none, or not that of the key, OSError if the disk takes no file."""
        with tempfile.TemporaryDirectory() as directory:
            # The ssl module reads files only; they are gone before anything else runs.
            chain, private = Path(directory, "crt"), Path(directory, "key")
            chain.write_bytes(certificate)
            private.touch(0o600)
            private.write_bytes(key)
            try:
                # A context that refuses a pair is left with half of it: another one goes first.
                for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._context):
                    context.load_cert_chain(chain, private)
            except ssl.SSLError as error:
                raise ValueError(f"the webhook's certificate is of no use: {error}") from None

    async def start(self, port: int) -> int:
        """Listen on every address; the port, where 0 was any. Raises OSError if it is taken."""
        listening = bind(port)
        application = web.Application(client_max_size=BODY_LIMIT)
        application.router.add_post(PATH, self._review)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=ANSWER_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, listening, ssl_context=self._context).start()
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Listen no more; questions that are under way are answered."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _review(self, request: web.Request) -> web.Response:
        try:
            review = reviews.read(await request.read())
        except reviews.NoReview as error:
            return web.json_response({"message": str(error)}, status=400)
        decided = await self._decided(review)
        self._metrics.reviews.labels(_OUTCOMES[type(decided)]).inc()
        return web.json_response(reviews.answer(review, decided))

    async def _decided(self, review: reviews.Review) -> Decision:
        """The pod is made in any case: whoever waits for it must not wait for us."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._limit:
                return await self._injector.decide(review.pod, review.namespace)
        except (ApiError, TimeoutError) as error:
            why = str(error) or "no answer in time"
        except Exception as error:  # noqa: BLE001 - a bug of ours must not keep the pod from being made
            _log.exception("a pod cannot be reviewed", extra={"namespace": review.namespace})
            why = f"the operator met a bug: {error!r}"
        return Refuse("NotPossible", why)

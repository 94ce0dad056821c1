"""kopf, which watches the API server for us and calls the handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import kopf
from kubernetes.aio.client.configuration import Configuration

from gossipswarm_operator.client import CONFIGS, PARTITIONS, SWARMS, KubeClient, Resource
from gossipswarm_operator.context import Context
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.handlers import partition, swarm, swarmconfig
from gossipswarm_operator.names import GROUP
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.swarmconfig.reconciler import Reconciler

KINDS: Final = (SWARMS, CONFIGS, PARTITIONS)
KINDS_SECONDS: Final = 5.0
"""Between two looks whether the API server serves our kinds."""
BACKOFFS: Final = (1, 1, 2, 3, 5, 5, 5, 5)
"""Seconds between attempts to reach the API server; then from the start, or the program ends if it was refused."""

_log = logging.getLogger(__name__)
_questions = logging.getLogger("kopf._core.reactor.observation")
"""Where kopf says how it fares with finding out which kinds there are."""


def registry_of(
    context: Context, swarms: Queue, configs: Queue, delivery: Reconciler, cuts: Queue
) -> Any:
    """All handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    swarm.register(registry, swarms)
    swarmconfig.register(registry, delivery, configs.add)
    partition.register(registry, cuts, swarms)

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(context.kube.configuration)

    kopf.on.login(id="login", registry=registry)(login)
    return registry


async def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same credentials as everything else uses; asked for again when they have expired."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, credential = (token or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme.capitalize() or None,
        token=credential or None,
    )


async def kinds_served(kube: KubeClient, namespace: str, stopping: asyncio.Event) -> None:
    """Wait until our CRDs are there, or told to stop: what is not served when kopf looks, it never watches."""
    while not stopping.is_set():
        missing = [kind.plural for kind in KINDS if not await _is_served(kube, kind, namespace)]
        if not missing:
            return
        _log.warning("the API server does not serve %s: install the CRDs", ", ".join(missing))
        try:
            async with asyncio.timeout(KINDS_SECONDS):
                await stopping.wait()
        except TimeoutError:
            continue


async def _is_served(kube: KubeClient, kind: Resource, namespace: str) -> bool:
    try:
        await kube.list_all(kind, namespace)
    except ApiError as error:
        return error.status != 404
    return True


async def watch(
    kube: KubeClient,
    registry: Any,
    namespaces: tuple[str, ...],
    stopping: asyncio.Event,
    started: Callable[[], object],
) -> None:
    """Watch until told to stop.

    ``started`` is called once kopf has taken the process's signals for itself, which cannot be declined: whoever wants
    to hear them takes them back then. At its end kopf cancels every task that is younger than this call.

    Raises what kopf raises when the API server refuses a watch for good.
    """
    await kinds_served(kube, namespaces[0] if namespaces else "default", stopping)
    if stopping.is_set():
        return
    settings = kopf.OperatorSettings()
    # We say ourselves what we do, need no rights to look for kinds, and elect a leader by a Lease.
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.networking.error_backoffs = BACKOFFS
    older = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        namespaces=namespaces,
        clusterwide=not namespaces,
        stop_flag=stopping,
    )
    started()

    def still_wanted(_: logging.LogRecord) -> bool:
        return not stopping.is_set()

    # Told to stop, it closes its connection under the questions that it still asks, and takes that for an error.
    _questions.addFilter(still_wanted)
    try:
        await kopf.run_tasks(tasks, ignored=older)
    finally:
        _questions.removeFilter(still_wanted)

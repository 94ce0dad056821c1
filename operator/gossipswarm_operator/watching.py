"""kopf, which watches the API server for us and calls the handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration

from gossipswarm_operator.context import Context
from gossipswarm_operator.handlers import swarm, swarmconfig
from gossipswarm_operator.names import GROUP
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.swarmconfig.reconciler import Reconciler


def registry_of(context: Context, swarms: Queue, configs: Queue, delivery: Reconciler) -> Any:
    """All handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    swarm.register(registry, swarms)
    swarmconfig.register(registry, delivery, configs.add)

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


async def watch(registry: Any, namespaces: tuple[str, ...], stopping: asyncio.Event) -> None:
    """Watch until told to stop."""
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
    await kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        namespaces=namespaces,
        clusterwide=not namespaces,
        stop_flag=stopping,
    )

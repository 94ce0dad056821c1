"""``gossipswarm-operator``: stand by until this replica leads, then keep swarms as their specs want them."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from gossipswarm_operator import web
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import KubeClient, load_configuration
from gossipswarm_operator.context import Context
from gossipswarm_operator.events import Events
from gossipswarm_operator.handlers import sidecar
from gossipswarm_operator.injection.rotation import rotation_of
from gossipswarm_operator.injection.served import serving
from gossipswarm_operator.injection.server import Injector
from gossipswarm_operator.injection.uninjected import Uninjected
from gossipswarm_operator.leader import Leadership
from gossipswarm_operator.logs import log_to_stderr
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition import reconciler as partition
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.reconcile import SwarmReconciler
from gossipswarm_operator.settings import InvalidSettings, Settings, from_environment
from gossipswarm_operator.swarmconfig.reconciler import Reconciler
from gossipswarm_operator.watching import registry_of, watch

FAILED, MISUSED = 1, 2
RELIST_SECONDS: Final = 300.0
"""After which everything of a swarm is listed anew though no watch told of a change."""

_log = logging.getLogger(__name__)


def run() -> None:
    """Run the operator; the process exits with 0, 1 (it failed, or another leads) or 2 (it was told nonsense)."""
    faulthandler.enable()
    try:
        settings = from_environment(os.environ)
    except InvalidSettings as error:
        print(f"gossipswarm-operator: {error}", file=sys.stderr)
        sys.exit(MISUSED)
    log_to_stderr(settings.log_format, settings.log_level)
    sys.exit(asyncio.run(_until_told(settings)))


async def _until_told(settings: Settings) -> int:
    return await operate(settings, asyncio.Event())


def _hear(stopping: asyncio.Event) -> None:
    """Have the process told to end by the signals that mean it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)


async def operate(settings: Settings, stopping: asyncio.Event) -> int:
    """Serve until ``stopping`` or a signal (0), or until another replica leads (1): whoever starts it again stands by
    then.
    """
    _hear(stopping)
    async with AsyncExitStack() as undo:
        metrics = Metrics()
        configuration = await load_configuration(settings.kubeconfig)
        elector = await undo.enter_async_context(KubeClient(configuration, observe=metrics.called))
        # Every replica answers the webhook, so with a client that needs no leadership; it only reads.
        ready = await undo.enter_async_context(serving(elector, metrics, settings))
        runner = await web.serve(metrics, settings.http_port, ready)
        undo.push_async_callback(runner.cleanup)
        # A pod that is started again has the same name, and must not take itself for its predecessor.
        identity = f"{settings.pod}_{secrets.token_hex(4)}"
        leadership = Leadership(elector, settings.namespace, identity, settings.lease_seconds)
        guard = leadership.check
        kube = await undo.enter_async_context(
            KubeClient(configuration, observe=metrics.called, before_write=guard)
        )
        agents = await undo.enter_async_context(AgentsApi(before_write=guard))
        context = Context(settings, kube, agents, Events(kube, instance=settings.pod), metrics)
        # Before it is there: told to end in the very moment it is granted, this replica must not keep it.
        undo.push_async_callback(leadership.release)
        if not await _first(leadership.acquire(), stopping):
            return 0
        metrics.leading.set(1)
        lost = await _lead(context, leadership, stopping)
        metrics.leading.set(0)
        metrics.hide_all()
        return FAILED if lost else 0


async def _first(awaited: object, stopping: asyncio.Event) -> bool:
    """Await one thing, unless told to stop before; whether it came about."""
    task = asyncio.ensure_future(awaited)  # type: ignore[call-overload]
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for pending in (task, told):
            pending.cancel()
        await asyncio.wait({task, told})


async def _lead(context: Context, leadership: Leadership, stopping: asyncio.Event) -> bool:
    """Reconcile until told to stop (False), or until that is not possible any more or another may lead (True)."""
    settings = context.settings
    reconciler = SwarmReconciler(
        context.kube,
        context.agents,
        context.events,
        context.metrics,
        settings.agent_image,
        ports=settings.open_ports,
        resync_seconds=settings.resync_seconds,
        relist_seconds=RELIST_SECONDS,
    )
    delivery = Reconciler(context.kube, context.agents, context.events, metrics=context.metrics)
    swarms = Queue("GossipSwarm", reconciler.reconcile, noticed=reconciler.notice)
    configs = Queue("SwarmConfig", delivery.reconcile)
    parting = partition.Reconciler(
        context.kube,
        context.agents,
        context.events,
        context.metrics,
        ports=settings.open_ports,
    )
    cuts = Queue("SwarmPartition", parting.reconcile)
    registry = registry_of(context, swarms, configs, delivery, cuts)
    injector = Injector(context.kube, settings.agent_image)
    uninjected = Uninjected(context.kube, context.events, context.metrics, injector)
    pods = Queue("Pod", uninjected.reconcile)
    sidecar.register(registry, pods, uninjected)
    done = asyncio.Event()
    # kopf takes the signals for itself, and cannot be asked not to: they are taken back.
    hear = partial(_hear, stopping)
    watching = asyncio.create_task(
        watch(context.kube, registry, settings.watch_namespaces, done, hear)
    )
    workers = [asyncio.create_task(queue.run()) for queue in (swarms, configs, cuts, pods)]
    if settings.webhook_configuration is not None:
        workers.append(asyncio.create_task(rotation_of(context.kube, settings).run()))
    keeping = asyncio.create_task(leadership.keep())
    told = asyncio.create_task(stopping.wait())
    everything = {watching, keeping, told, *workers}
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done.set()
        for task in everything - {watching}:
            task.cancel()
        await asyncio.wait(everything)
    failures = [task.exception() for task in everything if not task.cancelled()]
    for failure in failures:
        if failure is not None:
            _log.error("the operator ends, to be started again", exc_info=failure)
    lost = not keeping.cancelled()
    return lost or any(failures)

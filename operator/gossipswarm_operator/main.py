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

from gossipswarm_operator import web
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import KubeClient, load_configuration
from gossipswarm_operator.context import Context
from gossipswarm_operator.events import Events
from gossipswarm_operator.leader import Leadership
from gossipswarm_operator.logs import log_to_stderr
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.queue import Queue
from gossipswarm_operator.reconcile import SwarmReconciler
from gossipswarm_operator.settings import InvalidSettings, Settings, from_environment
from gossipswarm_operator.swarmconfig.reconciler import Reconciler
from gossipswarm_operator.watching import registry_of, watch

FAILED, MISUSED = 1, 2

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
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return await operate(settings, stopping)


async def operate(settings: Settings, stopping: asyncio.Event) -> int:
    """Serve until ``stopping`` (0), or until another replica leads (1): whoever starts it again stands by then."""
    async with AsyncExitStack() as undo:
        metrics = Metrics()
        runner = await web.serve(metrics, settings.http_port)
        undo.push_async_callback(runner.cleanup)
        configuration = await load_configuration(settings.kubeconfig)
        kube = await undo.enter_async_context(KubeClient(configuration, observe=metrics.called))
        agents = await undo.enter_async_context(AgentsApi())
        context = Context(settings, kube, agents, Events(kube, instance=settings.pod), metrics)
        # A pod that is started again has the same name, and must not take itself for its predecessor.
        identity = f"{settings.pod}_{secrets.token_hex(4)}"
        leadership = Leadership(kube, settings.namespace, identity, settings.lease_seconds)
        if not await _first(leadership.acquire(), stopping):
            return 0
        undo.push_async_callback(leadership.release)
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
    """Reconcile until told to stop (False) or no longer in the lead (True)."""
    settings = context.settings
    reconciler = SwarmReconciler(
        context.kube,
        context.agents,
        context.events,
        context.metrics,
        settings.agent_image,
        resync_seconds=settings.resync_seconds,
    )
    delivery = Reconciler(context.kube, context.agents, context.events, metrics=context.metrics)
    swarms = Queue("GossipSwarm", reconciler.reconcile)
    configs = Queue("SwarmConfig", delivery.reconcile)
    registry = registry_of(context, swarms, configs, delivery)
    done = asyncio.Event()
    lost = False
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(registry, settings.watch_namespaces, done))
        workers = [group.create_task(queue.run()) for queue in (swarms, configs)]
        lost = await _first(leadership.keep(), stopping)
        done.set()
        for worker in workers:
            worker.cancel()
        await asyncio.wait({watching})
    return lost

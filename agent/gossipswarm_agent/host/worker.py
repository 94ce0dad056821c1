"""The agents of a worker process, and the orders that concern them."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.parameters import SETTINGS_KEY
from gossipswarm_agent.core.settings import DEFAULTS, InvalidSetting, merge
from gossipswarm_agent.core.settings import Settings as Parameters
from gossipswarm_agent.host import orders
from gossipswarm_agent.host.hosted import Hosted
from gossipswarm_agent.host.orders import Order, Refused
from gossipswarm_agent.runtime.keyring import KeyringError

STARTS_AT_ONCE: Final = 8
"""Each recovers a journal; more at once would only wait for each other."""
DISK_THREADS: Final = 8
STOP_SECONDS: Final = 10.0
"""For all agents to end, when the process is told to; journals are safe without."""

_log = logging.getLogger(__name__)


class Worker:
    """Hosts agents until ``close``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._agents: dict[str, Hosted] = {}
        self._common: orders.Configure | None = None
        self._keys: list[bytes] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._disks = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")
        self._table: dict[type[Order], Callable[[Any], Awaitable[dict[str, Any]]]] = {
            orders.Configure: self._configure,
            orders.Start: self._start,
            orders.Stop: self._stop,
            orders.Peers: self._peers,
            orders.SetDrops: self._drops,
            orders.Settings: self._settings,
            orders.Defaults: self._defaults,
            orders.Change: self._change,
            orders.Keyring: self._keyring,
            orders.Stats: self._stats,
            orders.Hashes: self._hashes,
            orders.CutReport: self._cut_report,
            orders.Usage: self._usage,
        }

    async def carry_out(self, order: Order) -> dict[str, Any]:
        """The result of an order; Refused if it cannot be carried out."""
        return await self._table[type(order)](order)

    @property
    def common(self) -> orders.Configure:
        """What all agents here share; Refused before ``configure``."""
        if self._common is None:
            raise Refused("not-configured", "the worker was not configured yet")
        return self._common

    async def _configure(self, order: orders.Configure) -> dict[str, Any]:
        _merged(DEFAULTS, order.settings)
        self._common = order
        self._keys = _decoded(order.keys)
        return {}

    # --- agents -----------------------------------------------------------------------------------

    async def _start(self, order: orders.Start) -> dict[str, Any]:
        async with self._lock(order.name):
            hosted = self._agents.get(order.name)
            if hosted is None:
                async with self._starts:
                    hosted = await Hosted.start(order, self.common, self._keys, self._disks)
                self._agents[order.name] = hosted
        joined = await hosted.joined(order.join_seconds)
        return {
            "gossip_port": hosted.gossip_port,
            "api_port": hosted.api_port,
            "joined": joined,
        }

    async def _stop(self, order: orders.Stop) -> dict[str, Any]:
        async with self._lock(order.name):
            hosted = self._agents.get(order.name)
            if hosted is not None:
                if order.heirs:
                    await hosted.hand_over(order.heirs)
                del self._agents[order.name]
                await hosted.stop(leave=order.leave)
        return {}

    def _lock(self, name: str) -> asyncio.Lock:
        """An agent is started or stopped by one order at a time."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _peers(self, order: orders.Peers) -> dict[str, Any]:
        self.common.declared = order.declared
        for name, seeds in order.seeds.items():
            hosted = self._agents.get(name)
            if hosted is not None:
                await hosted.set_peers(seeds, order.declared)
        return {}

    async def _drops(self, order: orders.SetDrops) -> dict[str, Any]:
        affected = 0
        for hosted in self._agents.values():
            drops = order.regions.get(hosted.agent.config.region, orders.Drops())
            hosted.set_drops(drops)
            affected += bool(drops.inbound or drops.outbound)
        return {"agents": affected}

    # --- settings and keys ------------------------------------------------------------------------

    async def _settings(self, order: orders.Settings) -> dict[str, Any]:
        before = next(
            (hosted.agent.node.settings for hosted in self._agents.values()),
            _merged(DEFAULTS, self.common.settings),
        )
        return {
            "before": msgspec.to_builtins(before),
            "settings": msgspec.to_builtins(_merged(before, order.changes)),
        }

    async def _defaults(self, order: orders.Defaults) -> dict[str, Any]:
        self.common.settings = order.settings
        return {}

    async def _change(self, order: orders.Change) -> dict[str, Any]:
        hosted = self._agents.get(order.agent)
        if hosted is None:
            return {"applied": False}
        mutations = [
            Mutation("leaf", f"{SETTINGS_KEY}.{name}", value)
            for name, value in order.changes.items()
        ]
        try:
            await hosted.agent.write(mutations, system=True)
        except WriteRefused as refused:
            raise Refused(refused.reason, refused.detail) from None
        return {"applied": True}

    async def _keyring(self, order: orders.Keyring) -> dict[str, Any]:
        self._keys = _decoded(order.keys)
        for hosted in self._agents.values():
            agent = hosted.agent
            try:
                if order.action == "install":
                    agent.install_key(order.key)
                elif order.action == "use":
                    agent.use_key(order.key_id)
                elif order.key_id in list(agent.keys()):
                    agent.remove_key(order.key_id)
            except (KeyringError, OSError) as error:
                raise Refused("keyring", f"agent {agent.config.name}: {error}") from None
        return {"agents": len(self._agents)}

    # --- looking ----------------------------------------------------------------------------------

    async def _stats(self, _: orders.Stats) -> dict[str, Any]:
        return {"agents": [hosted.stats() for hosted in self._agents.values()]}

    async def _hashes(self, _: orders.Hashes) -> dict[str, Any]:
        return {
            "hashes": {
                name: f"{hosted.agent.node.state.state_hash:016x}"
                for name, hosted in self._agents.items()
            }
        }

    async def _cut_report(self, _: orders.CutReport) -> dict[str, Any]:
        return {"agents": [hosted.cut_report() for hosted in self._agents.values()]}

    async def _usage(self, _: orders.Usage) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        lags = [hosted.agent.loop_lag_seconds for hosted in self._agents.values()]
        return {
            "name": self.name,
            "pid": os.getpid(),
            "rss_bytes": resident_bytes(),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
            "agents_running": len(self._agents),
            "loop_lag_ms": round(max(lags, default=0.0) * 1000, 3),
        }

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop every agent without farewell: the whole swarm goes, or comes back soon."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                outcomes = await asyncio.gather(
                    *(hosted.stop(leave=False) for hosted in self._agents.values()),
                    return_exceptions=True,
                )
        except TimeoutError:
            _log.error("not every agent ended within %g s", STOP_SECONDS)
        else:
            for failure in _failures(outcomes):
                _log.error("an agent did not end well", exc_info=failure)
        self._disks.shutdown(wait=False, cancel_futures=True)


def _failures(outcomes: list[Any]) -> Iterator[BaseException]:
    return (outcome for outcome in outcomes if isinstance(outcome, BaseException))


def _merged(settings: Parameters, changes: dict[str, Any]) -> Parameters:
    try:
        return merge(settings, changes)
    except InvalidSetting as error:
        raise Refused("invalid-setting", str(error), status=2) from None


def _decoded(keys: list[str] | None) -> list[bytes] | None:
    return None if keys is None else [base64.b64decode(key) for key in keys]


def resident_bytes() -> int:
    """Memory of this process that is in RAM: now where the system says so, else its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()

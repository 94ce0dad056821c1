"""An edge: a copy of the state, fed by one agent at a time, that serves reads for ever."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import Final, Self

import aiohttp

from gossipswarm_agent.core.results import Reading
from gossipswarm_agent.edge import saved
from gossipswarm_agent.edge.config import Credentials, EdgeConfig
from gossipswarm_agent.edge.frames import REPORT_LIMIT
from gossipswarm_agent.edge.metrics import Metrics
from gossipswarm_agent.edge.replica import Replica, Unsound, held_prefixes
from gossipswarm_agent.edge.upstream import Upstream
from gossipswarm_agent.edge.writes import Forwarder
from gossipswarm_agent.project.projector import Projector
from gossipswarm_agent.runtime.watch import Watcher, Watchers, covers

SAVE_SECONDS: Final = 5.0
"""Between two times that the state is saved, at least."""
SAVE_SHARE: Final = 20.0
"""...and this many times as long as the last time took."""
CONNECT_SECONDS: Final = 1.0
ALONE_SECONDS: Final = 3.0
"""How long an edge that has a saved state looks for an agent before it writes files from what it has."""

_log = logging.getLogger(__name__)


class Edge:
    """A running edge. Made by ``start``, given back by ``stop``; belongs to one event loop."""

    def __init__(
        self, config: EdgeConfig, replica: Replica, session: aiohttp.ClientSession
    ) -> None:
        """Use ``start``."""
        self.config = config
        self.replica = replica
        self.started_ms = time.time_ns() // 1_000_000
        """Wall clock in milliseconds when this edge started."""
        self.watchers = Watchers(
            f"{self.started_ms:x}{secrets.token_hex(4)}", replica.change, self._leaves
        )
        credentials = Credentials(config)
        self.upstream = Upstream(config, replica, session, credentials, self._publish, self._report)
        self.writes = Forwarder(self, session, credentials)
        self.metrics = Metrics(self)
        self.projector = Projector(config, self, None)
        self.projector.subscribe(lambda _: self.upstream.note_report())
        self._session = session
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, config: EdgeConfig) -> Self:
        """Take up what was saved, and look for an agent."""
        replica, contact_ms = await _restored(config)
        async with AsyncExitStack() as undo:
            session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0),
                auto_decompress=False,
            )
            undo.push_async_callback(session.close)
            edge = cls(config, replica, session)
            edge.upstream.contact_ms = contact_ms
            edge._tasks.append(asyncio.create_task(edge.upstream.run(), name="upstream"))
            if config.data_dir is not None:
                edge._tasks.append(asyncio.create_task(edge._keep_saving(), name="save"))
            alone_at = time.monotonic() + ALONE_SECONDS
            edge.projector.start(lambda: edge._is_current(alone_at))
            undo.pop_all()
        _log.info(
            "edge started",
            extra={
                "edge": config.name,
                "region": config.region,
                "leaves": replica.state.leaf_count,
            },
        )
        return edge

    async def stop(self) -> None:
        """Save the state, and end everything."""
        await self.projector.close()
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("a part of the edge failed", exc_info=ended)
        await self.watchers.close()
        await self._session.close()
        if self.config.data_dir is not None and self.replica.complete:
            await self._save()
        _log.info("edge stopped", extra={"edge": self.config.name})

    # --- state ------------------------------------------------------------------------------------

    def read(self, key: str) -> Reading | None:
        """The visible value of a key; None if there is nothing at or below it."""
        return self.replica.read(key)

    def list_keys(self, prefix: str, limit: int, after: str = "") -> list[str]:
        """Keys of visible leaves at and below a prefix that come after ``after``, in order."""
        return self.replica.list_keys(prefix, limit, after)

    def watch(self, prefix: str, since: str | None) -> Watcher:
        """Changes at or below ``prefix`` from now on (None), or from the change with the id ``since`` on.

        Raises WriteRefused 429 if there are too many watchers.
        """
        return self.watchers.watch(prefix, since)

    def _leaves(self, prefix: str) -> list[str]:
        keys = self.replica.list_keys(prefix, sys.maxsize)
        return [key for key in keys if covers(prefix, key)]

    def _is_current(self, alone_at: float) -> bool:
        # What was saved may be older than the files that were written from it: they must not go back.
        waited = self.upstream.was_level or time.monotonic() >= alone_at
        return self.replica.complete and waited

    def _report(self) -> str | None:
        return self.projector.report(REPORT_LIMIT) if self.config.project else None

    def _publish(self, keys: Collection[str]) -> None:
        self._changed.set()
        self.watchers.publish(tuple(keys))
        self.projector.changed(keys)

    # --- how it is doing --------------------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        """Writes are refused: no agent is reachable, or it is read-only."""
        return self.upstream.current is None or self.replica.degraded

    @property
    def unreadiness(self) -> str | None:
        """Why this edge is not ready, in words; None = it is, with or without an agent."""
        if not self.replica.complete:
            trouble = self.upstream.trouble
            return "it has not yet had the whole state of an agent" + (
                f" ({trouble})" if trouble else ""
            )
        return self.projector.unreadiness

    # --- saving -----------------------------------------------------------------------------------

    async def _keep_saving(self) -> None:
        while True:
            await self._changed.wait()
            if not self.replica.complete:
                await asyncio.sleep(SAVE_SECONDS)
                continue
            self._changed.clear()
            begun = time.monotonic()
            await self._save()
            await asyncio.sleep(max(SAVE_SECONDS, SAVE_SHARE * (time.monotonic() - begun)))

    async def _save(self) -> None:
        config, replica = self.config, self.replica
        assert config.data_dir is not None
        terms, records = replica.save()
        try:
            await asyncio.to_thread(
                saved.save,
                config.data_dir,
                config.swarm,
                replica.prefixes,
                self.upstream.contact_at(),
                terms,
                records,
            )
        except OSError as error:
            _log.error("the state cannot be saved", extra={"error": str(error)})
            self._changed.set()


async def _restored(config: EdgeConfig) -> tuple[Replica, int | None]:
    """What was saved, and when an agent had last been heard then."""
    prefixes = None if config.prefixes is None else held_prefixes(config.prefixes, config.region)
    replica = Replica(prefixes)
    if config.data_dir is None:
        return replica, None
    try:
        found = await asyncio.to_thread(saved.load, config.data_dir, config.swarm, prefixes)
        await asyncio.to_thread(replica.load, found.terms, found.records)
    except saved.NotSaved as missing:
        if not missing.absent:
            _log.warning("starting without a state", extra={"reason": str(missing)})
    except (Unsound, ValueError) as error:
        _log.warning("starting without a state", extra={"reason": str(error)})
    else:
        return replica, found.contact_ms
    return Replica(prefixes), None

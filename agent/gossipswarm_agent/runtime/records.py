"""What the swarm writes about itself into its own memory, for whoever analyses it later.

``coordination/gossip/metrics`` is how the latest traced write converged, ``coordination/gossip/partition-history``
the last hundred partitions. One agent writes them, the *recorder* (the first relay by name of the first region
by name), so that they never conflict; an origin passes its figures to it under a key of its own. The
recorder may change at any time, and if there is none within reach nothing is recorded.

Records have leaves of their own, below ``$swarm.memory``: what somebody keeps under the same name is read in
their place, and neither can overwrite the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.runtime.partitions import HISTORY_KEPT, Partition

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent


METRICS_KEY: Final = "$swarm.memory.coordination/gossip/metrics"
HISTORY_KEY: Final = "$swarm.memory.coordination/gossip/partition-history"
REPORTS_KEY: Final = "$swarm.convergence"
"""Below it, one leaf an origin: its latest traced write."""
GATHER_SECONDS: Final = 1.0
"""Before the first record, so that it does not compete with the writes that it is about."""
QUIET_SECONDS: Final = 5.0
"""Between two records of one kind by one agent; only the latest of what comes meanwhile is kept."""
TURN_SECONDS: Final = 0.1
"""For each agent, of the time over which origins that wait to report take their turns."""
CALM_RATE: Final = 2.0
"""Writes a second below which nobody needs to take turns."""
LOOK_SECONDS: Final = 1.0
"""For how long an agent relies on being the recorder, or not."""

_log = logging.getLogger(__name__)


def timestamp(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Recorder:
    """One agent's part in the swarm's records."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._loop = asyncio.get_running_loop()
        self._is_recorder = False
        self._look_at = 0.0
        self._due: dict[str, Any] = {}
        """Key to the value that waits to be written there."""
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._closed = False
        agent.subscribe(self._heard)

    # --- convergence ------------------------------------------------------------------------------

    def _heard(self, notice: Notify) -> None:
        if notice.event != "convergence-reached":
            return
        origin, _, sequence = notice.detail["dot"].rpartition(":")
        report = self._agent.node.receipts.report((origin, int(sequence)))
        if report is None or report.duration_ms is None:
            return
        reached = next((r.round for r in report.rounds if r.share >= report.threshold), 0)
        figures = {
            "convergence_rounds": reached,
            "convergence_time_ms": round(report.duration_ms, 3),
            "agents_count": report.agents,
            "fanout": self._agent.node.settings.fanout,
            "timestamp": timestamp(report.started_ms),
            "recorded_by": self._agent.config.name,
        }
        if self._recording():
            self._write(METRICS_KEY, figures)
        else:
            self._write(f"{REPORTS_KEY}.{paths.escape(self._agent.config.name)}", figures)

    def changed(self, keys: tuple[str, ...]) -> None:
        """Leaves changed: the recorder looks for what origins report."""
        if self._loop.time() >= self._look_at:
            self._look()
        if not self._is_recorder:
            return
        for key in keys:
            if key.startswith(REPORTS_KEY):
                self._take_report(key)

    def _take_report(self, key: str) -> None:
        report = self._agent.read(key)
        held = self._agent.read(METRICS_KEY)
        if report is None or not isinstance(report.value, dict):
            return
        newest = held.value.get("timestamp", "") if held and isinstance(held.value, dict) else ""
        if report.value.get("timestamp", "") > newest:
            self._write(METRICS_KEY, report.value)

    # --- partitions -------------------------------------------------------------------------------

    def healed(self, partition: Partition) -> None:
        """A partition is over and made up for."""
        if not self._recording() or partition.end_ms is None:
            return
        held = self._agent.read(HISTORY_KEY)
        entries = list(held.value) if held is not None and isinstance(held.value, list) else []
        entries.append(
            {
                "partition_start": timestamp(partition.start_ms),
                "partition_end": timestamp(partition.end_ms),
                "affected_regions": partition.regions,
                "conflicts_resolved": partition.conflicts,
                "healing_time_ms": partition.healing_ms,
                "recorded_by": self._agent.config.name,
            }
        )
        self._write(HISTORY_KEY, entries[-HISTORY_KEPT:])

    # --- who records, and when --------------------------------------------------------------------

    def _recording(self) -> bool:
        self._look()
        return self._is_recorder

    def _look(self) -> None:
        self._look_at = self._loop.time() + LOOK_SECONDS
        node = self._agent.node
        regions = node.membership.regions()
        first = min(regions, default=None)
        relays = node.regions.relays(first) if first is not None else ()
        chosen = min((relay.name for relay in relays), default=None)
        self._is_recorder = chosen == self._agent.config.name

    def _write(self, key: str, value: Any) -> None:
        if self._closed:
            return
        self._due[key] = value
        if key not in self._writers:
            self._writers[key] = asyncio.create_task(self._write_due(key), name=f"record {key}")

    async def _write_due(self, key: str) -> None:
        try:
            await asyncio.sleep(GATHER_SECONDS)
            while key in self._due:
                if key.startswith(REPORTS_KEY) and not await self._has_turn(key):
                    self._due.pop(key)
                    break
                mutation = Mutation("leaf", key, self._due.pop(key))
                try:
                    await self._agent.write([mutation], system=True)
                except WriteRefused as refused:
                    _log.debug("cannot record", extra={"key": key, "reason": refused.reason})
                await asyncio.sleep(QUIET_SECONDS)
        finally:
            self._writers.pop(key, None)

    async def _has_turn(self, key: str) -> bool:
        """Wait until the record may be renewed; False if somebody's newer figures are in it by then.

        Where many write, their agents wake one after the other, and the first spares the others their turn:
        any number of origins costs the swarm hardly more writes than one does.
        """
        node = self._agent.node
        waited = False
        while True:
            held = self._agent.read(METRICS_KEY)
            if held is not None and held.value["timestamp"] >= self._due[key]["timestamp"]:
                return False
            age = time.time() - held.updated_ms / 1000 if held is not None else QUIET_SECONDS
            # A record from the future says nothing of its age.
            rest = max(0.0, QUIET_SECONDS - age) if age >= 0 else 0.0
            if not rest and (waited or node.relay.rate() < CALM_RATE):
                return True
            waited = True
            turns = TURN_SECONDS * node.membership.size
            await asyncio.sleep(rest + random.uniform(0, turns))

    async def close(self) -> None:
        """Record nothing any more."""
        self._closed = True
        tasks = list(self._writers.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

"""The partitions in force: set, lifted, run out, and reported on.

The spec keeps them, so that they outlive the supervisor; the workers' agents enforce them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import msgspec

from gossipctl.local import cuts, requests
from gossipctl.local.agents import Emit
from gossipctl.local.cuts import Cut
from gossipctl.local.errors import LocalError, storage_error
from gossipctl.local.fleet import Fleet
from gossipctl.local.spec import SpecFile, timestamp
from gossipctl.noticing import summary

SHORTEST_WAIT: Final = 0.001

_log = logging.getLogger(__name__)


class Partitions:
    """Cuts of one swarm. ``run`` lifts those whose time is over."""

    def __init__(self, book: SpecFile, fleet: Fleet) -> None:
        self._book = book
        self._fleet = fleet
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    def discard_expired(self) -> None:
        """Forget cuts that ran out while no supervisor lived; before any agent starts."""
        spec = self._book.spec
        spec.cuts = [cut for cut in spec.cuts if not _is_over(cut)]

    async def run(self) -> None:
        """Lift each cut when its time has come, for ever."""
        while True:
            ends = [cut.until_ms for cut in self._book.spec.cuts if cut.until_ms is not None]
            wait = max((min(ends) - _now_ms()) / 1000, SHORTEST_WAIT) if ends else None
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                await self._lift_expired()

    async def _lift_expired(self) -> None:
        async with self._lock:
            over = [cut for cut in self._book.spec.cuts if _is_over(cut)]
            if over:
                _log.info("partition over: %s", "; ".join(map(cuts.describe, over)))
                try:
                    await self._replace([cut for cut in self._book.spec.cuts if cut not in over])
                except (LocalError, OSError) as error:
                    # The agents know the expiry themselves; a restart finds the cut expired.
                    _log.error("expired partition: %s", error)

    async def cut(self, request: requests.Partition, _: Emit) -> dict[str, Any]:
        """Put a partition in force; returns once every live agent enforces it."""
        spec = self._book.spec
        kind, groups = cuts.parse(msgspec.to_builtins(request), spec.regions)
        async with self._lock:
            began = _now_ms()
            until = began + request.duration_ms if request.duration_ms is not None else None
            taken = [int(cut.id.rpartition("-")[2]) for cut in spec.cuts]
            new = Cut(f"partition-{max(taken, default=0) + 1}", kind, groups, began, until)
            cuts.check_disjoint(new, spec.cuts, spec.regions)
            try:
                agents = await self._replace([*spec.cuts, new])
            except OSError as error:
                spec.cuts = [cut for cut in spec.cuts if cut is not new]
                raise storage_error("record the partition", error) from None
            _log.info("partition in force: %s", cuts.describe(new))
            return {
                **self._describe(new),
                "duration_ms": request.duration_ms,
                "agents": agents,
                "enforced_ms": _now_ms() - began,
            }

    async def heal(self, _request: requests.Heal, _: Emit) -> dict[str, Any]:
        """Lift every cut."""
        async with self._lock:
            healed = self._book.spec.cuts
            try:
                agents = await self._replace([])
            except OSError as error:
                # The network is healed all the same; only a restart would bring the cut back.
                raise storage_error("record that the partition is healed", error) from None
            if healed:
                _log.info("partition healed: %s", "; ".join(map(cuts.describe, healed)))
            return {"healed": [cut.id for cut in healed], "agents": agents}

    async def regions_changed(self) -> None:
        """A region came or went: it may be on a side of a cut in force."""
        async with self._lock:
            if self._book.spec.cuts:
                await self._replace(self._book.spec.cuts)

    async def _replace(self, active: list[Cut]) -> int:
        """Make ``active`` the cuts in force; how many agents enforce them now."""
        spec = self._book.spec
        spec.cuts = active
        self._changed.set()
        saving = asyncio.create_task(self._book.save(), name="save the cuts")
        try:
            answers = await self._fleet.everywhere(
                "drops", regions=cuts.drops_of(active, spec.regions)
            )
        finally:
            await saving
        return sum(answer["agents"] for answer in answers)

    def _describe(self, cut: Cut) -> dict[str, Any]:
        return {
            "id": cut.id,
            "kind": cut.kind,
            "groups": [list(side) for side in cut.sides(self._book.spec.regions)],
            "started_at": timestamp(cut.started_ms),
            "expires_at": timestamp(cut.until_ms) if cut.until_ms is not None else None,
        }

    def active(self) -> list[dict[str, Any]]:
        """The cuts in force, with the milliseconds that remain of each (None = until healed)."""
        return [
            {
                **self._describe(cut),
                "remaining_ms": None if cut.until_ms is None else max(cut.until_ms - _now_ms(), 0),
            }
            for cut in self._book.spec.cuts
        ]

    async def status(self, _request: requests.PartitionStatus, _: Emit) -> dict[str, Any]:
        """What is in force, what enforces it, and who has noticed."""
        spec = self._book.spec
        answers = await self._fleet.everywhere("cut-report")
        agents = [agent for answer in answers for agent in answer["agents"]]
        drops = cuts.drops_of(spec.cuts, spec.regions)
        affected = [
            agent
            for agent in agents
            if drops[agent["region"]].inbound or drops[agent["region"]].outbound
        ]
        enforcing = [
            agent
            for agent in affected
            if tuple(agent["inbound"]) == drops[agent["region"]].inbound
            and tuple(agent["outbound"]) == drops[agent["region"]].outbound
        ]
        # Of those that ought to run: one that is being restarted enforces nothing yet.
        ought = [
            record
            for record in spec.agents.values()
            if record.wanted == "running"
            and (drops[record.region].inbound or drops[record.region].outbound)
        ]
        groups = cuts.components(spec.cuts, spec.regions)
        return {
            "status": "partitioned" if spec.cuts else "healthy",
            "cuts": self.active(),
            "groups": groups,
            "enforced": {"agents": len(enforcing), "of": len(ought)},
            "detection": summary(affected, groups, "detected_ms"),
            "healing": summary(agents, groups, "healed_ms"),
            "agents": agents,
        }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _is_over(cut: Cut) -> bool:
    return cut.until_ms is not None and cut.until_ms <= _now_ms()

"""``swarm apply``: make a running swarm match a manifest. Doing it again does nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from gossipctl.local import requests
from gossipctl.local.agents import AgentOperations, Emit
from gossipctl.local.errors import USAGE, LocalError, storage_error
from gossipctl.local.manifest import Desired, parse
from gossipctl.local.partitions import Partitions
from gossipctl.local.placement import choose_surplus, fresh_names
from gossipctl.local.settings import SettingsOperations
from gossipctl.local.spec import SpecFile


class Reconciler:
    """Scales regions and patches settings of one swarm."""

    def __init__(
        self,
        book: SpecFile,
        agents: AgentOperations,
        partitions: Partitions,
        settings: SettingsOperations,
    ) -> None:
        self._book = book
        self._agents = agents
        self._partitions = partitions
        self._settings = settings
        self._lock = asyncio.Lock()

    async def apply(self, request: requests.Apply, emit: Emit) -> dict[str, Any]:
        """Check everything, then change what differs."""
        async with self._lock:
            desired = parse(request.manifest)
            self._check(desired)
            changes: list[str] = []

            def note(change: str) -> None:
                changes.append(change)
                emit({"change": change})

            await self._apply_settings(desired, note)
            await self._add_regions(desired, note)
            await self._scale(desired, note)
            await self._remove_regions(desired, note)
            try:
                await self._book.save()
            except OSError as error:
                raise storage_error("record the changes", error) from None
            return {"swarm": desired.name, "changes": changes, "ignored": list(desired.ignored)}

    def _check(self, desired: Desired) -> None:
        spec = self._book.spec
        if desired.name != spec.name:
            raise LocalError(
                "invalid-manifest",
                f"the manifest is of swarm {desired.name}, this is {spec.name}",
                exit=USAGE,
            )
        if desired.encryption is not None and desired.encryption != spec.encryption:
            state = "on" if spec.encryption else "off"
            raise LocalError(
                "encryption-fixed",
                f"encryption of {spec.name} is {state} and cannot change while it has data in flight",
                "delete the swarm and apply again",
                USAGE,
            )
        maximum = desired.max_agents or spec.max_agents
        if sum(desired.regions.values()) > maximum:
            raise LocalError(
                "max-agents",
                f"the regions have {sum(desired.regions.values())} replicas, but {spec.name} admits "
                f"{maximum} agents",
                "raise spec.maxAgents",
                USAGE,
            )

    async def _apply_settings(self, desired: Desired, note: Any) -> None:
        changes = dict(desired.settings)
        if desired.max_agents is not None:
            changes["max_agents"] = desired.max_agents
        for name in await self._settings.apply(changes):
            note(f"set {name} to {changes[name]}")

    async def _add_regions(self, desired: Desired, note: Any) -> None:
        new = [region for region in desired.regions if region not in self._book.spec.regions]
        for region in new:
            self._book.spec.regions.append(region)
            note(f"added region {region}")
        if new:
            await self._partitions.regions_changed()

    async def _scale(self, desired: Desired, note: Any) -> None:
        spec = self._book.spec
        surplus = []
        for region, replicas in desired.regions.items():
            surplus += choose_surplus(spec.agents.values(), region, replicas)
        surplus += [
            record for record in spec.agents.values() if record.region not in desired.regions
        ]
        if surplus:
            # First: it makes room under max_agents for what grows elsewhere.
            await self._agents.take_down(surplus, lambda _: None, remove=True)
            for region in dict.fromkeys(record.region for record in surplus):
                count = sum(record.region == region for record in surplus)
                note(f"removed {count} agents from {region}")
        born = []
        for region, replicas in desired.regions.items():
            missing = replicas - sum(record.region == region for record in spec.agents.values())
            if missing > 0:
                names = fresh_names(f"{spec.name}-{region}", spec.agents, missing, first=0)
                born += self._agents.declare(names, region, requests.Spawn())
                note(f"added {missing} agents to {region}")
        stopped = [record for record in spec.agents.values() if record.wanted == "stopped"]
        for record in stopped:
            record.wanted = "running"
            note(f"started {record.name}")
        await self._agents.bring_up([*born, *stopped], lambda _: None)

    async def _remove_regions(self, desired: Desired, note: Any) -> None:
        spec = self._book.spec
        gone = [region for region in spec.regions if region not in desired.regions]
        for region in gone:
            spec.regions.remove(region)
            note(f"removed region {region}")
        if gone:
            spec.cuts = [
                cut for cut in spec.cuts if not any(set(gone) & set(group) for group in cut.groups)
            ]
            await self._partitions.regions_changed()

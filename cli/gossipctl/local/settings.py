"""Operations on what holds for the whole swarm: gossip settings and keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import random
from collections.abc import Mapping
from typing import Any

from gossipctl.local import requests
from gossipctl.local.agents import Emit
from gossipctl.local.credentials import Secrets, new_key
from gossipctl.local.errors import USAGE, LocalError, storage_error
from gossipctl.local.fleet import Fleet
from gossipctl.local.layout import Layout
from gossipctl.local.population import Population
from gossipctl.local.spec import SpecFile

_log = logging.getLogger(__name__)


class SettingsOperations:
    """Reads and changes settings and the keyring. One change at a time."""

    def __init__(
        self,
        layout: Layout,
        book: SpecFile,
        secrets: Secrets,
        fleet: Fleet,
        population: Population,
    ) -> None:
        self._layout = layout
        self._book = book
        self._secrets = secrets
        self._fleet = fleet
        self._population = population
        self._lock = asyncio.Lock()

    async def config(self, request: requests.Config, _: Emit) -> dict[str, Any]:
        """Change settings, if any are given, and say what holds."""
        changed = await self.apply(request.changes)
        answer = await self._fleet.anywhere("settings", changes={})
        return {"settings": answer["settings"], "changed": changed}

    async def apply(self, changes: Mapping[str, Any]) -> list[str]:
        """Make these settings hold; the names of those that did not before.

        All or none: LocalError (exit 2) if one is unknown or out of range.
        """
        if not changes:
            return []
        async with self._lock:
            spec = self._book.spec
            wanted = {name.replace("-", "_"): value for name, value in changes.items()}
            limit = wanted.get("max_agents")
            if isinstance(limit, int) and limit < len(spec.agents):
                raise LocalError(
                    "max-agents",
                    f"max_agents cannot be {limit}: the swarm has {len(spec.agents)} agents",
                    "remove some first with: gossipctl agent stop NAME --remove",
                    USAGE,
                )
            answer = await self._fleet.anywhere("settings", changes=wanted)
            before, after = answer["before"], answer["settings"]
            changed = [name for name in wanted if before[name] != after[name]]
            values = {name: after[name] for name in wanted}
            if changed:
                await self._pass_on({name: after[name] for name in changed})
            spec.settings.update(values)
            spec.max_agents = spec.settings.pop("max_agents", spec.max_agents)
            await self._fleet.everywhere("defaults", settings=self._fleet.settings())
            try:
                await self._book.save()
            except OSError as error:
                raise storage_error("record the settings", error) from None
            return changed

    async def _pass_on(self, changes: Mapping[str, Any]) -> None:
        """Write the settings into the swarm's own state at one agent; gossip brings them to all."""
        up = self._population.running()
        for record in random.sample(up, min(len(up), 3)):
            answers = await self._fleet.everywhere("change", agent=record.name, changes=changes)
            if any(answer["applied"] for answer in answers):
                return
        if up:
            raise LocalError("config-failed", "no agent took the new settings", "try again")

    # --- keys -------------------------------------------------------------------------------------

    async def keyring(self, request: requests.Keyring, _: Emit) -> dict[str, Any]:
        """List the keys, or replace the one in use without interrupting gossip."""
        if not self._secrets.keys:
            raise LocalError(
                "encryption-off", f"swarm {self._book.spec.name} is not encrypted", exit=USAGE
            )
        async with self._lock:
            if request.action == "rotate":
                await self._rotate()
            return {
                "keys": [key_id(key) for key in self._secrets.keys],
                "agents": len(self._population.running()),
            }

    async def _rotate(self) -> None:
        """Install, use, remove: each step everywhere before the next.

        After a crash in between, agents hold both keys and new ones get both: rotate again.
        """
        absent = [
            record.name
            for record in self._book.spec.agents.values()
            if record not in self._population.running()
        ]
        if absent:
            raise LocalError(
                "agents-down",
                f"{len(absent)} agents are down and would be locked out: {', '.join(absent[:5])}",
                "start them, or remove them, and rotate again",
            )
        new, *old = new_key(), *self._secrets.keys
        await self._keys([*old, new], "install", key=new)
        await self._keys([new, *old], "use", key_id=key_id(new))
        for key in old:
            await self._keys([new], "remove", key_id=key_id(key))
        _log.info("now sealing with key %s", key_id(new))

    async def _keys(self, keys: list[str], action: str, **arguments: str) -> None:
        before, self._secrets.keys = self._secrets.keys, keys
        try:
            # On disk first: an agent that restarts in between must know every key in use.
            self._secrets.save(self._layout, self._book.spec.uid)
        except OSError as error:
            self._secrets.keys = before
            raise storage_error("record the keys", error) from None
        await self._fleet.everywhere("keyring", action=action, keys=keys, **arguments)


def key_id(key: str) -> str:
    """Public name of a key, as agents report it."""
    return hashlib.sha256(base64.b64decode(key)).hexdigest()[:8]

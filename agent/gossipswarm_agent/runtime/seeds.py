"""Where to find the swarm: names are resolved for ever, so halves that forgot each other meet again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.runtime.config import Seed
from gossipswarm_agent.runtime.lookups import LookupFailed, Lookups, is_numeric

RESOLVE_SECONDS: Final = 5.0
"""Between two resolutions of the same names, on average."""
ADDRESSES_LIMIT: Final = 64
"""Addresses taken from all names together; a headless service of a large swarm has hundreds."""

_log = logging.getLogger(__name__)


class SeedResolver:
    """Keeps ``found`` told of the seeds' addresses. Runs a task only if there are names to resolve."""

    def __init__(
        self,
        seeds: Sequence[Seed],
        found: Callable[[tuple[Address, ...]], None],
        rng: random.Random,
        *,
        lookups: Lookups | None = None,
        former: SeedResolver | None = None,
    ) -> None:
        """``former``: what this one takes the place of; what it knew of seeds that stay is not forgotten."""
        self.regions: dict[Address, str] = {}
        """Region of each address whose seed comes with one."""
        self.failures = 0
        """Attempts to resolve a name that failed."""
        self._seeds = list(dict.fromkeys(seeds))
        self._found = found
        self._rng = rng
        self._lookups = lookups or Lookups(rng)
        self._known: dict[Seed, list[Address]] = {}
        """What each seed stood for when it was last resolved."""
        self._failing: set[Seed] = set()
        if former is not None:
            self.failures = former.failures
            self._lookups = former._lookups
            self._known = {
                seed: former._known[seed] for seed in self._seeds if seed in former._known
            }
            self._failing = former._failing.intersection(self._seeds)
        self._told: Mapping[Address, str | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tell the addresses known at once, and go on looking for the others."""
        names = []
        for seed in self._seeds:
            if is_numeric(seed.host):
                self._known[seed] = [(seed.host, seed.port)]
            else:
                names.append(seed)
        self._tell()
        if names:
            self._task = asyncio.create_task(self._keep_resolving(names), name="seeds")

    async def _keep_resolving(self, names: Sequence[Seed]) -> None:
        while True:
            # At a time: a name server that is silent about one of them does not hold up the others.
            async with asyncio.TaskGroup() as group:
                for seed in names:
                    group.create_task(self._resolve(seed), name=f"seed {seed.host}")
            await asyncio.sleep(RESOLVE_SECONDS * self._rng.uniform(0.5, 1.5))

    async def _resolve(self, seed: Seed) -> None:
        try:
            self._known[seed] = await self._lookups.addresses(seed)
        except LookupFailed as failed:
            # It keeps what it stood for: an outage of DNS is not one of ours.
            self.failures += 1
            if seed not in self._failing:
                self._failing.add(seed)
                _log.warning(
                    "cannot resolve a seed; going on trying",
                    extra={"seed": seed.host, "error": str(failed)},
                )
        else:
            if seed in self._failing:
                self._failing.discard(seed)
                _log.info("a seed resolves again", extra={"seed": seed.host})
            self._tell()

    def _tell(self) -> None:
        resolved = {
            address: seed.region for seed in self._seeds for address in self._known.get(seed, ())
        }
        if resolved == self._told:
            return
        self._told = resolved
        self.regions = {
            address: region for address, region in resolved.items() if region is not None
        }
        addresses = tuple(resolved)
        if len(addresses) > ADDRESSES_LIMIT:
            addresses = tuple(self._rng.sample(addresses, ADDRESSES_LIMIT))
        self._found(addresses)

    async def close(self) -> None:
        """Look no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

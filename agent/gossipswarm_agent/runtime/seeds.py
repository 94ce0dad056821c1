"""Where to find the swarm: host names are resolved for ever, so halves that forgot each other meet again."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.runtime.config import Seed

RESOLVE_SECONDS: Final = 5.0
"""Between two resolutions of the same names, on average."""
LOOKUP_SECONDS: Final = 4.0
ADDRESSES_LIMIT: Final = 64
"""Addresses taken from all names together; a headless service of a large swarm has hundreds."""

_log = logging.getLogger(__name__)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class SeedResolver:
    """Keeps ``found`` told of the seeds' addresses. Runs a task only if there are names to resolve."""

    def __init__(
        self,
        seeds: Sequence[Seed],
        found: Callable[[tuple[Address, ...]], None],
        rng: random.Random,
    ) -> None:
        self.regions: dict[Address, str] = {}
        """Region of each seed that comes with one."""
        self.failures = 0
        """Names that could not be resolved, over all attempts."""
        self._seeds = seeds
        self._found = found
        self._rng = rng
        self._last: tuple[Address, ...] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tell the addresses known at once, and go on looking for the others."""
        self._tell({(seed.host, seed.port): seed for seed in self._seeds if _is_numeric(seed.host)})
        if any(not _is_numeric(seed.host) for seed in self._seeds):
            self._task = asyncio.create_task(self._keep_resolving(), name="seeds")

    async def _keep_resolving(self) -> None:
        while True:
            resolved: dict[Address, Seed] = {}
            for seed in self._seeds:
                for host in await self._resolve(seed.host):
                    resolved[host, seed.port] = seed
            self._tell(resolved)
            await asyncio.sleep(RESOLVE_SECONDS * self._rng.uniform(0.5, 1.5))

    async def _resolve(self, host: str) -> list[str]:
        if _is_numeric(host):
            return [host]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except OSError as error:  # TimeoutError is one
            self.failures += 1
            if self.failures == 1:
                _log.warning("cannot resolve a seed", extra={"seed": host, "error": str(error)})
            return []
        return sorted({str(answer[4][0]) for answer in answers})

    def _tell(self, resolved: dict[Address, Seed]) -> None:
        # A name that does not resolve now keeps what it stood for: an outage of DNS is not one of ours.
        if not resolved and self._last:
            return
        addresses = tuple(resolved)
        if len(addresses) > ADDRESSES_LIMIT:
            addresses = tuple(self._rng.sample(addresses, ADDRESSES_LIMIT))
        self.regions.update(
            {address: seed.region for address, seed in resolved.items() if seed.region is not None}
        )
        if addresses != self._last:
            self._last = addresses
            self._found(addresses)

    async def close(self) -> None:
        """Look no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

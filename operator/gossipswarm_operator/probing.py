"""Whether the network keeps others from an agent's gossip port: by trying, from the operator, which is not of the swarm.

One agent at a time is tried: every few minutes another one, and the same one at each look while its port is open. A change of
any NetworkPolicy of the namespace asks for a try at once, and for another some seconds later, because a network takes its time
to apply one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from gossipswarm_operator.names import GOSSIP_PORT
from gossipswarm_operator.observed import Pod

KNOCK_SECONDS: Final = 1.0
PERIOD_SECONDS: Final = 300.0
"""Between two tries, give or take a fifth."""
APPLIED_SECONDS: Final = 10.0
"""Within which a network is expected to have applied a policy."""

Knock = Callable[[str, int], Awaitable[bool]]
"""Whether somebody at this host and port lets us in."""


class _Tried(msgspec.Struct, frozen=True):
    pod: str
    """Uid."""
    open: bool
    policies: str
    due: float
    """When to try again."""


class PolicyProbe:
    """Tries the agents of one swarm. ``clock`` gives seconds and never goes back."""

    def __init__(self, knock: Knock, clock: Callable[[], float]) -> None:
        self._knock = knock
        self._clock = clock
        self._tried: _Tried | None = None

    async def gossip_port_open(self, pods: Sequence[Pod], policies: str) -> bool | None:
        """What is known, tried anew where that is due; None while there is no agent to try.

        ``pods`` are those whose agents answer. ``policies`` identifies the namespace's NetworkPolicies as they are now.
        """
        last = self._tried
        able = sorted((pod for pod in pods if pod.ready and pod.address), key=lambda pod: pod.uid)
        there = last is not None and any(pod.uid == last.pod for pod in pods)
        if last is not None and there and not self._is_due(last, policies):
            return last.open
        if not able:
            return last.open if last is not None and there else None
        pod = _next(able, last)
        assert pod.address is not None
        is_open = await self._knock(pod.address, GOSSIP_PORT)
        changed = last is None or last.policies != policies
        wait = APPLIED_SECONDS if changed else PERIOD_SECONDS * random.uniform(0.8, 1.2)
        self._tried = _Tried(pod.uid, is_open, policies, self._clock() + wait)
        return is_open

    def _is_due(self, last: _Tried, policies: str) -> bool:
        return last.open or last.policies != policies or self._clock() >= last.due


def _next(able: Sequence[Pod], last: _Tried | None) -> Pod:
    """The pod after the one that was tried last, by uid; that one again while it is open."""
    if last is None:
        return able[0]
    if last.open:
        return next((pod for pod in able if pod.uid == last.pod), able[0])
    return next((pod for pod in able if pod.uid > last.pod), able[0])


async def knock(host: str, port: int) -> bool:
    """Whether a TCP connection comes about within a second."""
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True

"""Clocks that run ahead: writes from the future are held, and who makes them is told.

One slow clock sees everybody run ahead, so an agent believes it of itself only when half of the live
members say so. It then stamps from what it has observed (a logical clock) until it was left in peace for
a while.
"""

from __future__ import annotations

from typing import Final

from gossipswarm_agent.core.clock import HybridClock
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import ClockSkew
from gossipswarm_agent.core.versions import agent_of

TELL_INTERVAL: Final = 1.0
BELIEVE_FOR: Final = 10.0
"""Seconds for which an accusation counts."""
DISTRUST_FOR: Final = 60.0


class SkewJudge:
    """Accuses, and weighs accusations."""

    def __init__(self, ctx: Context, membership: Membership, clock: HybridClock) -> None:
        self._ctx = ctx
        self._membership = membership
        self._clock = clock
        self._told: dict[str, float] = {}
        self._accusers: dict[str, float] = {}
        self._trust_again = float("inf")
        self.ahead_ms = 0
        """By how much others say this clock is ahead; 0 = nobody does."""

    def tell(self, skewed: dict[str, int]) -> None:
        """These origins stamped this many milliseconds ahead of our clock."""
        now = self._ctx.now.mono
        for origin, ahead in skewed.items():
            agent = agent_of(origin)
            member = self._membership.members.get(agent)
            if member is None or self._told.get(agent, float("-inf")) + TELL_INTERVAL > now:
                continue
            self._told[agent] = now
            self._ctx.count("clock_skew_held")
            self._ctx.send([member.address], ClockSkew(self._ctx.name, ahead))

    def accused(self, message: ClockSkew) -> None:
        """Somebody says that our clock is ahead."""
        now = self._ctx.now.mono
        self._accusers[message.sender] = now
        recent = [at for at in self._accusers.values() if now - at <= BELIEVE_FOR]
        others = len(self._membership.live())
        if 2 * len(recent) <= others or not recent:
            return
        self._trust_again = now + DISTRUST_FOR
        self.ahead_ms = message.ahead
        if self._clock.trusts_wall:
            self._clock.trusts_wall = False
            self._ctx.effects.append(
                Notify("clock-skew", {"ahead_ms": message.ahead, "accusers": len(recent)})
            )

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return self._trust_again

    def tick(self) -> None:
        """Trust the wall clock again once nobody has complained for a while."""
        if self._ctx.now.mono >= self._trust_again:
            self._trust_again = float("inf")
            self._accusers.clear()
            self._clock.trusts_wall = True
            self.ahead_ms = 0

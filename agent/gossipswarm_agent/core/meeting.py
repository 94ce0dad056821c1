"""What happens when regions that were cut off from each other meet again.

Their relays exchange what was written meanwhile, at once; or, with ``healing_strategy: manual``, the regions
are kept apart until an operator releases them.
"""

from __future__ import annotations

from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.repair import Repair
from gossipswarm_agent.core.spread import Spread

AGAIN: Final = 0.15
"""Seconds after which relays exchange once more: until everybody at home knows that the link is up, some
hand nothing across."""


class Meetings:
    """Regions that came back, and those that wait for an operator."""

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        regions: Regions,
        spread: Spread,
        repair: Repair,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._regions = regions
        self._spread = spread
        self._repair = repair
        self._again: dict[str, float] = {}
        self._kept_apart: frozenset[str] = frozenset()

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return min(self._again.values()) if self._again else float("inf")

    @property
    def waiting(self) -> frozenset[str]:
        """Regions within reach that are kept apart until ``release``."""
        return frozenset(r for r in self._kept_apart if self._regions.reachable(r))

    def closed(self, name: str) -> bool:
        """Whether nothing is taken from this agent because its region is kept apart."""
        if not self._kept_apart:
            return False
        member = self._membership.members.get(name)
        return member is not None and member.region in self._kept_apart

    def watch(self) -> None:
        """Follow the links: who came back, and who is cut off now."""
        for region in self._regions.take_reconnected():
            self._meet(region)
        if self._ctx.settings.healing_strategy != "manual":
            if self._kept_apart:
                self.release()
            return
        cut_off = [
            region
            for group in self._regions.groups()
            if self._ctx.region not in group
            for region in group
        ]
        if not self._kept_apart.issuperset(cut_off):
            self._keep_apart(self._kept_apart.union(cut_off))

    def release(self) -> list[str]:
        """Let the regions merge that are within reach and were kept apart; their names."""
        released = sorted(self.waiting)
        self._keep_apart(self._kept_apart.difference(released))
        for region in released:
            self._meet(region)
        return released

    def tick(self) -> None:
        """Exchange once more where that is due."""
        now = self._ctx.now.mono
        for region in [region for region, due in self._again.items() if due <= now]:
            del self._again[region]
            self._exchange(region)

    def _keep_apart(self, regions: frozenset[str]) -> None:
        self._kept_apart = regions
        self._spread.closed_regions = regions

    def _meet(self, region: str) -> None:
        if region not in self._kept_apart and self._regions.is_relay:
            self._exchange(region)
            self._again[region] = self._ctx.now.mono + AGAIN

    def _exchange(self, region: str) -> None:
        for relay in self._regions.relays(region):
            self._repair.exchange(relay.address)

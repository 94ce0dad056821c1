"""The textbook mode (``eager: false``): news waits for the next round and goes to random peers.

Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987), rumor mongering with a
fixed number of rounds. Rounds are aligned to the wall clock, so agents with sane clocks step together and
a write's spread can be read as the table that the literature prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.frames import Address, Frame
from gossipswarm_agent.core.membership import Member, Membership
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.spread import DIRECT

HOT_LIMIT: Final = 2048
"""Rumors told at the same time; repair carries what does not fit."""
EXTRA_ROUNDS: Final = 3


class _Rumor:
    __slots__ = ("frame", "heard_in", "hop", "left")

    def __init__(self, frame: Frame, hop: int, heard_in: int, left: int) -> None:
        self.frame = frame
        self.hop = hop
        self.heard_in = heard_in
        self.left = left


class Peers:
    """Random choice of whom to talk to: ``region_affinity`` of the choices stay in the own region."""

    def __init__(self, ctx: Context, membership: Membership, regions: Regions) -> None:
        self._ctx = ctx
        self._membership = membership
        self._regions = regions
        self._version = (-1, -1)
        self._home: Sequence[Member] = ()
        self._away: Sequence[Member] = ()

    def choose(self, count: int) -> list[Member]:
        """Up to ``count`` different reachable live members."""
        self._refresh()
        home, away, rng = self._home, self._away, self._ctx.rng
        if len(home) + len(away) <= count:
            return [*home, *away]
        affinity = self._ctx.settings.region_affinity
        at_home = sum(rng.random() < affinity for _ in range(count)) if away else count
        at_home = max(min(at_home, len(home)), count - len(away))
        return rng.sample(home, at_home) + rng.sample(away, count - at_home)

    def _refresh(self) -> None:
        version = (self._membership.version, self._regions.version)
        if version != self._version:
            self._version = version
            live = self._membership.live()
            region = self._ctx.region
            self._home = [member for member in live if member.region == region]
            self._away = [
                member
                for member in live
                if member.region != region and self._regions.linked(region, member.region)
            ]


class Rumors:
    """News of this agent, told to ``fanout`` random peers a round until it is old."""

    def __init__(self, ctx: Context, membership: Membership, peers: Peers) -> None:
        self._ctx = ctx
        self._membership = membership
        self._peers = peers
        self._hot: list[_Rumor] = []
        self._due = float("inf")

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return self._due

    @property
    def hot(self) -> bool:
        """Whether something is still being told."""
        return bool(self._hot)

    def hear(self, frame: Frame, hop: int) -> None:
        """A frame is news here: tell it from the next round on. ``hop`` is what the receivers will see."""
        settings = self._ctx.settings
        if settings.mode == "pull":
            return
        if len(self._hot) >= HOT_LIMIT:
            self._hot.pop(0)
            self._ctx.count("rumors_overflow")
        size = max(self._membership.size, 2)
        rounds = ceil(log(size) / log(settings.fanout + 1)) + EXTRA_ROUNDS
        self._hot.append(_Rumor(frame, hop, self._round(), rounds))
        self._due = min(self._due, self.next_round())

    def _round(self) -> int:
        return self._ctx.now.wall // self._ctx.settings.interval

    def next_round(self) -> float:
        """When the next round begins, on the monotonic clock."""
        interval = self._ctx.settings.interval
        return self._ctx.now.mono + (interval - self._ctx.now.wall % interval) / 1000

    def tick(self) -> None:
        """Tell what was heard before this round began."""
        if self._due > self._ctx.now.mono:
            return
        current = self._round()
        told = [rumor for rumor in self._hot if rumor.heard_in < current]
        if told:
            targets: tuple[Address, ...] = tuple(
                peer.address for peer in self._peers.choose(self._ctx.settings.fanout)
            )
            for rumor in told:
                if targets:
                    self._ctx.effects.append(Send(targets, rumor.frame, rumor.hop, DIRECT))
                rumor.left -= 1
        self._hot = [rumor for rumor in self._hot if rumor.left > 0]
        self._due = self.next_round() if self._hot else float("inf")

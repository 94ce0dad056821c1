"""Eager spread: frames travel down trees on receipt, without waiting for a round.

A frame says which tree it is on in one byte outside the seal:

    0            point to point, not forwarded
    1 to 4       this tree of the sender, through every region
    17 to 20     this tree of the sender, in its region only (a relay's stream)
    64, 65       to a relay, from its region or from another region's relay: merge it into your stream

Hop and tree are hints outside the seal: a forged one can waste a datagram, nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Final

from gossipswarm_agent.core import trees
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.frames import Address, Frame, Inbound
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.regions import Regions

DIRECT: Final = 0
TREES: Final = range(1, 5)
HOME_ONLY: Final = 16
HOME_TREES: Final = range(17, 21)
UPLINK: Final = 64
CROSSLINK: Final = 65

SUSPECT: Final = 1
TREE_LAG: Final = 0.025
"""Seconds by which each further tree follows the one before: it makes up for losses, and would otherwise
compete with the first for the same processors and links."""
LAGGING_LIMIT: Final = 256
"""Frames whose further trees wait; beyond that they go out at once."""
_REMEMBERED: Final = 4096
"""Frames per generation of the duplicate filter; two generations are kept."""


class Spread:
    """Computes targets, forwards frames, and knows which frames went by already."""

    def __init__(self, ctx: Context, membership: Membership, regions: Regions) -> None:
        self._ctx = ctx
        self._membership = membership
        self._regions = regions
        self._targets: dict[tuple[str, int], tuple[Address, ...]] = {}
        self._targets_for: tuple[object, ...] = ()
        self._names: dict[str, list[str]] = {}
        """Of the live members, by region, sorted."""
        self._passed: dict[tuple[bytes, int], int] = {}
        self._passed_before: dict[tuple[bytes, int], int] = {}
        self.closed_regions: frozenset[str] = frozenset()
        """Regions that nothing is handed on to: cut off until an operator releases them."""
        self._lagging: deque[tuple[float, Frame, int, int]] = deque()
        """When to start which frame, at which hop, on which tree."""

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return self._lagging[0][0] if self._lagging else inf

    def tick(self) -> None:
        """Start the further trees that are due."""
        while self._lagging and self._lagging[0][0] <= self._ctx.now.mono:
            _, frame, hop, tree = self._lagging.popleft()
            self._start(frame, hop, tree)
            self._follow(frame, hop, tree + 1)

    # --- sending ----------------------------------------------------------------------------------

    def send(self, frame: Frame, hop: int = 1, home_only: bool = False) -> None:
        """Start a frame of our own on its trees."""
        if home_only:
            self._start(frame, hop, 1 | HOME_ONLY)
            return
        self._start(frame, hop, 1)
        self._follow(frame, hop, 2)

    def _follow(self, frame: Frame, hop: int, tree: int) -> None:
        """Start the frame's next tree a little later, if there is one."""
        if tree > self._ctx.settings.redundancy:
            return
        if len(self._lagging) >= LAGGING_LIMIT:
            self._start(frame, hop, tree)
            self._follow(frame, hop, tree + 1)
        else:
            self._lagging.append((self._ctx.now.mono + TREE_LAG, frame, hop, tree))

    def _start(self, frame: Frame, hop: int, byte: int) -> None:
        targets = self._targets_of(self._ctx.name, byte)
        if targets:
            self._ctx.effects.append(Send(targets, frame, hop, byte))

    def forward(self, inbound: Inbound, sender: str) -> bool:
        """Pass an arrived frame on along its tree. True if this is the first time we see it at all."""
        key = (inbound.session, inbound.counter)
        known = self._passed.get(key)
        if known is None:
            known = self._passed_before.get(key, 0)
        tree = inbound.tree
        bit = 1 << (tree & 7) if tree in TREES or tree in HOME_TREES else 1
        if known & bit:
            return False
        self._passed[key] = known | bit
        if len(self._passed) >= _REMEMBERED:
            self._passed_before, self._passed = self._passed, {}
        if bit != 1 and inbound.hop < 64:
            targets = self._targets_of(sender, tree)
            if targets:
                self._ctx.effects.append(Send(targets, inbound.frame, inbound.hop + 1, tree))
        return known == 0

    # --- targets ----------------------------------------------------------------------------------

    def _targets_of(self, root: str, byte: int) -> tuple[Address, ...]:
        settings = self._ctx.settings
        view = (
            self._membership.version,
            self._membership.suspicion_version,
            self._regions.version,
            settings.fanout,
            settings.cross_region_fanout,
            self.closed_regions,
        )
        if view != self._targets_for:
            self._targets_for = view
            self._targets.clear()
            self._names = {
                region: [member.name for member in members]
                for region, members in self._membership.regions().items()
            }
        key = (root, byte)
        targets = self._targets.get(key)
        if targets is None:
            targets = self._targets[key] = self._compute(root, byte)
        return targets

    def _compute(self, root: str, byte: int) -> tuple[Address, ...]:
        me, tree = self._ctx.name, byte & 7
        settings = self._ctx.settings
        home = self._ctx.region
        from_region = home if root == me else self._region_of(root)
        if from_region is None:
            return ()
        names = self._names.get(home, [])
        if from_region == home:
            chosen = trees.home_children(names, root, me, tree, settings.fanout)
            bypass = [
                below
                for child in chosen
                if self._suspected(child)
                for below in trees.home_children(names, root, child, tree, settings.fanout)
            ]
            hands_on = root == me
        else:
            count = settings.cross_region_fanout
            chosen = trees.away_children(names, root, me, tree, settings.fanout, count)
            bypass = [
                below
                for child in chosen
                if self._suspected(child)
                for below in trees.away_children(names, root, child, tree, settings.fanout, count)
            ]
            hands_on = me in trees.entries(names, root, tree, count)
        targets = [*chosen, *bypass]
        if hands_on and not byte & HOME_ONLY:
            targets += self._entries_beyond(from_region, root, tree)
        return self._addresses(dict.fromkeys(targets), me)

    def _entries_beyond(self, origin_region: str, root: str, tree: int) -> list[str]:
        """Entry agents of the regions that ours hands the root's frames to."""
        found: list[str] = []
        onward = set(self._regions.next_regions(origin_region))
        if origin_region == self._ctx.region:
            # Also where the link is said to be down: views differ for a moment after it went or came, and
            # who believes in a link that its sender does not would wait for a transit that nobody makes.
            onward.update(self._names)
            onward.discard(origin_region)
        for region in sorted(onward - self.closed_regions):
            names = self._names.get(region, [])
            wanted = self._ctx.settings.cross_region_fanout
            doors = trees.entries(names, root, tree, wanted)
            if any(self._suspected(name) for name in doors):
                # What a suspect entry would have fed is fed from here.
                doors = trees.entries(names, root, tree, wanted + self._ctx.settings.fanout)
            found += doors
        return found

    def _region_of(self, name: str) -> str | None:
        member = self._membership.members.get(name)
        return None if member is None else member.region

    def _suspected(self, name: str) -> bool:
        member = self._membership.members.get(name)
        return member is not None and member.status == SUSPECT

    def _addresses(self, names: Iterable[str], me: str) -> tuple[Address, ...]:
        members = self._membership.members
        return tuple(members[name].address for name in names if name != me and name in members)

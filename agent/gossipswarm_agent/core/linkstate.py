"""Which regions can talk to which: every region declares whom it does not hear, all keep the latest.

The link between two regions is up exactly if neither declares the other. Groups are the connected
components of that graph, so a region that two others can still reach carries what they cannot send each
other. A declaration of silence is soft state: it is repeated every second while it holds and lapses when it
is not, so whoever missed the last word of a cut does not believe in it for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gossipswarm_agent.core.messages import LinkState

LAPSE: Final = 5.0
"""Seconds after which a declaration of silence that nobody repeated no longer counts."""


class Declaration:
    """The latest word of one region."""

    __slots__ = ("clock", "down", "heard_at", "silence")

    def __init__(self, clock: int, silence: dict[str, int], heard_at: float) -> None:
        self.clock = clock
        self.silence = silence
        """Region that is not heard to how many ms it had been silent when that was declared."""
        self.down = frozenset(silence)
        self.heard_at = heard_at


class LinkTable:
    """The declarations of all regions and what follows from them."""

    __slots__ = ("_declared", "_groups", "_regions", "_trees", "version", "whole")

    def __init__(self) -> None:
        self._declared: dict[str, Declaration] = {}
        self._regions: tuple[str, ...] = ()
        self._groups: tuple[tuple[str, ...], ...] | None = None
        self._trees: dict[str, dict[str, tuple[str, ...]]] = {}
        self.version = 0
        """Rises when a link or the set of regions changes."""
        self.whole = True
        """No region declares any silence."""

    # --- declarations -----------------------------------------------------------------------------

    def declare(self, message: LinkState, now: float) -> bool:
        """Take a declaration in; whether it is newer than what is held."""
        held = self._declared.get(message.region)
        if held is not None and message.clock <= held.clock:
            return False
        silence = dict(zip(message.down, message.silence, strict=False))
        silence = {region: silence.get(region, 0) for region in message.down}
        self._declared[message.region] = Declaration(message.clock, silence, now)
        if silence.keys() != (held.down if held is not None else frozenset()):
            self._changed()
        return True

    def down(self, region: str) -> frozenset[str]:
        """Regions that this one declares not to hear."""
        held = self._declared.get(region)
        return held.down if held is not None else frozenset()

    def silences(self, region: str) -> dict[str, int]:
        """Whom it declares not to hear, and for how many ms it had not when it first said so."""
        held = self._declared.get(region)
        return held.silence if held is not None else {}

    def clock(self, region: str) -> int:
        """Of the latest declaration of this region, 0 if there was none."""
        held = self._declared.get(region)
        return held.clock if held is not None else 0

    def heard_at(self, region: str) -> float:
        """When its latest declaration came, in monotonic seconds."""
        held = self._declared.get(region)
        return held.heard_at if held is not None else 0.0

    def silence(self, one: str, other: str) -> int:
        """Milliseconds for which the two did not hear each other when that was declared; 0 if unknown."""
        found = (
            self._declared[here].silence.get(there, 0)
            for here, there in ((one, other), (other, one))
            if here in self._declared
        )
        return max(found, default=0)

    def lapse(self, now: float) -> float:
        """Drop silences that nobody repeated; when the next one may lapse."""
        deadline = float("inf")
        for held in self._declared.values():
            if held.down and now >= held.heard_at + LAPSE:
                held.silence, held.down = {}, frozenset()
                self._changed()
            if held.down:
                deadline = min(deadline, held.heard_at + LAPSE)
        return deadline

    def postpone(self, seconds: float) -> None:
        """Time during which this agent did not run."""
        for held in self._declared.values():
            held.heard_at += seconds

    def clear(self) -> None:
        """Every link is up: cuts are not declared any more."""
        if any(held.down for held in self._declared.values()):
            for held in self._declared.values():
                held.silence, held.down = {}, frozenset()
            self._changed()

    # --- what follows -----------------------------------------------------------------------------

    def set_regions(self, regions: Iterable[str]) -> None:
        """Regions that have members."""
        found = tuple(sorted(regions))
        if found != self._regions:
            self._regions = found
            self._changed()

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that have members, sorted."""
        return self._regions

    def up(self, one: str, other: str) -> bool:
        """Whether the direct link works, in both directions."""
        return one == other or (other not in self.down(one) and one not in self.down(other))

    def cuts(self) -> frozenset[tuple[str, str]]:
        """Pairs of regions whose direct link is down, each sorted."""
        return frozenset(
            (one, other)
            for index, one in enumerate(self._regions)
            for other in self._regions[index + 1 :]
            if not self.up(one, other)
        )

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Connected components, each sorted, in the order of their first regions."""
        if self._groups is None:
            left = list(self._regions)
            found = []
            while left:
                group = self._reach(left[0])
                found.append(tuple(sorted(group)))
                left = [region for region in left if region not in group]
            self._groups = tuple(found)
        return self._groups

    def connected(self, one: str, other: str) -> bool:
        """Whether the two are in one group, directly or through others."""
        if self.whole or one == other or self.up(one, other):
            return True
        return any(one in group and other in group for group in self.groups())

    def children(self, root: str, region: str) -> tuple[str, ...]:
        """Whom ``region`` hands on to in the breadth-first tree that is rooted at ``root``."""
        tree = self._trees.get(root)
        if tree is None:
            tree = self._trees[root] = self._tree(root)
        return tree.get(region, ())

    def _tree(self, root: str) -> dict[str, tuple[str, ...]]:
        waiting, known = [root], {root}
        tree: dict[str, tuple[str, ...]] = {}
        for region in waiting:
            below = tuple(r for r in self._regions if r not in known and self.up(region, r))
            known.update(below)
            waiting += below
            tree[region] = below
        return tree

    def _reach(self, start: str) -> set[str]:
        return {start}.union(*self._tree(start).values())

    def _changed(self) -> None:
        self.version += 1
        self.whole = not any(held.down for held in self._declared.values())
        self._groups = None
        self._trees.clear()

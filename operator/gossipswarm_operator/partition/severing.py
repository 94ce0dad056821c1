"""Which regions hear each other while cuts live. Pure.

Cuts of one swarm compose: two regions hear each other only if no cut severs them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import combinations

import msgspec

from gossipswarm_operator.partition.model import SwarmPartition

Pair = tuple[str, str]
"""Two regions in alphabetical order."""


class Cut(msgspec.Struct, frozen=True):
    """Everything that is cut in a swarm at a moment, over all its SwarmPartitions."""

    severed: frozenset[Pair] = frozenset()
    """Regions that do not hear each other."""
    until: datetime | None = None
    """When the last of it ends by itself; None = somebody ends it."""
    names: tuple[str, ...] = ()
    """SwarmPartitions that it is of."""
    policed: frozenset[Pair] = frozenset()
    """The part of it that NetworkPolicies are made for."""

    def __bool__(self) -> bool:
        return bool(self.severed)

    def for_policies(self) -> Cut:
        """What NetworkPolicies have to cut."""
        return msgspec.structs.replace(self, severed=self.policed)

    def hears(self, region: str, regions: Collection[str]) -> tuple[str, ...]:
        """Those of ``regions`` that a region hears, itself included."""
        heard = {other for other in regions if pair(region, other) not in self.severed}
        return tuple(sorted(heard | {region}))

    def beyond(self, region: str) -> tuple[str, ...]:
        """The regions that a region does not hear."""
        return tuple(sorted(b if a == region else a for a, b in self.severed if region in (a, b)))


def pair(one: str, other: str) -> Pair:
    """Two regions, whichever was named first."""
    return (one, other) if one <= other else (other, one)


def sides(partition: SwarmPartition, regions: Collection[str]) -> list[tuple[str, ...]]:
    """The groups that a SwarmPartition cuts off from each other, those without a region of the swarm left out."""
    groups = [tuple(r for r in group if r in regions) for group in partition.groups]
    if not partition.transit:
        named = {region for group in partition.groups for region in group}
        groups.append(tuple(sorted(region for region in regions if region not in named)))
    return [group for group in groups if group]


def severed_by(partition: SwarmPartition, regions: Collection[str]) -> frozenset[Pair]:
    """Pairs of regions that one SwarmPartition severs."""
    return frozenset(
        pair(a, b)
        for one, other in combinations(sides(partition, regions), 2)
        for a in one
        for b in other
    )


def combined(partitions: Iterable[SwarmPartition], regions: Collection[str]) -> Cut:
    """What several SwarmPartitions, all of them live, cut together."""
    cutting = [(p, severed) for p in partitions if (severed := severed_by(p, regions))]
    ends = [p.expires_at for p, _ in cutting]
    return Cut(
        frozenset().union(*(severed for _, severed in cutting)),
        None if None in ends else max((end for end in ends if end), default=None),
        tuple(sorted(p.name for p, _ in cutting)),
        frozenset().union(*(severed for p, severed in cutting if p.by_network)),
    )


def refusal(partition: SwarmPartition, regions: Sequence[str]) -> tuple[str, str] | None:
    """Why a SwarmPartition makes no sense for a swarm of these regions, as a reason and a message; None if it does."""
    for region in (region for group in partition.groups for region in group):
        if region not in regions:
            near = get_close_matches(region, regions, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return (
                "UnknownRegion",
                f"spec.groups: the swarm has no region {region!r}, but {', '.join(regions)}{hint}",
            )
    if not severed_by(partition, regions):
        return nothing_to_cut(regions)
    return None


def nothing_to_cut(regions: Sequence[str]) -> tuple[str, str]:
    """The reason and the message where all regions are on one side."""
    why = "every region would be on one side, so nothing would be cut off"
    return ("NothingToCut", f"spec.groups: {why}; the swarm has {', '.join(regions)}")


def described(partition: SwarmPartition, regions: Collection[str]) -> str:
    """The sides in one line: ``us-east | us-west,eu-central``."""
    return " | ".join(",".join(side) for side in sides(partition, regions))

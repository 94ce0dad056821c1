"""Partitions: which regions' packets an agent drops while cuts are in force. Pure.

A cut is kept as it was asked for and turned into links (directed pairs of regions) when needed, so that a
region added later falls on the side it belongs to.

- ``groups``: regions of different groups do not hear each other. Regions that are not named form one
  more group, as in Kubernetes: a cut that left them as a bridge would not be one.
- ``one-way``: what the first group sends does not arrive at the second; the other direction works.
- ``pair``: only the links between the two groups; unnamed regions go on reaching both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from gossipctl.local.errors import USAGE, LocalError, unknown

Link: TypeAlias = tuple[str, str]
"""Region of the sender, region of the receiver."""
Kind: TypeAlias = Literal["groups", "one-way", "pair"]


class Cut(msgspec.Struct, frozen=True):
    """One partition in force, from ``started_ms`` until ``until_ms`` (wall clock, None = until healed)."""

    id: str
    kind: Kind
    groups: tuple[tuple[str, ...], ...]
    started_ms: int
    until_ms: int | None = None

    def links(self, regions: Iterable[str]) -> set[Link]:
        """The links that this cut severs."""
        if self.kind == "groups":
            sides = [set(group) for group in self.sides(regions)]
            return {
                (sender, receiver)
                for side in sides
                for other in sides
                if side is not other
                for sender in side
                for receiver in other
            }
        first, second = self.groups
        forth = {(sender, receiver) for sender in first for receiver in second}
        return forth if self.kind == "one-way" else forth | {(b, a) for a, b in forth}

    def sides(self, regions: Iterable[str]) -> list[tuple[str, ...]]:
        """The groups, with the unnamed regions as one more if the kind has it so."""
        named = {region for group in self.groups for region in group}
        rest = tuple(region for region in regions if region not in named)
        implicit = [rest] if rest and self.kind == "groups" else []
        return [*self.groups, *implicit]


class Drops(msgspec.Struct, frozen=True):
    """What the agents of one region drop: frames from ``inbound`` regions, frames to ``outbound`` ones."""

    inbound: tuple[str, ...] = ()
    outbound: tuple[str, ...] = ()
    until_ms: int | None = None


def drops_of(cuts: Sequence[Cut], regions: Sequence[str]) -> dict[str, Drops]:
    """Per region, what its agents must drop while ``cuts`` are in force."""
    severed = [(cut, cut.links(regions)) for cut in cuts]
    drops = {}
    for region in regions:
        inbound, outbound, ends = set(), set(), set()
        for cut, links in severed:
            mine = [link for link in links if region in link]
            if mine:
                ends.add(cut.until_ms)
            inbound |= {sender for sender, receiver in mine if receiver == region}
            outbound |= {receiver for sender, receiver in mine if sender == region}
        # An agent knows one expiry; where cuts end at different times, the supervisor lifts them.
        until = ends.pop() if len(ends) == 1 else None
        drops[region] = Drops(tuple(sorted(inbound)), tuple(sorted(outbound)), until)
    return drops


def components(cuts: Sequence[Cut], regions: Sequence[str]) -> list[list[str]]:
    """Groups of regions that still reach each other in both directions, directly or through others."""
    severed: set[Link] = set().union(*(cut.links(regions) for cut in cuts))
    open_links = {
        (a, b) for a in regions for b in regions if a != b and not {(a, b), (b, a)} & severed
    }
    groups: list[list[str]] = []
    left = list(regions)
    while left:
        group = [left.pop(0)]
        for region in group:
            joined = [other for other in left if (region, other) in open_links]
            group += joined
            left = [other for other in left if other not in joined]
        groups.append(sorted(group))
    return groups


# --- what was asked for ---------------------------------------------------------------------------


def parse(
    request: dict[str, Any], regions: Sequence[str]
) -> tuple[Kind, tuple[tuple[str, ...], ...]]:
    """Kind and groups of a partition request.

    ``group1``, ``group2`` (lists or comma-separated), or ``groups`` (a list of those), with ``one_way``;
    or ``pair``, two regions.

    Raises:
        LocalError: groups are empty, overlap, name unknown regions or leave nothing to cut off (exit 2).
    """
    pair = request.get("pair")
    groups: tuple[tuple[str, ...], ...]
    if pair:
        groups = tuple((region,) for region in _names(pair))
        if len(groups) != 2 or any(request.get(key) for key in ("group1", "group2", "groups")):
            raise _refused("a pair is two regions and excludes groups", "--pair us-east,us-west")
        kind: Kind = "pair"
    else:
        groups = tuple(_names(group) for group in request.get("groups") or _two_groups(request))
        kind = "one-way" if request.get("one_way") else "groups"
    _check(groups, regions)
    if kind == "one-way" and len(groups) != 2:
        raise _refused(
            f"a one-way cut has two groups, not {len(groups)}", "name group1 (senders) and group2"
        )
    if kind == "groups" and len(groups) == 1 and len(groups[0]) == len(regions):
        raise _refused(
            "the only group holds every region, so nothing would be cut off",
            f"leave one out of: {', '.join(regions)}",
        )
    return kind, groups


def _two_groups(request: dict[str, Any]) -> list[Any]:
    groups = [request[key] for key in ("group1", "group2") if request.get(key) is not None]
    if not groups:
        raise _refused("a partition needs at least one group", "--group1 us-east --group2 us-west")
    return groups


def _names(group: Any) -> tuple[str, ...]:
    names = group.split(",") if isinstance(group, str) else list(group)
    return tuple(dict.fromkeys(str(name).strip() for name in names if str(name).strip()))


def _check(groups: Sequence[Sequence[str]], regions: Collection[str]) -> None:
    seen: dict[str, int] = {}
    for number, group in enumerate(groups, 1):
        if not group:
            raise _refused(f"group {number} is empty", f"name regions of: {', '.join(regions)}")
        for region in group:
            if region not in regions:
                raise unknown("region", region, regions)
            if region in seen:
                raise _refused(
                    f"region {region} is in group {seen[region]} and in group {number}",
                    "a region can be on one side only",
                )
            seen[region] = number


def check_disjoint(new: Cut, cuts: Sequence[Cut], regions: Sequence[str]) -> None:
    """Refuse a cut that severs a link which another cut severs already: whose expiry would count?"""
    links = new.links(regions)
    for cut in cuts:
        common = sorted(links & cut.links(regions))
        if common:
            sender, receiver = common[0]
            raise LocalError(
                "partition-active",
                f"partition {cut.id} ({describe(cut)}) already cuts {sender} from {receiver}",
                "heal it first with: gossipctl network heal-partition; or cut one link more with --pair",
                USAGE,
            )


def describe(cut: Cut) -> str:
    """One line for people."""
    arrow = {"groups": " | ", "one-way": " -> ", "pair": " x "}[cut.kind]
    return arrow.join(",".join(group) for group in cut.groups)


def _refused(message: str, hint: str) -> LocalError:
    return LocalError("invalid-partition", message, hint, USAGE)

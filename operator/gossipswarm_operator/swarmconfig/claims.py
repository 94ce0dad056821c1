"""Who may write where: of several SwarmConfigs with overlapping prefixes in one swarm, the oldest: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gossipswarm_operator.swarmconfig import keys, ledger


class Claim(msgspec.Struct, frozen=True, order=True):
    """A SwarmConfig as others see it. The order is that of precedence: age, then name."""

    created: str
    """RFC 3339 in UTC, so that text sorts by time."""
    name: str
    prefix: str
    owned: frozenset[str] = frozenset()
    """Whole keys that it has delivered."""

    def overlaps(self, other: Claim) -> bool:
        """Whether one prefix is the other, or lies below it."""
        return keys.is_within(self.prefix, other.prefix) or keys.is_within(
            other.prefix, self.prefix
        )


def read(objects: Iterable[Mapping[str, Any]], swarm: str) -> list[Claim]:
    """The claims in a swarm. One that is being deleted stands until it is gone; a prefix of no use claims nothing."""
    claims = []
    for found in objects:
        spec, metadata = found.get("spec") or {}, found["metadata"]
        if (spec.get("swarmRef") or {}).get("name") != swarm:
            continue
        try:
            prefix = keys.prefix(str(spec.get("prefix") or ""))
        except keys.InvalidKey:
            continue
        owned = frozenset(keys.below(prefix, key) for key in ledger.read(found.get("status") or {}))
        claims.append(Claim(metadata["creationTimestamp"], metadata["name"], prefix, owned))
    return sorted(claims)


def owner_over(claims: Iterable[Claim], name: str) -> Claim | None:
    """Whose claim keeps the SwarmConfig of this name from writing; None if it may.

    A claim that has to stand back itself keeps nobody from anything.
    """
    standing: list[Claim] = []
    for claim in sorted(claims):
        rival = next((other for other in standing if other.overlaps(claim)), None)
        if claim.name == name:
            return rival
        if rival is None:
            standing.append(claim)
    return None


def foreign_keys(claims: Iterable[Claim], name: str, prefix: str) -> list[str]:
    """Keys below a prefix, relative to it, that others than the SwarmConfig of this name have delivered."""
    start = prefix + "."
    return [
        key.removeprefix(start)
        for claim in claims
        if claim.name != name
        for key in claim.owned
        if key.startswith(start)
    ]

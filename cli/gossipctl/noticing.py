"""Who has noticed a cut, or its end: the same summary whatever keeps the swarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def summary(
    agents: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[str]], what: str
) -> dict[str, Any]:
    """How many agents of each group of regions have ``what`` (milliseconds, or None), and the first and last of them."""
    by_group = []
    total = 0
    for group in groups:
        mine = [agent for agent in agents if agent["region"] in group]
        times = [agent[what] for agent in mine if agent[what] is not None]
        total += len(times)
        by_group.append(
            {
                "regions": list(group),
                "agents": len(mine),
                "detected": len(times),
                "first_ms": min(times, default=None),
                "last_ms": max(times, default=None),
            }
        )
    return {"agents": total, "of": len(agents), "groups": by_group}

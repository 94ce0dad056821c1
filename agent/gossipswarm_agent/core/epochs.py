"""A new epoch of an agent's origin, for writes whose dots turned out to be used before."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import msgspec

from gossipswarm_agent.core.batch import Row


def issue_again(rows: Iterable[Row], origin: str, reused_from: int) -> list[Row]:
    """These rows, in the order of their dots, under ``origin`` and sequences from 1 on.

    All of them are of one older origin and from ``reused_from`` on. What the swarm knows under these dots is
    something else, so a context that names them must not pass for having seen it.
    """
    issued = []
    for sequence, (_, same_write) in enumerate(groupby(rows, lambda row: row.sequence), 1):
        for row in same_write:
            context = {
                seen: min(last, reused_from - 1) if seen == row.origin else last
                for seen, last in row.context.items()
            }
            issued.append(
                msgspec.structs.replace(
                    row,
                    origin=origin,
                    sequence=sequence,
                    context={seen: last for seen, last in context.items() if last},
                )
            )
    return issued

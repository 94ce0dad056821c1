"""Finding conflicts where rows are joined, and telling which of them nobody has settled.

A conflict is made by concurrent rows of one leaf, or by a leaf that has a value while leaves below it have
some too. Either way the policy picks what is visible at once, and what is hidden goes on record.
"""

from __future__ import annotations

from collections.abc import Iterable

from gossipswarm_agent.core.batch import Dot, Row
from gossipswarm_agent.core.history import History, Identity, identity
from gossipswarm_agent.core.messages import Loss
from gossipswarm_agent.core.reading import Reader
from gossipswarm_agent.core.resolution import LAST_WRITE
from gossipswarm_agent.core.store import Outcome, Store


class Conflicts:
    """Conflicts of one store, past and open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.history = History()

    def settle(self, outcome: Outcome, reader: Reader) -> tuple[list[str], list[Loss]]:
        """Leaves whose visible value an insertion may have changed, and the conflicts that were put on record
        for it."""
        if not outcome.contended and not outcome.overlapped:
            return outcome.changed, []
        changed = list(outcome.changed)
        losses: list[Loss] = []
        for key, before in outcome.contended.items():
            rows = self._store.rows(key)
            if _dots(reader.policies.visible(before)) != _dots(reader.policies.visible(rows)):
                changed.append(key)
            losses += _hidden_siblings(key, rows, reader)
        for key in outcome.overlapped:
            changed += [key, *self._store.below(key)]
            losses += _hidden_side(key, reader)
        return changed, self.history.add(losses)

    def open_and_recorded(self, reader: Reader) -> tuple[list[Loss], list[Loss]]:
        """Conflicts that nobody has written over since, and every recorded one, latest first."""
        unsettled: set[Identity] = set()
        for key in self._store.siblings:
            rows = self._store.rows(key)
            if reader.policies.is_open(rows):
                unsettled.update(map(identity, _hidden_siblings(key, rows, reader)))
        for key in self._store.overlaps:
            unsettled.update(map(identity, _hidden_side(key, reader)))
        recorded = self.history.latest_first()
        return [loss for loss in recorded if identity(loss) in unsettled], recorded


def _hidden_siblings(key: str, rows: tuple[Row, ...], reader: Reader) -> list[Loss]:
    winner = reader.policies.winner(rows)
    label = reader.policies.label(key)
    return [_loss(row, winner, label) for row in rows if row is not winner]


def _hidden_side(key: str, reader: Reader) -> list[Loss]:
    at, below = reader.sides(key)
    if at is None or not below:
        return []
    youngest = max(below, key=lambda row: row.age)
    if youngest.age > at.age:
        return [_loss(at, youngest, LAST_WRITE)]
    return [_loss(row, at, LAST_WRITE) for row in below]


def _dots(rows: Iterable[Row]) -> set[Dot]:
    return {row.dot for row in rows}


def _loss(loser: Row, winner: Row, resolution: str) -> Loss:
    return Loss(
        key=loser.key,
        value=loser.value,
        origin=loser.origin,
        sequence=loser.sequence,
        clock=loser.clock,
        deleted=loser.deleted,
        winning_value=winner.value,
        winning_origin=winner.origin,
        winning_sequence=winner.sequence,
        winning_clock=winner.clock,
        winning_deleted=winner.deleted,
        resolution=resolution,
    )

"""Own writes between their application and the moment that the disk has them.

They are visible here at once, so that a caller reads its own write, but they count as unseen: nobody is
told of what the disk may still refuse. If it does, what they replaced comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gossipswarm_agent.core.batch import Dot, Row, expand
from gossipswarm_agent.core.messages import Batch


class Undurable:
    """What to bring back if a write is refused, by its dot."""

    def __init__(self) -> None:
        self._before: dict[Dot, dict[str, tuple[Row, ...]]] = {}
        self._void: list[int] = []
        """Own sequences that were taken back."""

    @property
    def dots(self) -> Mapping[Dot, object]:
        """Writes that are not durable yet."""
        return self._before

    def replaced(self) -> Iterator[Row]:
        """Rows that only writes have replaced which are not durable yet."""
        return (row for before in self._before.values() for rows in before.values() for row in rows)

    def note(self, dot: Dot, before: dict[str, tuple[Row, ...]]) -> None:
        """A write was applied; ``before`` are the rows that its leaves had until then."""
        self._before[dot] = before

    def confirm(self, batch: Batch) -> list[Dot]:
        """The writes of this batch are durable; those of them that were awaited."""
        return [dot for dot in _dots_of(batch) if self._before.pop(dot, None) is not None]

    def retract(self, batch: Batch) -> tuple[list[Dot], dict[str, tuple[Row, ...]]]:
        """The writes of this batch never become durable; those that were awaited, and the rows that their
        leaves had before."""
        dots: list[Dot] = []
        before: dict[str, tuple[Row, ...]] = {}
        for dot in _dots_of(batch):
            replaced = self._before.pop(dot, None)
            if replaced is not None:
                dots.append(dot)
                before.update(replaced)
        # A later write that replaced one of these now stands for a replacement of what was there before.
        for later in self._before.values():
            for key, rows in later.items():
                later[key] = _without(dots, rows, before.get(key, ()))
        self._void += [sequence for _, sequence in dots]
        return dots, before

    def take_void(self, durable: int) -> list[int]:
        """Sequences below ``durable`` that stand for nothing: it is safe now to tell others so.

        Before a later write is on the disk, a restart would not know of them and use them again.
        """
        if not self._void:
            return []
        void = [sequence for sequence in self._void if sequence < durable]
        self._void = [sequence for sequence in self._void if sequence > durable]
        return void

    def clear(self) -> None:
        """Nothing is awaited any more, under an origin that is given up."""
        self._before.clear()
        self._void.clear()


def _dots_of(batch: Batch) -> Iterable[Dot]:
    return dict.fromkeys(zip(*expand(batch.runs), strict=True))


def _without(
    dots: Sequence[Dot], rows: tuple[Row, ...], before: tuple[Row, ...]
) -> tuple[Row, ...]:
    if not any(row.dot in dots for row in rows):
        return rows
    return (*(row for row in rows if row.dot not in dots), *before)

"""What applying a batch did, for those who journal, spread, notify and count."""

from __future__ import annotations

import msgspec

from gossipswarm_agent.core.batch import ranges_of
from gossipswarm_agent.core.messages import Batch, Loss, Ranges


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What came of applying a batch."""

    batch: Batch | None = None
    """The rows that were new: the very batch that was given, if all of it was; None if nothing was."""
    changed: list[str] = []
    """Leaves whose visible value may be another now."""
    losses: list[Loss] = []
    """Conflicts that were recorded by it."""
    skewed: dict[str, int] = {}
    """Origins whose rows are held because their clock runs ahead: by how many ms, at most."""

    @property
    def rows(self) -> int:
        """Leaves of writes that were new."""
        return 0 if self.batch is None else len(self.batch.keys)

    @property
    def dots(self) -> int:
        """Writes that were new."""
        return 0 if self.batch is None else sum(run[2] for run in self.batch.runs)

    @property
    def fresh(self) -> Ranges:
        """The dots that were new. Built when asked for: a busy agent need not."""
        return {} if self.batch is None else ranges_of(self.batch.runs)

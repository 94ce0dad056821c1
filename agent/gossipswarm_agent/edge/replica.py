"""What an edge holds, as a state machine: frames of an agent in, keys that changed out; no input or output of its own.

The copy is a join, so what comes twice, late, or from an agent that is behind changes nothing: reads never go back, whichever
agent the frames are from.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.batch import from_rows, open_batch
from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.extraction import dot_of
from gossipswarm_agent.core.messages import Ranges
from gossipswarm_agent.core.results import Change, Reading
from gossipswarm_agent.core.settings import DEFAULTS, NAMES, InvalidSetting, Settings, merge
from gossipswarm_agent.core.state import COLLECT_LIMIT, State
from gossipswarm_agent.core.versions import VersionVector
from gossipswarm_agent.edge.frames import Collect, End, Rows, Terms

_FOR_EVER: Final = Instant(0.0, 1 << 46)
"""Whether a clock runs ahead is for agents to judge: what one of them has merged is taken as it is."""


class Unsound(ValueError):
    """A frame that no sound agent sends."""


def held_prefixes(prefixes: Sequence[str], region: str) -> tuple[str, ...]:
    """The subtrees that an edge needs of its agent to show these keys as they are read in its region.

    Versions on trial there are overlays at ``canary.<region>.<prefix>``, or above if the trial's prefix is shorter.
    """
    trials = (
        f"canary.{paths.escape(region)}.{paths.join(paths.split(each)[:1])}" for each in prefixes
    )
    return tuple(dict.fromkeys((*prefixes, *trials)))


class Replica:
    """The state of an edge: the whole, or some subtrees of it."""

    def __init__(self, prefixes: Sequence[str] | None) -> None:
        self.prefixes = None if prefixes is None else tuple(prefixes)
        self.complete = False
        """It has been a full copy once."""
        self.degraded = False
        """The agent is read-only."""
        self.settings_version = 0
        self.wholes = 0
        """Times that everything was replaced, the first included."""
        self.rows = 0
        """Rows received."""
        self.number = 0
        """Of the last frame that was applied."""
        self._ctx = Context("", "", DEFAULTS, random.Random(0))
        self._ctx.now = _FOR_EVER
        self.state = State(self._ctx, "/")
        self._next: State | None = None
        """The whole on its way; reads go on from ``state``."""
        self._floor: dict[str, int] | None = None

    # --- frames -----------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Parameters of the agent, by which conflicts are decided."""
        return self._ctx.settings

    @property
    def vector(self) -> VersionVector:
        """What was seen."""
        return self.state.vector

    def interrupted(self) -> None:
        """The stream ended: half a whole is of no use, and another agent counts anew."""
        self._next = None
        self.number = 0

    def begin(self) -> None:
        """The whole follows."""
        self._next = State(self._ctx, "/")

    def take(self, frame: Rows) -> Collection[str]:
        """Join rows in; the leaves whose visible value may be another now. Raises Unsound."""
        changed: list[str] = []
        for body in frame.batches:
            batch = open_batch(body)
            if batch is None:
                raise Unsound("the agent sent rows that are not sound")
            self.rows += len(batch.keys)
            if self._next is not None:
                # Whether its dot was seen or not: rows of one write may come in several frames.
                self._next.restore(body)
            else:
                changed += self.state.apply(batch).changed
        target = self.state if self._next is None else self._next
        target.claim(frame.claims)
        self.number = max(self.number, frame.number)
        return dict.fromkeys(changed)

    def end(self, frame: End) -> Collection[str]:
        """The whole is there: it takes the place of what was held, but for what its agent has not seen yet.

        Returns the leaves that changed. Raises Unsound.
        """
        whole, former = self._next, self.state
        if whole is None:
            raise Unsound("the end of a whole that did not begin")
        self._next = None
        whole.claim(_ranges(frame.seen, frame.ahead))
        newer = [
            row
            for row in former.supply.everything(None)
            if not whole.vector.covers(row.origin, row.sequence)
        ]
        if newer:
            whole.apply(from_rows(sorted(newer, key=dot_of), ""))
        self.state = whole
        self.complete = True
        self.wholes += 1
        return _differing(former, whole)

    def agree(self, terms: Terms) -> None:
        """Read as the agent does from now on."""
        self.degraded = terms.degraded
        self.settings_version = terms.settings_version
        # A newer agent may have parameters that are not known here, or values: what was agreed on before stays then.
        known = {name: value for name, value in terms.settings.items() if name in NAMES}
        with suppress(InvalidSetting):
            self._ctx.settings = merge(DEFAULTS, known)

    def collect(self, frame: Collect) -> None:
        """Deletions that every member has seen may be forgotten; ``tidy`` does it."""
        self._floor = frame.floor

    def tidy(self) -> None:
        """Forget some of the deletions that may be; called now and then."""
        if self._floor is not None and self.state.collect(self._floor) < COLLECT_LIMIT:
            self._floor = None

    def agrees(self, vector: int, state: int) -> bool:
        """Whether an agent that has sent what this vector's hash says, and holds this, has what is here.

        An edge of some prefixes cannot know, and one that is further or less far need not.
        """
        if self.prefixes is not None or self._next is not None or self.vector.ahead:
            return True
        return self.vector.hash != vector or self.state.state_hash == state

    # --- reading ----------------------------------------------------------------------------------

    def read(self, key: str) -> Reading | None:
        """The visible value of a key; None if there is nothing at or below it."""
        return self.state.read(key)

    def change(self, key: str) -> Change:
        """What a watcher is told of a leaf."""
        return self.state.change(key)

    def list_keys(self, prefix: str, limit: int, after: str = "") -> list[str]:
        """Keys of visible leaves at and below a prefix, in order."""
        return self.state.keys(prefix, limit, after)

    def holds(self, key: str) -> bool:
        """Whether what lies at this key, if anything does, is held here."""
        prefixes = self.prefixes
        return prefixes is None or any(
            not prefix or key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes
        )

    def concerns(self, key: str) -> bool:
        """Whether a write to this key may change what is held here."""
        above = f"{key}." if key else ""
        return self.holds(key) or any(each.startswith(above) for each in self.prefixes or ())

    # --- keeping it -------------------------------------------------------------------------------

    def save(self) -> tuple[Terms, Iterator[bytes]]:
        """What is held as of now: journal records, which may be taken in another thread."""
        settings = msgspec.to_builtins(self._ctx.settings)
        return Terms(settings, self.settings_version, self.degraded), self.state.snapshot()

    def load(self, terms: Terms, records: Iterable[bytes]) -> None:
        """Hold what was saved. Raises ValueError; this replica is of no use then."""
        for record in records:
            self.state.restore(record)
        self.agree(terms)
        self.complete = True


def _ranges(seen: dict[str, int], ahead: Ranges) -> Ranges:
    ranges: Ranges = {origin: [(1, last)] for origin, last in seen.items()}
    for origin, spans in ahead.items():
        ranges.setdefault(origin, []).extend(spans)
    return ranges


def _differing(former: State, latter: State) -> Collection[str]:
    """Leaves whose current rows are not the same."""
    before, after = former.supply.dots(), latter.supply.dots()
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]

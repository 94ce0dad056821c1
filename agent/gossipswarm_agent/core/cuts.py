"""Telling hooks and logs of cuts: at once when there is one, of its end once that is settled.

When a cut ends, the declarations of both sides cross, and a link may come up, go down and come up again.
"""

from __future__ import annotations

from math import inf
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.linkstate import LinkTable

SETTLE: Final = 0.1
"""Seconds for which a link must have been up before the end of its cut is told."""


class CutReports:
    """Compares the links with what was told of them.

    Notifies region-cut and region-healed of each link (a, b), partition-detected and partition-healed of the
    groups. ``detection_ms`` is how long the two did not hear each other when that was declared.
    """

    def __init__(self, ctx: Context, links: LinkTable) -> None:
        self._ctx = ctx
        self._links = links
        self._version = -1
        self._cuts: frozenset[tuple[str, str]] = frozenset()
        self._told: frozenset[tuple[str, str]] = frozenset()
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._partitioned_since: float | None = None
        self._reconnected: dict[str, None] = {}
        self.deadline = inf
        """Monotonic seconds at which the end of a cut will have settled."""

    @property
    def reconnected(self) -> bool:
        """Whether there is something for ``take_reconnected``."""
        return bool(self._reconnected)

    def take_reconnected(self) -> list[str]:
        """Regions whose direct link to ours came up again since this was last asked."""
        taken = list(self._reconnected)
        self._reconnected.clear()
        return taken

    def note(self) -> None:
        """Tell what changed. Call it after every change of the links, and when the deadline came."""
        now = self._ctx.now.mono
        if self._links.version != self._version:
            self._version = self._links.version
            cuts = self._links.cuts()
            self._note_reconnected(self._cuts - cuts)
            self._cuts = cuts
            ended = self._told - cuts or self._groups_differ()
            self.deadline = now + SETTLE if ended else inf
            fresh = cuts - self._told
            if fresh:
                self._told |= fresh
                for one, other in sorted(fresh):
                    silence = self._links.silence(one, other)
                    detail = {"a": one, "b": other, "detection_ms": silence}
                    self._ctx.effects.append(Notify("region-cut", detail))
                self._tell_groups(now)
        if now >= self.deadline:
            for one, other in sorted(self._told - self._cuts):
                self._ctx.effects.append(Notify("region-healed", {"a": one, "b": other}))
            self._told = self._cuts
            self._tell_groups(self.deadline - SETTLE)
            self.deadline = inf

    def _note_reconnected(self, links: frozenset[tuple[str, str]]) -> None:
        home = self._ctx.region
        for one, other in sorted(links):
            if home in (one, other):
                region = other if one == home else one
                if region in self._links.regions:
                    self._reconnected[region] = None

    def _groups_differ(self) -> bool:
        groups = self._links.groups()
        return groups != self._groups and (len(groups) > 1 or len(self._groups) > 1)

    def _tell_groups(self, since: float) -> None:
        if not self._groups_differ():
            return
        self._groups = self._links.groups()
        groups = [list(group) for group in self._groups]
        if len(groups) > 1:
            if self._partitioned_since is None:
                self._partitioned_since = since
            silences = (self._links.silence(one, other) for one, other in self._cuts)
            detail = {"groups": groups, "detection_ms": max(silences, default=0)}
            self._ctx.effects.append(Notify("partition-detected", detail))
        elif self._partitioned_since is not None:
            duration = int((since - self._partitioned_since) * 1000)
            self._partitioned_since = None
            detail = {"groups": groups, "duration_ms": duration}
            self._ctx.effects.append(Notify("partition-healed", detail))

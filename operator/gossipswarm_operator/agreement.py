"""Whether agents that hold different states only differ by writes that are on their way.

While somebody writes all the time, a look at many agents never finds them equal, although everything arrives. Then these
count instead, over some seconds:

- Nobody stands still: each agent's state has changed. An agent that takes in nothing does not change.
- Traced writes that were at their agents some seconds ago came to every agent within seconds, as the receipts say. Writes that
  nobody traced leave no receipts, so of these only the first is known.

A single look without such a proof says nothing: it may have met one write under way. So the answer is "not yet known" until
several in a row over some seconds were without, and what was said before holds on meanwhile. A swarm under steady writes
hence neither loses its condition from one look to the next, nor keeps it when an agent is left behind. No I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from gossipswarm_operator.agent_documents import AgentInfo

ARRIVED_SECONDS: Final = 5.0
"""Within which a write is to be everywhere, and after which an agent without a change stands still."""
LOOKS: Final = 3
"""Without a proof, in a row, before writes count as not delivered."""
TRACED_SECONDS: Final = 120.0
"""After which a traced write says nothing about those of now."""
DOTS_KEPT: Final = 64
"""Traced writes remembered of an agent, the newest; beyond that older ones are judged no more."""


class _Agent(msgspec.Struct):
    """What is remembered of one."""

    started_at: str
    state: str
    since: float
    """When it was first seen with this state, seconds."""
    changed: bool = False
    """It had another one before."""
    dots: deque[tuple[float, str]] = msgspec.field(default_factory=lambda: deque(maxlen=DOTS_KEPT))
    """Traced writes, and when each was first seen as its newest."""


class Agreement:
    """What was seen of one swarm's agents, look after look. Times are seconds on one clock that never goes back."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._behind: list[float] = []
        """When the last looks without a proof were, in a row; the first and the newest ones."""

    def look(self, infos: Mapping[str, AgentInfo], now: float) -> bool:
        """Take in what agents say of themselves now; whether they differ."""
        before = self._agents
        self._agents = {}
        for name, info in infos.items():
            held = before.get(name)
            if held is None or held.started_at != info.started_at:
                held = _Agent(info.started_at, info.state_hash, now)
            elif held.state != info.state_hash:
                held.state, held.since, held.changed = info.state_hash, now, True
            trace = info.newest_trace
            if trace is not None and (not held.dots or held.dots[-1][1] != trace.dot):
                held.dots.append((now, trace.dot))
            self._agents[name] = held
        if len({info.state_hash for info in infos.values()}) > 1:
            return True
        self._behind = []
        return False

    def due(self, now: float) -> dict[str, str]:
        """By agent: the newest of its traced writes that ought to be everywhere, if that is not too long ago."""
        found = {}
        for name, agent in self._agents.items():
            for seen, dot in reversed(agent.dots):
                if now - seen >= ARRIVED_SECONDS:
                    if now - seen <= TRACED_SECONDS:
                        found[name] = dot
                    break
        return found

    def judge(self, arrived: Collection[bool], now: float) -> bool | None:
        """Whether writes are delivered, after a look at which agents differed; None = that cannot be told yet.

        ``arrived``: for some of those ``due``, whether every agent had it in time.
        """
        if self.still(now) or not all(arrived):
            self._behind = [*self._behind[: LOOKS - 1], now]
            lasted = now - self._behind[0]
            return False if len(self._behind) == LOOKS and lasted >= ARRIVED_SECONDS else None
        self._behind = []
        return True if all(agent.changed for agent in self._agents.values()) else None

    def still(self, now: float) -> Sequence[str]:
        """Agents whose state has not changed for long, by name."""
        return sorted(
            name for name, agent in self._agents.items() if now - agent.since >= ARRIVED_SECONDS
        )

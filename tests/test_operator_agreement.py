"""What Converged is said by while writes go on: looks at a swarm in miniature, whose writes take their time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from gossipswarm_operator import convergence
from gossipswarm_operator.agent_documents import AgentInfo, Journal, Trace
from gossipswarm_operator.agreement import ARRIVED_SECONDS, Agreement
from gossipswarm_operator.observed import Observed

LOOK_SECONDS = 2.0
RESYNC_SECONDS = 30.0


@dataclass
class Writers:
    """Agents and the writes that each has by a time, in no more detail than looks can see."""

    agents: int = 9
    every: float = 0.05
    """Seconds between two writes."""
    spread: float = 0.3
    """Seconds until the last agent has one."""
    traced: bool = True
    stuck: frozenset[int] = frozenset()
    """Agents that take in nothing of others since ``stuck_at``."""
    stuck_at: float = 0.0
    until: float = float("inf")
    """The last write."""
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def infos(self, now: float) -> dict[str, AgentInfo]:
        return {f"a{n}": self._info(n, now) for n in range(self.agents)}

    def _info(self, number: int, now: float) -> AgentInfo:
        delay = 0.0 if number == 0 else self.rng.uniform(0.3, 1.0) * self.spread
        if number in self.stuck and now > self.stuck_at:
            now, delay = self.stuck_at, 0.0
        newest = int(max(0.0, min(now - delay, self.until)) / self.every)
        own = int(min(now, self.until) / self.every)
        trace = Trace(f"a0:{own}", "") if self.traced and number == 0 and own else None
        return AgentInfo(
            name=f"a{number}",
            region="us-east",
            swarm="uid",
            ready=True,
            state_hash=str(newest),
            vector_hash="",
            sequence=0,
            leaves=0,
            members_alive=self.agents,
            degraded=False,
            settings_version=0,
            version="1",
            journal=Journal(0, None),
            started_at="then",
            groups=[["us-east"]],
            newest_trace=trace,
        )

    def arrived(self, dot: str, now: float) -> bool:
        """Whether every agent had a write of the first one in time, as far as that is known."""
        written = int(dot.partition(":")[2]) * self.every
        lost = bool(self.stuck) and written + self.spread > self.stuck_at
        return not lost and self.spread <= min(now - written, ARRIVED_SECONDS)


def said(writers: Writers, seconds: float, *, begin: float = 100.0) -> list[tuple[float, bool]]:
    """What the condition says after each look, as the operator looks: soon again until it holds."""
    agreement, stands, found = Agreement(), False, []
    now = begin
    while now < begin + seconds:
        infos = writers.infos(now)
        delivered = None
        if agreement.look(infos, now):
            due = agreement.due(now)
            delivered = agreement.judge([writers.arrived(dot, now) for dot in due.values()], now)
        observed = Observed(objects={}, pods=(), claims={}, agents=infos, delivered=delivered)
        holds = convergence.assess(observed, list(infos)).holds
        stands = stands if holds is None else holds
        found.append((now, stands))
        now += RESYNC_SECONDS if holds else LOOK_SECONDS
    return found


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("every", [0.001, 0.05, 1.0, 3.0, 7.0, 20.0, 100.0])
@pytest.mark.parametrize("spread", [0.02, 0.3, 2.0])
def test_it_holds_at_every_look_while_writes_go_on_and_arrive(every, spread, traced):
    seen = said(Writers(every=every, spread=spread, traced=traced), 3600)
    first = next(number for number, (_, holds) in enumerate(seen) if holds)
    assert seen[first][0] < 110, "it takes two looks to see that everybody goes on"
    assert all(holds for _, holds in seen[first:])


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("every", [0.01, 1.0])
def test_it_ceases_to_hold_within_a_minute_when_an_agent_is_left_behind(every, traced):
    writers = Writers(every=every, traced=traced, stuck=frozenset({4}), stuck_at=200.0)
    seen = said(writers, 600)
    assert all(holds for now, holds in seen if 110 < now < 200)
    assert not any(holds for now, holds in seen if now > 260)


def test_it_ceases_to_hold_when_traced_writes_come_too_late():
    seen = said(Writers(every=0.01, spread=20.0), 600)
    assert not any(holds for _, holds in seen[10:])


def test_it_does_not_hold_when_writes_have_ended_and_an_agent_lacks_the_last():
    writers = Writers(traced=True, until=300.0, stuck=frozenset({4}), stuck_at=299.97)
    seen = said(writers, 600)
    assert not any(holds for now, holds in seen if now > 350), "old receipts are no proof"


def test_one_late_receipt_changes_nothing():
    agreement, writers = Agreement(), Writers()
    for now in (100.0, 102.0, 104.0, 106.0):
        assert agreement.look(writers.infos(now), now)
    assert agreement.judge([True, True], 106.0) is True
    assert agreement.judge([True, False], 107.0) is None
    assert agreement.judge([True, True], 108.0) is True
    for now in (109.0, 111.0, 113.0):
        assert agreement.judge([False], now) is None
    assert agreement.judge([False], 114.0) is False


def test_an_agent_that_has_just_started_has_proved_nothing_yet():
    agreement, writers = Agreement(), Writers(agents=2)
    for now in (100.0, 102.0):
        agreement.look(writers.infos(now), now)
    assert agreement.judge([], 102.0) is True
    writers.agents = 3
    assert agreement.look(writers.infos(104.0), 104.0)
    assert agreement.judge([], 104.0) is None
    assert agreement.look(writers.infos(106.0), 106.0)
    assert agreement.judge([], 106.0) is True


def test_only_traced_writes_that_ought_to_have_arrived_are_followed():
    agreement, writers = Agreement(), Writers(agents=1)
    agreement.look(writers.infos(100.0), 100.0)
    assert agreement.due(104.0) == {}
    agreement.look(writers.infos(104.0), 104.0)
    assert agreement.due(105.0) == {"a0": "a0:2000"}
    assert agreement.due(230.0) == {}, "it says nothing of what is written by now"

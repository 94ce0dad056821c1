"""How long a suspect has: Lifeguard's timeout, asking before burying, refuting."""

from __future__ import annotations

import itertools
import random

import pytest

from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.members import ALIVE, DEAD, LEFT, SUSPECT
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import Ack, Join, MemberRecord, Members, Ping, decode
from gossipswarm_agent.core.news import TAKE_IN
from gossipswarm_agent.core.settings import DEFAULTS, merge
from gossipswarm_agent.core.suspicion import CONFIRMATIONS, MAX_FACTOR, PRECEDENCE, timeout

WALL = 1_700_000_000_000


def record(name: str, incarnation: int = 1, status: int = ALIVE) -> MemberRecord:
    return MemberRecord(name, "here", "10.0.0.1", 7000 + ord(name[0]), "", incarnation, status)


class Lone:
    """One agent among four that never answer, unless the test does it for them."""

    def __init__(self, **settings) -> None:
        self.ctx = Context("m", "here", merge(DEFAULTS, settings), random.Random(3))
        self.ctx.now = Instant(100.0, WALL)
        self.flooded: list[Members] = []
        self.ctx.flood = self.flooded.append
        self.membership = Membership(self.ctx, record("m"))
        self.membership.handle(Members("", [record(name) for name in "abcd"], flood=False))
        self.ctx.effects.clear()

    def run(self, seconds: float) -> list[tuple[float, object, tuple]]:
        """What is sent meanwhile: (when, message, targets)."""
        sent = []
        end = self.ctx.now.mono + seconds
        while self.membership.deadline <= end:
            at = max(self.ctx.now.mono, self.membership.deadline)
            self.ctx.now = Instant(at, WALL + round((at - 100.0) * 1000))
            self.membership.tick()
            sent += self._sent()
        self.ctx.now = Instant(end, WALL + round((end - 100.0) * 1000))
        return sent

    def tell(self, *messages) -> list[tuple[float, object, tuple]]:
        for message in messages:
            self.membership.handle(message)
        return self._sent()

    def _sent(self):
        sent = [
            (self.ctx.now.mono, decode(effect.frame.body), effect.targets)
            for effect in self.ctx.effects
            if isinstance(effect, Send)
        ]
        self.ctx.effects.clear()
        return sent


def test_each_confirmation_shortens_the_timeout_less_than_the_one_before():
    times = [timeout(count, 4, 1.0, 6.0) for count in range(6)]

    assert times[0] == 6.0
    assert times[4] == times[5] == 1.0
    drops = [before - after for before, after in itertools.pairwise(times[:5])]
    assert drops == sorted(drops, reverse=True)


def test_where_nobody_can_confirm_the_shortest_timeout_holds_at_once():
    assert timeout(0, 0, 1.0, 6.0) == 1.0


@pytest.mark.parametrize("accusers", [1, 1 + CONFIRMATIONS])
def test_hearsay_alone_buries_after_the_timeout_its_accusers_make(accusers):
    lone = Lone(probe_interval=60_000)
    for accuser in "bcd"[:accusers]:
        lone.tell(Members(accuser, [record("a", 1, SUSPECT)]))
    shortest = DEFAULTS.suspicion_timeout / 1000
    granted = shortest if accusers > CONFIRMATIONS else MAX_FACTOR * shortest

    lone.run(granted - 0.01)
    assert lone.membership.members["a"].status == SUSPECT
    lone.run(PRECEDENCE + 0.02)
    assert lone.membership.members["a"].status == DEAD


def test_the_suspect_is_asked_again_and_again_before_it_is_declared_dead():
    lone = Lone(probe_interval=60_000)
    lone.tell(Members("b", [record("a", 1, SUSPECT)]))

    sent = lone.run(MAX_FACTOR * DEFAULTS.suspicion_timeout / 1000 + PRECEDENCE + 0.1)
    asked = [m for _, m, _ in sent if isinstance(m, Ping) and m.target == "a" and m.record]
    assert lone.membership.members["a"].status == DEAD
    assert len(asked) >= 8


def test_an_answer_of_the_suspect_gives_it_all_the_time_again():
    lone = Lone()
    lone.tell(*(Members(accuser, [record("a", 1, SUSPECT)]) for accuser in "bcd"))
    for _ in range(30):
        for _, message, _ in lone.run(0.1):
            if isinstance(message, Ping) and message.target == "a" and message.record:
                lone.tell(Ack("a", message.number))
    assert lone.membership.members["a"].status == SUSPECT


def test_a_refutation_ends_the_suspicion_and_a_late_accusation_does_not_bring_it_back():
    lone = Lone()
    lone.tell(Members("b", [record("a", 1, SUSPECT)]))
    lone.tell(Members("a", [record("a", 2, ALIVE)]))
    lone.tell(Members("c", [record("a", 1, SUSPECT)]), Members("c", [record("a", 1, DEAD)]))

    assert lone.membership.members["a"].status == ALIVE
    assert lone.membership.members["a"].incarnation == 2


@pytest.mark.parametrize("status", [SUSPECT, DEAD])
def test_hearing_of_its_own_suspicion_an_agent_refutes_at_once(status):
    lone = Lone()
    sent = lone.tell(Members("b", [record("m", 4, status)]))

    assert lone.membership.me.incarnation == 5
    # To everybody as soon as the event is over, and to the accuser directly.
    assert lone.membership.deadline == lone.ctx.now.mono
    lone.run(0.0)
    assert lone.flooded[-1].records[-1] == record("m", 5)
    direct = [(m.records, targets) for _, m, targets in sent if isinstance(m, Members)]
    assert direct == [([record("m", 5)], (("10.0.0.1", 7000 + ord("b")),))]


def test_a_ping_that_carries_the_accusation_is_answered_and_refuted():
    lone = Lone()
    sent = lone.tell(Ping("b", 7, "m", record("m", 1, SUSPECT)))

    assert [type(m) for _, m, _ in sent] == [Members, Ack]
    assert lone.membership.me.incarnation == 2


def test_who_pings_although_it_is_held_for_dead_is_told_so():
    lone = Lone()
    lone.tell(Members("b", [record("a", 1, DEAD)]))
    lone.run(TAKE_IN)
    sent = lone.tell(Ping("a", 9, "m"))

    assert [type(m) for _, m, _ in sent] == [Ack, Members]
    assert sent[1][1].records == [record("a", 1, DEAD)]


def test_what_a_table_says_of_the_dead_is_asked_first_however_often_it_is_said():
    lone = Lone(probe_interval=60_000)
    for teller in "bcd":
        lone.tell(Members(teller, [record("a", 1, DEAD)], flood=False))
    assert lone.membership.members["a"].status == SUSPECT
    asked = [m for _, m, _ in lone.run(0.0) if isinstance(m, Ping)]
    assert [(m.target, m.record.status) for m in asked] == [("a", SUSPECT)]

    lone.run(DEFAULTS.suspicion_timeout / 1000 + PRECEDENCE + 0.01)
    assert lone.membership.members["a"].status == DEAD


def test_a_ping_meant_for_whoever_had_the_address_before_is_not_answered():
    lone = Lone()
    assert lone.tell(Ping("b", 7, "somebody-else")) == []
    assert lone.ctx.counters["pings_for_others"] == 1


def test_an_agent_that_hears_nobody_takes_the_blame_itself():
    lone = Lone()
    lone.run(1.5)
    # Its helpers sent no nacks: it probes, times out and asks ever more slowly.
    unwell = lone.membership.health.score
    assert unwell >= 3

    lone.tell(*(Members(name, [record(name, 50)]) for name in "abcd"))
    for _ in range(100):
        for _, message, _ in lone.run(0.2):
            if isinstance(message, Ping):
                lone.tell(Ack(message.target, message.number))
    assert lone.membership.health.score == 0


def test_one_that_left_and_is_back_at_once_without_its_memory_is_told_of_its_farewell():
    lone = Lone()
    lone.tell(Members("a", [record("a", 1, LEFT)]))
    back = MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, ALIVE)
    sent = lone.tell(Join("a", back))

    told = [m for _, m, targets in sent if (back.host, back.port) in targets for m in m.records]
    assert [(m.incarnation, m.status) for m in told if m.name == "a"] == [(1, LEFT)]
    assert lone.membership.members["a"].status == LEFT


def test_a_farewell_that_overtakes_the_return_is_told_to_who_is_back():
    lone = Lone(probe_interval=60_000)
    back = MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, ALIVE)
    lone.tell(Members("b", [back]))
    assert lone.membership.members["a"].address == (back.host, back.port)
    lone.tell(Members("b", [record("a", 1, LEFT)]))
    sent = lone.run(TAKE_IN + 0.01)

    told = [m for _, m, targets in sent if (back.host, back.port) in targets for m in m.records]
    assert [(m.name, m.incarnation, m.status) for m in told] == [("a", 1, LEFT)]

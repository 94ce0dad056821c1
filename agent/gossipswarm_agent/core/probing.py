"""Failure detection: SWIM's probes (2002, section 3) under Lifeguard's local health (2017, section IV-A).

SWIM lets every member pick its targets at random, so that a dead one may go unprobed for several periods.
Here the members of a ring (ordered by hash, so that regions and hosts mix) meet in pairs, as in a tournament where
everybody plays everybody: in round r = wall clock / probe interval the members at places i and r - i (mod n - 1) are
a pair. One of the two pings. Its ack tells the one that the other lives, and the ping tells the other that the
one does; where no ping comes, the other probes instead. So everybody is looked at exactly once a round, each
time by somebody else, at half the messages of a probe each way; the first probe of a dead member fails at most one
interval and ``PATIENCE`` after its death. Each member still works through all others in n - 1 rounds, whatever
its clock says (SWIM's bound, section 4.3): clocks that disagree only make the schedule as good as a random one.

The ring is the own region, where round trips are short and a cut between regions fools nobody. Where some
region is too small to watch itself, or cuts are not detected, it is everybody within reach.

A ping is repeated while it is unanswered; after the timeout ``HELPERS`` others are asked to ping, and
answer with the target's ack or with a nack (Lifeguard), which tells "it does not answer me either" from "I
do not answer you". Missing nacks, failed probes, refutations and late ticks are evidence against this agent
itself: its score stretches its own timeouts and intervals up to ninefold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from operator import attrgetter
from typing import Final
from zlib import crc32

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.members import ALIVE, DEAD, Member, MemberTable
from gossipswarm_agent.core.messages import Ack, Nack, Ping, PingRequest

PROBE_TIMEOUT: Final = 0.2
"""Seconds for a direct answer, and again for an indirect one; longer where round trips are."""
PINGS: Final = 4
"""A ping is sent this often within one timeout."""
HELPERS: Final = 3
NACK_AFTER: Final = 0.65
"""Share of the timeout after which a helper says that the target does not answer it either."""
WORST_HEALTH: Final = 8
SMALLEST_RING: Final = 4
"""A region with fewer members than this is watched by everybody."""
LAG_LIMIT: Final = 2.0
"""Seconds of patience that a member's own report of being late may buy it."""
LAG_DECAY: Final = 0.9
PATIENCE: Final = 0.1
"""Seconds past the moment of a round after which a ping that did not come is asked for."""
PLAN_DELAY: Final = 0.02
"""Seconds during which changes of the ring are gathered before the next probe is planned anew."""
ERRANDS: Final = 1024
"""Indirect probes carried out for others at a time; beyond that requests are dropped and counted."""


class LocalHealth:
    """Lifeguard's local health multiplier: 0 is well, 8 is as unwell as it gets."""

    __slots__ = ("score",)

    def __init__(self) -> None:
        self.score = 0

    @property
    def factor(self) -> int:
        """By which this agent's timeouts and intervals are stretched."""
        return self.score + 1

    def worse(self, by: int = 1) -> None:
        """Evidence that this agent, not its peer, is slow."""
        self.score = min(WORST_HEALTH, self.score + by)

    def better(self) -> None:
        """A probe was answered in time."""
        if self.score:
            self.score -= 1


class _Probe:
    """One of our own probes: direct until ``indirect_at``, then through helpers until ``verdict_at``."""

    __slots__ = (
        "asked",
        "incarnation",
        "indirect_at",
        "nacked",
        "resend",
        "resend_at",
        "resent",
        "started",
        "target",
        "verdict_at",
    )

    def __init__(self, target: Member, now: float, timeout: float) -> None:
        self.target = target
        self.incarnation = target.incarnation
        self.started = now
        self.resend = timeout / PINGS
        self.resend_at = now + self.resend
        self.resent = False
        self.indirect_at = now + timeout
        self.verdict_at = now + 2 * timeout
        self.asked: set[str] = set()
        self.nacked: set[str] = set()

    def due(self) -> float:
        return min(self.resend_at, self.verdict_at if self.asked else self.indirect_at)

    def postpone(self, seconds: float) -> None:
        self.resend_at += seconds
        self.indirect_at += seconds
        self.verdict_at += seconds


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round asks of this agent: whom to ping, and by whom to be pinged."""

    number: int
    pings: tuple[Member, ...]
    expected: Member | None


def bye(size: int, number: int) -> int:
    """Place of the member that has no partner in this round of a ring of odd size."""
    return number * (size + 1) // 2 % size


def partner_of(place: int, size: int, number: int) -> int | None:
    """Place of the member that this one meets in a round; None = nobody (size is odd).

    The circle method for round-robin tournaments: one place stands still and the others go around it. With an
    odd number of members it is empty.
    """
    turning = size - 1 + size % 2
    if place == turning:
        return number * (turning + 1) // 2 % turning
    found = (number - place) % turning
    if found != place:
        return found
    return turning if turning < size else None


class _Errand:
    """A probe for somebody else. Kept beyond the nack: a late ack is still worth passing on."""

    __slots__ = ("asker", "asker_number", "ends_at", "nack_at", "resend", "resend_at", "target")

    def __init__(
        self, asker: Member, asker_number: int, target: Member, now: float, timeout: float
    ) -> None:
        self.asker = asker
        self.asker_number = asker_number
        self.target = target
        self.resend = timeout / PINGS
        self.resend_at = now + self.resend
        self.nack_at = now + NACK_AFTER * timeout
        self.ends_at = now + 2 * timeout

    def due(self) -> float:
        return min(self.resend_at, self.nack_at, self.ends_at)

    def postpone(self, seconds: float) -> None:
        self.resend_at += seconds
        self.nack_at += seconds
        self.ends_at += seconds


class Prober:
    """Sends probes, answers them, and judges those that fail.

    ``accuse(member, nackers)`` is called with each member that neither this agent nor its helpers reached.
    """

    def __init__(
        self,
        ctx: Context,
        table: MemberTable,
        health: LocalHealth,
        reachable: Callable[[str], bool],
        accuse: Callable[[Member, set[str]], None],
    ) -> None:
        self._ctx = ctx
        self._table = table
        self._health = health
        self._reachable = reachable
        self._accuse = accuse
        self.suspended = False
        """Probe and accuse nobody."""
        self._probes: dict[int, _Probe] = {}
        self._errands: dict[int, _Errand] = {}
        self._number = ctx.rng.getrandbits(32)
        self._round = _Round(0, (), None)
        self._planned_for = -1
        self._plan_at = inf
        self._over = -1
        """The last round in which everything due was done."""
        self._next_probe = inf
        self._due = inf
        self._ring: Sequence[Member] = ()
        self._place = 0
        self._ring_for: tuple[object, ...] = ()
        self._phase = 0.0
        self.lag = 0.0
        """Seconds by which this agent's ticks were late lately: what it has no time for others may not have."""
        self._round_trips: dict[str, float] = {}
        self.schedule()

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next thing to do."""
        if self._planned_for != self._table.version and self._plan_at == inf:
            self._plan_at = self._ctx.now.mono + PLAN_DELAY
        return min(self._next_probe, self._due, self._plan_at)

    def _next_number(self) -> int:
        self._number = self._number + 1 & 0xFFFFFFFF
        return self._number

    def others(self) -> int:
        """How many agents besides this one might also accuse a suspect."""
        return max(0, len(self.ring()) - 2)

    # --- the shared round robin -------------------------------------------------------------------

    def ring(self) -> Sequence[Member]:
        """Who is probed by whom: in the order of their hashes, this agent among them."""
        regions = self._table.regions()
        detecting = self._ctx.settings.partition_detection
        within = tuple(region for region in regions if self._reachable(region))
        key = (self._table.version, detecting, within)
        if key != self._ring_for:
            self._ring_for = key
            own = self._table.own
            watched_at_home = detecting and all(
                len(members) >= SMALLEST_RING for members in regions.values()
            )
            names = (own.region,) if watched_at_home else within
            ring = [member for region in names for member in regions.get(region, ())]
            ring.sort(key=attrgetter("phase"))
            self._ring = ring if own in ring else ()
            self._place = ring.index(own) if own in ring else 0
            # Rings do not all act at once, but the members of one do: agents of one machine wake together.
            self._phase = crc32("\0".join(sorted(names)).encode()) / (1 << 32)
        return self._ring

    def _plan(self, number: int) -> _Round:
        ring, place = self._ring, self._place
        size = len(ring)
        if size < 2:
            return _Round(number, (), None)
        partner = partner_of(place, size, number)
        pings: list[Member] = []
        expected = None
        if partner is not None:
            # Who of the two pings changes from round to round.
            if (place < partner) == (number % 2 == 0):
                pings.append(ring[partner])
            else:
                expected = ring[partner]
        if size % 2:
            idle = bye(size, number)
            if place == (idle + 1) % size:
                pings.append(ring[idle])
        return _Round(number, tuple(pings), expected)

    def schedule(self) -> None:
        """Decide when to act next: at the moment of the next round, or later where somebody else is to ping.

        Done again when the ring changes, for then others are ours, perhaps in this very round.
        """
        interval = self._ctx.settings.probe_interval
        factor = self._health.factor
        wall = self._ctx.now.wall
        current = wall // interval
        self._planned_for = self._table.version
        self._plan_at = inf
        self.ring()
        for number in range(current - 1, current + 2 * factor + 2):
            at = (number + self._phase) * interval
            if number % factor or number == self._over or at + PATIENCE * 1000 <= wall:
                continue
            planned = self._plan(number)
            if not planned.pings:
                at += PATIENCE * 1000
            if at > wall:
                self._round = planned
                self._next_probe = self._ctx.now.mono + (at - wall) / 1000
                return
        raise AssertionError("some round of the next two is to come")

    # --- what arrives -----------------------------------------------------------------------------

    def handle_ping(self, message: Ping) -> None:
        """Answer, to the address under which the sender is known."""
        sender = self._table.members.get(message.sender)
        if sender is None:
            self._ctx.count("pings_from_strangers")
            return
        sender.lag = message.lag / 1000
        if sender is self._round.expected:
            self._round = replace(self._round, expected=None)
            if not self._round.pings:
                self._over = self._round.number
                self.schedule()
        self._ctx.send((sender.address,), Ack(self._ctx.name, message.number, self._own_lag()))

    def handle_ack(self, message: Ack) -> bool:
        """Whether it answers one of our own probes, or one we make for somebody else."""
        now = self._ctx.now.mono
        probe = self._probes.pop(message.number, None)
        if probe is not None:
            if message.sender == probe.target.name:
                probe.target.lag = message.lag / 1000
                if not probe.resent:  # which ping is answered is known only then (Karn)
                    self._learn_round_trip(probe.target.region, now - probe.started)
            if now < probe.indirect_at:
                self._health.better()
            self._reschedule()
            return True
        errand = self._errands.pop(message.number, None)
        if errand is None:
            return False
        answer = Ack(self._ctx.name, errand.asker_number, message.lag)
        self._ctx.send((errand.asker.address,), answer)
        self._reschedule()
        return True

    def handle_request(self, message: PingRequest) -> None:
        """Ping somebody for somebody."""
        members = self._table.members
        asker, target = members.get(message.sender), members.get(message.target)
        if asker is None or target is None or len(self._errands) >= ERRANDS:
            self._ctx.count("ping_requests_dropped")
            return
        number = self._next_number()
        errand = _Errand(asker, message.number, target, self._ctx.now.mono, self._timeout(target))
        self._errands[number] = errand
        self.ping(target, number)
        self._due = min(self._due, errand.due())

    def handle_nack(self, message: Nack) -> None:
        """A helper cannot reach the target either."""
        probe = self._probes.get(message.number)
        if probe is not None and message.sender in probe.asked:
            probe.nacked.add(message.sender)
            if probe.nacked == probe.asked:
                probe.verdict_at = self._ctx.now.mono  # nobody is left who might still reach it
                self._due = min(self._due, probe.verdict_at)

    # --- what is due ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Send the probe that is due, repeat the unanswered, judge the failed."""
        now = self._ctx.now.mono
        self.lag = max(self._ctx.lag, LAG_DECAY * self.lag)
        if now >= self._due:
            for number, probe in list(self._probes.items()):
                if now >= probe.due():
                    self._pursue(number, probe)
            for number, errand in list(self._errands.items()):
                if now >= errand.due():
                    self._run(number, errand)
            self._reschedule()
        if now >= self._next_probe:
            self._act()
        elif now >= self._plan_at:
            self.schedule()

    def _act(self) -> None:
        """Probe whom this round asks us to, and then, or else, whoever was to ping us and did not."""
        done = self._round
        for target in done.pings or (done.expected,):
            if target is not None and self._worth_asking(target) and not self.suspended:
                self._probe(target)
        if done.pings and done.expected is not None:
            self._round = replace(done, pings=())
            self._next_probe = self._ctx.now.mono + PATIENCE
        else:
            self._over = done.number
            self.schedule()

    def postpone(self, seconds: float) -> None:
        """Time during which this agent did not run is nobody's silence."""
        for probe in self._probes.values():
            probe.postpone(seconds)
        for errand in self._errands.values():
            errand.postpone(seconds)
        self._due += seconds

    def ping(self, target: Member, number: int) -> None:
        """One ping. A suspect is told so, and may refute."""
        record = target.record() if target.status != ALIVE else None
        self._ctx.send(
            (target.address,),
            Ping(self._ctx.name, number, target.name, record, *self._ctx.hashes(), self._own_lag()),
        )

    def _own_lag(self) -> int:
        return int(max(self.lag, self._ctx.lag) * 1000)

    def _probe(self, target: Member) -> None:
        number = self._next_number()
        probe = _Probe(target, self._ctx.now.mono, self._timeout(target) * self._health.factor)
        self._probes[number] = probe
        self._ctx.count("probes")
        self.ping(target, number)
        self._due = min(self._due, probe.due())

    def _pursue(self, number: int, probe: _Probe) -> None:
        now = self._ctx.now.mono
        target = probe.target
        if (
            self.suspended
            or not self._worth_asking(target)
            or target.incarnation != probe.incarnation
        ):
            del self._probes[number]
            return
        if probe.asked and now >= probe.verdict_at:
            del self._probes[number]
            self._ctx.count("probes_failed")
            self._health.worse(self._missing_nacks(probe))
            self._accuse(target, probe.nacked)
            return
        if not probe.asked and now >= probe.indirect_at:
            helpers = self._helpers(target)
            if not helpers:
                del self._probes[number]
                self._ctx.count("probes_failed")
                self._health.worse()
                self._accuse(target, set())
                return
            probe.asked.update(helper.name for helper in helpers)
            request = PingRequest(self._ctx.name, number, target.name)
            self._ctx.send((helper.address for helper in helpers), request)
        if now >= probe.resend_at:
            probe.resent = True
            probe.resend_at = now + probe.resend
            self.ping(target, number)

    def _run(self, number: int, errand: _Errand) -> None:
        now = self._ctx.now.mono
        if now >= errand.ends_at:
            del self._errands[number]
            return
        if now >= errand.nack_at:
            errand.nack_at = inf
            errand.resend_at = inf
            nack = Nack(self._ctx.name, errand.asker_number, errand.target.name)
            self._ctx.send((errand.asker.address,), nack)
        elif now >= errand.resend_at:
            errand.resend_at = now + errand.resend
            self.ping(errand.target, number)

    def _missing_nacks(self, probe: _Probe) -> int:
        """Helpers who should have answered. Those abroad may be cut off, and the dead need not answer."""
        members, home = self._table.members, self._ctx.region
        expected = {
            name
            for name in probe.asked
            if name in members and members[name].status == ALIVE and members[name].region == home
        }
        return len(expected - probe.nacked)

    def _helpers(self, target: Member) -> list[Member]:
        """Some at random: one from anywhere in the ring, the others from home, where answers are quick."""
        home = self._table.regions().get(self._ctx.region, ())
        found: dict[str, Member] = {}
        for attempt in range(4 * HELPERS):
            pool = home if found and attempt < 3 * HELPERS else self.ring()
            helper = pool[self._ctx.rng.randrange(len(pool))]
            if helper.status == ALIVE and helper not in (target, self._table.own):
                found[helper.name] = helper
                if len(found) == HELPERS:
                    break
        return list(found.values())

    def _worth_asking(self, target: Member) -> bool:
        return target.status < DEAD and self._reachable(target.region)

    def _timeout(self, target: Member) -> float:
        trip = self._round_trips.get(target.region, 0.0)
        return max(PROBE_TIMEOUT, 3 * trip) + min(target.lag, LAG_LIMIT)

    def _learn_round_trip(self, region: str, sample: float) -> None:
        known = self._round_trips.get(region, sample)
        self._round_trips[region] = known + (sample - known) / 8

    def _reschedule(self) -> None:
        self._due = inf
        for probe in self._probes.values():
            self._due = min(self._due, probe.due())
        for errand in self._errands.values():
            self._due = min(self._due, errand.due())

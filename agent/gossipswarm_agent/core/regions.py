"""Cuts between regions, told apart from the failure of single agents.

Up to three relays a region send heartbeats to the relays of all regions, their own included, ten times a
second. A heartbeat home says how long each other region has been silent. Once a relay has heard nothing of a
region, from anybody there, for ``partition_timeout``, it says so at once; when most of the region's relays
say so, the region declares the link down (``LinkState``), and when most of them hear it again, up.

Nobody is cut off by mistake because
- silence counts only while the one who listens was running: a late tick moves the time of the last word;
- the timeout grows by the lag that both sides last reported;
- relays that reported nothing for ``REPORT_FRESH`` have no vote, and those that have one must be most of the
  relays that are not suspect, so a relay that lost its own network does not speak for its region;
- one lost heartbeat means nothing: nine come from every region in 300 ms.

Heartbeats never stop. Across a link that is down one also goes to some other member of that region, in case
all relays that are known there are gone; it answers with the member table, which names the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from operator import attrgetter
from typing import Final

from msgspec import structs

from gossipswarm_agent.core.clock import COUNTER_BITS
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.cuts import CutReports
from gossipswarm_agent.core.frames import Inbound
from gossipswarm_agent.core.linkstate import LinkTable
from gossipswarm_agent.core.members import DEAD, SUSPECT, Member
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import Heartbeat, LinkState, Message

RELAYS: Final = 3
BEAT: Final = 0.1
TRAVEL: Final = 0.02
"""Seconds that a beat may take longer than the one before it: the last in the timeout counts as well."""
HOME_BEAT: Final = 3
"""Every how many beats one goes to the relays at home while nobody is silent."""
REPORT_FRESH: Final = 0.4
"""Seconds for which what another relay reported counts."""
TURN: Final = 0.03
"""Seconds that each relay gives the one before it to declare first."""
REPEAT: Final = 1.0
"""Seconds between repetitions of a declaration of silence."""
GRACE: Final = 0.8
"""Seconds that a relay gives a region to learn of it, if either is new."""
CALLERS: Final = 16
LATE: Final = 0.02
WIDEN_LIMIT: Final = 1.0
"""Seconds by which reported lag may widen the timeout."""
LAG_DECAY: Final = 0.8
LONGEST_TIMEOUT: Final = 60.0
"""Seconds that ``partition_timeout`` may be set to: whoever is silent for longer is silent."""


def choose_relays(members: Sequence[Member]) -> tuple[Member, ...]:
    """The heaviest members of a region, from different hosts where there are enough."""
    ranked = sorted(members, key=attrgetter("weight"), reverse=True)
    chosen: list[Member] = []
    hosts: set[str] = set()
    for member in ranked:
        host = member.labels.get("host", member.name)
        if host not in hosts:
            hosts.add(host)
            chosen.append(member)
            if len(chosen) == RELAYS:
                return tuple(chosen)
    chosen += [member for member in ranked if member not in chosen]
    return tuple(chosen[:RELAYS])


class _Report:
    """What another relay of this region last said."""

    __slots__ = ("ages", "at", "lag")

    def __init__(self, at: float, ages: dict[str, int], lag: float) -> None:
        self.at = at
        self.ages = ages
        self.lag = lag


class Regions:
    """Relays, links and groups of regions as this agent knows them."""

    def __init__(self, ctx: Context, membership: Membership) -> None:
        self._ctx = ctx
        self._membership = membership
        self._links = LinkTable()
        self._relays: dict[str, tuple[Member, ...]] = {}
        self._relays_for = -1
        self._is_relay = False
        self._heard: dict[str, float] = {}
        self._silent: set[str] = set()
        self._reports: dict[str, _Report] = {}
        self._lags: dict[str, float] = {}
        self._callers: dict[str, float] = {}
        self._lag = 0.0
        self._beat_at = ctx.now.mono + ctx.rng.uniform(0.0, BEAT)
        self._look_at = inf
        self._lapse_at = inf
        self._differs_since = inf
        self._cuts = CutReports(ctx, self._links)
        self._beats = ctx.rng.randrange(RELAYS)
        self.vector_hash: int | None = None
        """Of this agent's version vector, set by the node; heartbeats carry it."""
        membership.reachable = self.reachable

    # --- what others read -------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Rises when a link or the set of regions changes."""
        self._refresh()
        return self._links.version

    @property
    def is_relay(self) -> bool:
        """Whether this agent is one of its region's relays."""
        self._refresh()
        return self._is_relay

    def relays(self, region: str) -> tuple[Member, ...]:
        """The region's relays, first to last; this agent may be among those of its own."""
        self._refresh()
        return self._relays.get(region, ())

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Regions that reach each other, directly or through others."""
        self._refresh()
        return self._links.groups()

    def reachable(self, region: str) -> bool:
        """Whether this region is in our own group."""
        return self._links.connected(self._ctx.region, region)

    def linked(self, one: str, other: str) -> bool:
        """Whether the direct link between two regions is up in both directions."""
        return self._links.up(one, other)

    def cuts(self) -> frozenset[tuple[str, str]]:
        """Pairs of regions whose direct link is down."""
        self._refresh()
        return self._links.cuts()

    def next_regions(self, origin_region: str) -> tuple[str, ...]:
        """Regions that ours hands on what comes from ``origin_region``."""
        self._refresh()
        return self._links.children(origin_region, self._ctx.region)

    @property
    def reconnected(self) -> bool:
        """Whether there is something for ``take_reconnected``."""
        return self._cuts.reconnected

    def take_reconnected(self) -> list[str]:
        """Regions whose direct link to ours came up again since this was last asked."""
        return self._cuts.take_reconnected()

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which ``tick`` has something to do."""
        if self._membership.version != self._relays_for:
            self._refresh()
        if not self._is_relay or len(self._links.regions) < 2:
            return min(self._lapse_at, self._cuts.deadline)
        return min(self._beat_at, self._look_at, self._lapse_at, self._cuts.deadline)

    # --- what arrives -----------------------------------------------------------------------------

    def heard(self, region: str) -> None:
        """A message of somebody in this region came straight from its sender (hop 1, not forwarded)."""
        self._heard[region] = self._ctx.now.mono
        if region in self._silent:
            self._silent.discard(region)
            if self._is_relay:
                # First contact: let the others know now, not at the next beat.
                self._beat((self._ctx.region, region))
                self._look_at = self._ctx.now.mono

    def handle(self, message: Message, _inbound: Inbound | None = None) -> bool:
        """Take a message in; whether it was one of ours."""
        if isinstance(message, Heartbeat):
            self._handle_heartbeat(message)
            return True
        if isinstance(message, LinkState):
            self._handle_link_state(message)
            return True
        return False

    def _handle_heartbeat(self, message: Heartbeat) -> None:
        now = self._ctx.now.mono
        lag = message.lag / 1000
        if message.region == self._ctx.region:
            self._reports[message.sender] = _Report(now, message.ages, lag)
            if self._silent or self._links.down(self._ctx.region):
                self._look_at = now
            return
        self._lags[message.region] = max(lag, self._lags.get(message.region, 0.0) * LAG_DECAY)
        if self.is_relay:
            # Whoever takes us for a relay gets an answer, whether or not we take it for one.
            if message.sender in self._callers or len(self._callers) < CALLERS:
                self._callers[message.sender] = now
        elif not self._links.up(self._ctx.region, message.region):
            sender = self._membership.members.get(message.sender)
            if sender is not None:
                self._membership.send_table(sender.address)

    def _handle_link_state(self, message: LinkState) -> None:
        news = self._links.down(message.region) != frozenset(message.down)
        if not self._ctx.settings.partition_detection:
            return
        if not self._links.declare(message, self._ctx.now.mono):
            return
        self._lapse_at = self._links.lapse(self._ctx.now.mono)
        self._cuts.note()
        relays = self.relays(self._ctx.region)
        abroad = message.region != self._ctx.region
        ours = structs.replace(message, sender=self._ctx.name)
        if news and abroad and relays and relays[0].name == self._ctx.name:
            # Under our own name: a flood follows the trees of who sends it.
            self._ctx.flood(ours)
        elif not abroad and self.is_relay:
            # A region that is deaf and not dumb has to say so, and who declared it may not be heard there.
            self._tell_abroad(ours)

    # --- what is due ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Beat, listen to the silence, declare."""
        now = self._ctx.now.mono
        deadline = self.deadline
        if now < deadline:
            return
        late = now - deadline
        self._lag = max(late, self._lag * LAG_DECAY)
        if late > LATE:
            # Nobody can be heard while this process does not run.
            for region in self._heard:
                self._heard[region] = min(now, self._heard[region] + late)
            self._links.postpone(late)
        if not self._ctx.settings.partition_detection:
            self._links.clear()
            self._silent.clear()
        self._lapse_at = self._links.lapse(now)
        if self._is_relay and len(self._links.regions) > 1:
            if now >= self._beat_at:
                self._beats += 1
                at_home = self._silent or self._beats % HOME_BEAT == 0
                self._beat([r for r in self._links.regions if at_home or r != self._ctx.region])
                self._beat_at = self._next_beat()
            self._listen()
        self._cuts.note()

    def _next_beat(self) -> float:
        """Relays of one machine beat together, so that each wakes once for all that it hears.

        Where machines' clocks differ, so do the moments, and nothing is lost.
        """
        now = self._ctx.now.mono
        ahead = BEAT - now % BEAT
        return now + (ahead if ahead > BEAT / 2 else ahead + BEAT)

    def _beat(self, regions: Sequence[str]) -> None:
        now = self._ctx.now.mono
        targets = [relay.address for region in regions for relay in self._beat_targets(region)]
        members = self._membership.members
        for name, called_at in list(self._callers.items()):
            caller = members.get(name)
            if caller is None or now - called_at > REPORT_FRESH:
                del self._callers[name]
            elif caller.region in regions:
                targets.append(caller.address)
        for region in regions:
            if not self._links.up(self._ctx.region, region):
                there = self._membership.regions().get(region, ())
                if there:
                    targets.append(there[self._ctx.rng.randrange(len(there))].address)
        ages = {
            region: max(0, int((now - self._heard[region]) * 1000))
            for region in self._links.regions
            if region in self._heard
        }
        lag = int(max(self._lag, self._ctx.lag) * 1000)
        beat = Heartbeat(
            self._ctx.name,
            self._ctx.region,
            lag,
            ages,
            self.vector_hash,
            self._membership.hash,
        )
        self._ctx.send(dict.fromkeys(targets), beat)

    def _beat_targets(self, region: str) -> list[Member]:
        """The region's relays, without the one whose turn to be left out it is while all is well.

        Six of nine beats in 300 ms still tell silence from loss, at two thirds of the cost.
        """
        relays = [each for each in self._relays.get(region, ()) if each.name != self._ctx.name]
        abroad = region != self._ctx.region and self._links.up(self._ctx.region, region)
        if abroad and len(relays) == RELAYS:
            del relays[self._beats % RELAYS]
        return relays

    def _timeout(self, region: str) -> float:
        widened = min(WIDEN_LIMIT, self._lags.get(region, 0.0)) + min(WIDEN_LIMIT, self._lag)
        if widened < LATE:
            widened = 0.0
        return self._ctx.settings.partition_timeout / 1000 + widened

    def _listen(self) -> None:
        """Compare who is silent with what this region has declared."""
        now = self._ctx.now.mono
        home = self._ctx.region
        if not self._ctx.settings.partition_detection:
            self._look_at = inf
            return
        look_at = inf
        fell_silent = False
        for region in self._links.regions:
            if region == home:
                continue
            heard_at = self._heard.setdefault(region, now + GRACE)
            silent_at = heard_at + self._timeout(region) + TRAVEL
            if now < silent_at:
                look_at = min(look_at, silent_at)
            elif region not in self._silent:
                self._silent.add(region)
                fell_silent = True
        if fell_silent:
            self._beat((home,))
        self._look_at = min(look_at, self._declare(self._verdict()))

    def _verdict(self) -> frozenset[str]:
        """Regions that most of this region's relays do not hear; what is declared if there is no quorum."""
        now = self._ctx.now.mono
        home = self._ctx.region
        relays = self._relays.get(home, ())
        reports = [
            report
            for relay in relays
            if relay.name != self._ctx.name
            and (report := self._reports.get(relay.name)) is not None
            and now - report.at <= REPORT_FRESH
        ]
        voters = 1 + len(reports)
        sound = sum(relay.status != SUSPECT for relay in relays)
        declared = self._links.down(home)
        if 2 * voters <= sound:
            return declared
        down = []
        for region in self._links.regions:
            if region == home:
                continue
            limit = int(self._timeout(region) * 1000)
            silent = sum(report.ages.get(region, 0) >= limit for report in reports)
            silent += region in self._silent
            if 2 * silent > voters:
                down.append(region)
        return frozenset(down)

    def _declare(self, verdict: frozenset[str]) -> float:
        """Make the region's declaration say so; when to look again."""
        now = self._ctx.now.mono
        home = self._ctx.region
        turn = [relay.name for relay in self._relays[home]].index(self._ctx.name) * TURN
        if verdict != self._links.down(home):
            self._differs_since = min(self._differs_since, now)
            due = self._differs_since + turn
        else:
            self._differs_since = inf
            due = self._links.heard_at(home) + REPEAT + 10 * turn if verdict else inf
        if now < due:
            return due
        self._differs_since = inf
        down = sorted(verdict)
        known = self._links.silences(home)
        silence = [
            known.get(region) or int((now - self._heard.get(region, now)) * 1000) for region in down
        ]
        clock = max(self._links.clock(home) + 1, self._ctx.now.wall << COUNTER_BITS)
        message = LinkState(self._ctx.name, home, clock, down, silence)
        self._links.declare(message, now)
        self._lapse_at = self._links.lapse(now)
        self._ctx.count("link_states")
        self._cuts.note()
        self._ctx.flood(message)
        self._tell_abroad(message)
        return now + REPEAT if verdict else inf

    def _tell_abroad(self, message: LinkState) -> None:
        there = [relays for region, relays in self._relays.items() if region != self._ctx.region]
        self._ctx.send([relay.address for relays in there for relay in relays], message)

    # --- changes ----------------------------------------------------------------------------------

    def _lost(self) -> dict[str, list[Member]]:
        """The members of regions all of whose members are held for dead, which they may be only from here.

        As long as they are remembered their silence is a cut, and they are called.
        """
        found: dict[str, list[Member]] = {}
        for member in self._membership.members.values():
            if member.status == DEAD and member.region not in self._membership.regions():
                found.setdefault(member.region, []).append(member)
        return found

    def _refresh(self) -> None:
        """Follow the member table: regions, relays, and whether this agent is one."""
        if self._membership.version == self._relays_for:
            return
        self._relays_for = self._membership.version
        regions = {**self._lost(), **self._membership.regions()}
        self._relays = {name: choose_relays(members) for name, members in regions.items()}
        self._links.set_regions(regions)
        now = self._ctx.now.mono
        for region in [*self._heard]:
            if region not in regions:
                del self._heard[region]
                self._silent.discard(region)
        home = self._relays.get(self._ctx.region, ())
        was_relay, self._is_relay = self._is_relay, any(r.name == self._ctx.name for r in home)
        self._reports = {r.name: self._reports[r.name] for r in home if r.name in self._reports}
        if self._is_relay and not was_relay:
            # What was not sent to us before tells nothing: start from what the region has declared.
            down = self._links.down(self._ctx.region)
            self._heard = dict.fromkeys(regions, now + GRACE)
            self._heard.update(dict.fromkeys(down, now - WIDEN_LIMIT - LONGEST_TIMEOUT))
            self._silent = set(down)
            self._beat_at = now
            self._look_at = inf

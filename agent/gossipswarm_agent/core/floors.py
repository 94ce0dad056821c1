"""What everybody is known to have: region floors, and from them causal stability.

A member tells its region's first relay the hash of its version vector when that changed and came to rest.
Usually the relay has, or had, a vector with that hash itself, and no vector travels; otherwise it asks for it.
The relay takes the minimum over the declared members of the region and floods it. The minimum of the region
floors is what every member has: no write at or below it can be news to anybody (causal stability, Baquero
et al., "Making operation-based CRDTs operation-based", 2014). A declared member that never reported holds
it up, whatever happened to it; only its removal from the declaration does not.

Idle agents send one hash each ``REFRESH`` seconds, which also repairs what was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import inf
from typing import Final

from msgspec.structs import replace

from gossipswarm_agent.core.clock import COUNTER_BITS
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.frames import Inbound
from gossipswarm_agent.core.members import DEAD, LEFT
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import FloorReport, Message
from gossipswarm_agent.core.messages import Floors as FloorsMessage
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.versions import VersionVector

REST: Final = 0.5
"""Seconds without change after which a vector is reported, or a floor flooded."""
RESTLESS: Final = 5.0
"""Seconds after which it is reported although it never came to rest."""
REFRESH: Final = 15.0
OWN_VECTORS: Final = 8
"""Former vectors of its own that a relay recognises by their hashes."""

_MASK: Final = (1 << 64) - 1


class Floors:
    """Reports, region floors, and the floor over all regions."""

    def __init__(self, ctx: Context, membership: Membership, regions: Regions) -> None:
        self._ctx = ctx
        self._membership = membership
        self._regions = regions
        self._floors: dict[str, FloorsMessage] = {}
        self._hash = 0
        self._floor: dict[str, int] | None = None
        self._floor_for: tuple[object, ...] = ()
        self._basis: tuple[int, int, int] | None = None
        """What decided the last tick's plan, with the declared members."""
        self._declared: Mapping[str, str] | None = None
        # As a member.
        self._current = 0
        self._changed_at = ctx.now.mono
        self._reported: tuple[str, int] | None = None
        self._reported_at = -inf
        self._refresh_at = ctx.now.mono + ctx.rng.uniform(0.0, REFRESH)
        # As the first relay.
        self._vectors: dict[int, dict[str, int]] = {}
        self._own_hashes: list[int] = []
        self._reports: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._due = inf
        self._links_version = -1
        self._gathered_for: tuple[int, Mapping[str, str] | None] = (-1, None)
        self._vector: VersionVector | None = None
        self.deadline = ctx.now.mono + REST
        """Monotonic seconds at which ``tick`` has something to do even if nothing else wakes the node."""

    # --- what others read -------------------------------------------------------------------------

    def floor(self) -> dict[str, int] | None:
        """Sequence per origin that every member has; None until every region's floor is known."""
        needed = self._needed_regions()
        key = (self._hash, needed)
        if key != self._floor_for:
            self._floor_for = key
            known = [self._floors[region].seen for region in needed if region in self._floors]
            self._floor = _minimum(known) if needed and len(known) == len(needed) else None
        return self._floor

    def region_floors(self) -> Mapping[str, dict[str, int]]:
        """Latest floor of each region."""
        return {region: floors.seen for region, floors in self._floors.items()}

    def _needed_regions(self) -> frozenset[str]:
        declared = self._membership.declared
        if declared is not None:
            return frozenset(declared.values()) | {self._ctx.region}
        # The dead may come back; only those that left said that they have nothing more to learn.
        gone = (m.region for m in self._membership.members.values() if m.status == DEAD)
        return frozenset(self._membership.regions()).union(gone)

    # --- what arrives -----------------------------------------------------------------------------

    def handle(self, message: Message, _inbound: Inbound | None = None) -> bool:
        """Take a message in; whether it was one of ours."""
        if isinstance(message, FloorReport):
            self._handle_report(message)
            return True
        if isinstance(message, FloorsMessage):
            self._handle_floors(message)
            return True
        return False

    def _handle_floors(self, message: FloorsMessage) -> None:
        held = self._floors.get(message.region)
        if held is None or message.clock > held.clock:
            self._keep(message)
            if message.region == self._ctx.region and self._first_relay() == self._ctx.name:
                self._wake()  # a former relay's, whose clock ran ahead of ours: say it again, later than that
        elif message.clock < held.clock and self._relay(1) == self._ctx.name:
            sender = self._membership.members.get(message.sender)
            if sender is not None and sender.name == self._first_relay():
                self._ctx.send((sender.address,), held)

    def _keep(self, message: FloorsMessage) -> None:
        self._drop(message.region)
        self._floors[message.region] = message
        self._hash = (self._hash + _mark(message)) & _MASK

    def _drop(self, region: str) -> None:
        held = self._floors.pop(region, None)
        if held is not None:
            self._hash = (self._hash - _mark(held)) & _MASK

    def _handle_report(self, message: FloorReport) -> None:
        sender = self._membership.members.get(message.sender)
        if sender is None or sender.region != self._ctx.region:
            return
        if self._first_relay() == message.sender:
            self._answer(message)
            return
        if self._first_relay() != self._ctx.name:
            return  # the sender will learn who is
        if message.seen is not None:
            self._vectors[message.vector] = message.seen
        if message.floors != self._hash:
            for floors in self._floors.values():
                self._ctx.send((sender.address,), floors)
        if self._vector is not None and message.vector == self._vector.hash:
            self._vectors[message.vector] = dict(self._vector.seen)
        if message.vector not in self._vectors:
            self._ask(message.sender)
            return
        self._asked.pop(message.sender, None)
        if self._reports.get(message.sender) != message.vector:
            self._reports[message.sender] = message.vector
            self._wake()

    def _ask(self, name: str) -> None:
        now = self._ctx.now.mono
        if now - self._asked.get(name, -inf) >= REST:
            self._asked[name] = now
            address = self._membership.members[name].address
            own = self._vector.hash if self._vector is not None else 0
            self._ctx.send((address,), FloorReport(self._ctx.name, own))

    # --- what is due ------------------------------------------------------------------------------

    def tick(self, vector: VersionVector) -> None:
        """Report, or gather, what is due. Call it on every tick of the node: it looks whether ``vector`` changed."""
        now = self._ctx.now.mono
        basis = (vector.hash, self._membership.version, self._regions.version)
        declared = self._membership.declared
        if now < self.deadline and basis == self._basis and declared is self._declared:
            return
        self._basis, self._declared = basis, declared
        self._vector = vector
        if vector.hash != self._current:
            self._current = vector.hash
            self._changed_at = now
        relay = self._first_relay()
        if relay == self._ctx.name:
            self._report_own()
            if self._regions.version != self._links_version:
                self._tell_again()
            view = (self._membership.version, self._membership.declared)
            if view != self._gathered_for:
                self._gathered_for = view
                self._wake()
            if now >= self._due:
                self._gather()
        else:
            self._reports.clear()
            self._vectors.clear()
            if relay is not None:
                self._report(relay)
        self._plan(relay)

    def _report(self, relay: str) -> None:
        now = self._ctx.now.mono
        changed = self._reported != (relay, self._current)
        rested = now >= self._changed_at + REST or now >= self._reported_at + RESTLESS
        if (changed and rested) or now >= self._refresh_at:
            self._reported = (relay, self._current)
            self._reported_at = now
            self._refresh_at = now + REFRESH * self._ctx.rng.uniform(0.8, 1.2)
            self._forget_regions()
            address = self._membership.members[relay].address
            report = FloorReport(self._ctx.name, self._current, None, self._hash)
            self._ctx.send((address,), report)

    def _answer(self, question: FloorReport) -> None:
        """The relay asks: tell the hash of our vector and, if it is not the relay's own, the vector."""
        if self._vector is None:
            return
        seen = None if question.vector == self._vector.hash else dict(self._vector.seen)
        self._current = self._vector.hash
        self._reported = (question.sender, self._current)
        self._reported_at = self._ctx.now.mono
        address = self._membership.members[question.sender].address
        report = FloorReport(self._ctx.name, self._current, seen, self._hash)
        self._ctx.send((address,), report)

    def _plan(self, relay: str | None) -> None:
        now = self._ctx.now.mono
        if relay == self._ctx.name:
            self.deadline = self._due
            if self._reported != (relay, self._current):
                own = min(self._changed_at + REST, self._reported_at + RESTLESS)
                self.deadline = max(now, min(self._due, own))
        elif self._reported != (relay, self._current):
            self.deadline = max(now, min(self._changed_at + REST, self._reported_at + RESTLESS))
            if relay is None:
                self.deadline = now + REFRESH
        else:
            self.deadline = self._refresh_at

    # --- the first relay --------------------------------------------------------------------------

    def _first_relay(self) -> str | None:
        return self._relay(0)

    def _relay(self, place: int) -> str | None:
        relays = self._regions.relays(self._ctx.region)
        return relays[place].name if place < len(relays) else None

    def _report_own(self) -> None:
        """The relay is a member, too."""
        vector = self._vector
        if vector is None or self._reported == (self._ctx.name, vector.hash):
            return
        now = self._ctx.now.mono
        if now >= self._changed_at + REST or now >= self._reported_at + RESTLESS:
            self._reported = (self._ctx.name, vector.hash)
            self._reported_at = now
            self._reports[self._ctx.name] = vector.hash
            self._vectors[vector.hash] = dict(vector.seen)
            self._own_hashes = [*self._own_hashes, vector.hash][-OWN_VECTORS:]
            self._wake()

    def _wake(self) -> None:
        """A report changed; others are likely to follow it."""
        self._due = min(self._due, self._ctx.now.mono + REST)
        self.deadline = min(self.deadline, self._due)

    def _gather(self) -> None:
        self._due = inf
        members = self._declared_here()
        self._reports = {name: key for name, key in self._reports.items() if name in members}
        self._forget_regions()
        used = {*self._reports.values(), *self._own_hashes}
        self._vectors = {key: seen for key, seen in self._vectors.items() if key in used}
        if self._membership.seeking:
            return  # alone for now: what others have is not known
        missing = members - self._reports.keys()
        if missing:
            self._ask_missing(missing)
            return
        floor = _minimum([self._vectors[key] for key in set(self._reports.values())])
        held = self._floors.get(self._ctx.region)
        if held is not None and held.seen == floor and held.members == len(members):
            return
        clock = max(held.clock + 1 if held is not None else 1, self._ctx.now.wall << COUNTER_BITS)
        message = FloorsMessage(self._ctx.name, self._ctx.region, clock, len(members), floor)
        self._keep(message)
        self._ctx.count("floors_flooded")
        self._ctx.flood(message)

    def _ask_missing(self, names: set[str]) -> None:
        """They reported to a former relay, or before this agent knew that it is one."""
        live = self._membership.regions().get(self._ctx.region, ())
        asked = [m.name for m in live if m.name in names and m.name != self._ctx.name]
        for name in asked:
            self._ask(name)
        if asked:
            self._due = self._ctx.now.mono + RESTLESS

    def _tell_again(self) -> None:
        """Links changed: whoever was beyond a cut, or is new, lacks this region's floor."""
        self._links_version = self._regions.version
        held = self._floors.get(self._ctx.region)
        if held is not None:
            message = replace(held, sender=self._ctx.name, clock=held.clock + 1)
            self._keep(message)
            self._ctx.flood(message)

    def _forget_regions(self) -> None:
        """Floors of regions that nobody declares and nobody is in."""
        known = self._needed_regions().union(self._membership.regions())
        for region in self._floors.keys() - known:
            self._drop(region)

    def _declared_here(self) -> set[str]:
        declared = self._membership.declared
        home = self._ctx.region
        if declared is not None:
            names = {name for name, region in declared.items() if region == home}
        else:
            names = set()
        for member in self._membership.members.values():
            if member.region != home or member.status == LEFT:
                continue
            if declared is None or member.status < DEAD:
                names.add(member.name)
        return names | {self._ctx.name}


def _mark(message: FloorsMessage) -> int:
    text = f"{message.region}\0{message.clock}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _minimum(vectors: list[dict[str, int]]) -> dict[str, int]:
    """Per origin the lowest sequence, without those that some vector lacks."""
    first, *others = sorted(vectors, key=len)
    return {
        origin: min([last, *(vector[origin] for vector in others)])
        for origin, last in first.items()
        if all(origin in vector for vector in others)
    }

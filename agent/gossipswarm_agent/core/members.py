"""The member table: who there is, in which incarnation, and what this agent believes of each.

Merging is a join. Claims about one name are ordered by (incarnation, status, address), so whoever has seen
the same claims believes the same, in whatever order they came (SWIM, section 4.2: a higher incarnation
overrides, at one incarnation suspicion overrides life and death overrides both).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Final

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.messages import MemberRecord

ALIVE: Final = 0
SUSPECT: Final = 1
DEAD: Final = 2
LEFT: Final = 3
STATES: Final = ("alive", "suspect", "dead", "left")
TELL_EVERY: Final = 1.0
"""Seconds between two messages to one that is said to live and was forgotten."""
REMEMBERED: Final = 4096
"""Names of forgotten members whose incarnations are kept."""

_MASK: Final = (1 << 64) - 1


class Member:
    """What is believed of one member. Only the table changes it."""

    __slots__ = (
        "address",
        "api",
        "host",
        "incarnation",
        "labels",
        "lag",
        "mark",
        "name",
        "phase",
        "port",
        "region",
        "since",
        "status",
        "weight",
    )

    def __init__(self, record: MemberRecord, since: float) -> None:
        self.name = record.name
        self.phase = _digest(record.name) / (1 << 64)
        """Where in a round it is probed, 0..1: the same for everybody who probes it."""
        self.lag = 0.0
        """Seconds its event loop was late when it last answered."""
        self.since = since
        """When its status last changed, on this agent's monotonic clock."""
        self.adopt(record)

    def adopt(self, record: MemberRecord) -> None:
        """Take over everything that is claimed."""
        self.region = record.region
        self.weight = _digest(f"{record.region}\0{record.name}")
        """Rendezvous hash: the heaviest members of a region are its relays."""
        self.host = record.host
        self.port = record.port
        self.address: Address = (record.host, record.port)
        self.api = record.api
        self.incarnation = record.incarnation
        self.status = record.status
        self.labels = record.labels
        self.mark = _digest(f"{self.name}\0{self.incarnation}\0{self.host}\0{self.port}")

    def record(self) -> MemberRecord:
        """The claim this agent would make."""
        return MemberRecord(
            self.name,
            self.region,
            self.host,
            self.port,
            self.api,
            self.incarnation,
            self.status,
            self.labels,
        )


def rank(claim: Member | MemberRecord) -> tuple[int, int, str, int]:
    """Of two claims about one name the one that ranks higher holds."""
    return claim.incarnation, claim.status, claim.host, claim.port


class MemberTable:
    """Members by name, this agent apart from the others, with views cached by ``version``."""

    __slots__ = ("_addresses", "_live", "_regions", "hash", "members", "own", "version")

    def __init__(self, me: MemberRecord, now: float) -> None:
        self.own = Member(me, now)
        self.members: dict[str, Member] = {}
        self.version = 0
        """Rises when the live members, their addresses or their regions change."""
        self.hash = self.own.mark
        """64-bit sum over the live members' (name, incarnation, address), this agent included.

        Suspicion is left out because it comes and goes; the dead, because they are forgotten at different times.
        """
        self._live: tuple[Member, ...] | None = None
        self._regions: dict[str, tuple[Member, ...]] | None = None
        self._addresses: dict[Address, str] | None = None

    def find(self, name: str) -> Member | None:
        """Somebody by name, this agent included."""
        return self.own if name == self.own.name else self.members.get(name)

    def put(self, record: MemberRecord, now: float) -> Member:
        """Believe this claim about another member, whatever was believed before."""
        member = self.members.get(record.name)
        if member is None:
            member = self.members[record.name] = Member(record, now)
            if member.status < DEAD:
                self.hash = (self.hash + member.mark) & _MASK
            self._changed()
            return member
        before = (member.status < DEAD, member.address, member.region)
        if member.status < DEAD:
            self.hash = (self.hash - member.mark) & _MASK
        if member.status != record.status:
            member.since = now
        member.adopt(record)
        if member.status < DEAD:
            self.hash = (self.hash + member.mark) & _MASK
        if before != (member.status < DEAD, member.address, member.region):
            self._changed()
        return member

    def set_status(self, member: Member, status: int, now: float) -> None:
        """Change the status of a member at its present incarnation."""
        was_live, is_live = member.status < DEAD, status < DEAD
        member.status = status
        member.since = now
        if was_live != is_live:
            self.hash = (self.hash + (member.mark if is_live else -member.mark)) & _MASK
            self._changed()

    def set_own(self, record: MemberRecord) -> None:
        """This agent's claim about itself."""
        if self.own.status < DEAD:
            self.hash = (self.hash - self.own.mark) & _MASK
        moved = (self.own.status, self.own.address, self.own.region)
        self.own.adopt(record)
        if self.own.status < DEAD:
            self.hash = (self.hash + self.own.mark) & _MASK
        if moved != (self.own.status, self.own.address, self.own.region):
            self._changed()

    def drop(self, name: str) -> None:
        """Forget a member."""
        member = self.members.pop(name)
        if member.status < DEAD:
            self.hash = (self.hash - member.mark) & _MASK
        self._changed()

    def live(self) -> Sequence[Member]:
        """Alive or suspect, without this agent."""
        if self._live is None:
            self._live = tuple(m for m in self.members.values() if m.status < DEAD)
        return self._live

    def regions(self) -> Mapping[str, Sequence[Member]]:
        """Live members by region, sorted by name, this agent among them until it left."""
        if self._regions is None:
            grouped: dict[str, list[Member]] = {}
            here: Iterable[Member] = () if self.own.status >= DEAD else (self.own,)
            for member in (*self.live(), *here):
                grouped.setdefault(member.region, []).append(member)
            self._regions = {
                region: tuple(sorted(grouped[region], key=attrgetter("name")))
                for region in sorted(grouped)
            }
        return self._regions

    def region_of_address(self, address: Address) -> str | None:
        """Region of whoever is known at this address, dead or alive."""
        if self._addresses is None:
            self._addresses = {m.address: m.region for m in self.members.values()}
            self._addresses.update((m.address, m.region) for m in self.live())
            self._addresses[self.own.address] = self.own.region
        return self._addresses.get(address)

    def counts(self, reachable: Callable[[str], bool]) -> dict[tuple[str, str], int]:
        """Members by (region, state); live ones in regions that are not ``reachable`` are said to be that."""
        found: dict[tuple[str, str], int] = {}
        for member in (self.own, *self.members.values()):
            state = STATES[member.status]
            if member.status < DEAD and not reachable(member.region):
                state = "unreachable"
            found[member.region, state] = found.get((member.region, state), 0) + 1
        return found

    def _changed(self) -> None:
        self.version += 1
        self._live = self._regions = self._addresses = None


class Forgotten:
    """The incarnations that forgotten members had, so that no stale claim brings one back. Oldest out."""

    __slots__ = ("_incarnations", "_told_at")

    def __init__(self) -> None:
        self._incarnations: dict[str, int] = {}
        self._told_at: dict[str, float] = {}

    def remember(self, name: str, incarnation: int) -> None:
        """Claims of this name count again only in a higher incarnation."""
        self._incarnations[name] = max(incarnation, self._incarnations.pop(name, -1))
        if len(self._incarnations) > REMEMBERED:
            self.discard(next(iter(self._incarnations)))

    def incarnation(self, name: str) -> int:
        """The last one known, -1 if the name was never forgotten."""
        return self._incarnations.get(name, -1)

    def discard(self, name: str) -> None:
        """The name is in the table again."""
        self._incarnations.pop(name, None)
        self._told_at.pop(name, None)

    def may_tell(self, name: str, now: float) -> bool:
        """Whether its fate was not told to this one within ``TELL_EVERY``; it counts as told now."""
        if now - self._told_at.get(name, -TELL_EVERY) < TELL_EVERY:
            return False
        self._told_at[name] = now
        return True


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

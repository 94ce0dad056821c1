"""Membership: who belongs to the swarm and who of them is alive. SWIM (2002) with Lifeguard (2017).

    prober       finds out who does not answer            (probing.py)
    suspicions   give the accused time to refute          (suspicion.py)
    joining      finds the swarm, and halves of it again  (joining.py)
    admission    lets others in                           (admission.py)
    standing     refutes what is claimed of this agent    (standing.py)
    news         floods what others want to know          (news.py)
    table        what is believed of whom                 (members.py)

This module takes claims in and decides what they change. Tables are compared by hash, and exchanged whole
where they differ. Identity is name and incarnation, never an address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from gossipswarm_agent.core.admission import Admission
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.core.joining import Joining
from gossipswarm_agent.core.members import (
    ALIVE,
    DEAD,
    LEFT,
    STATES,
    SUSPECT,
    Forgotten,
    Member,
    MemberTable,
    rank,
)
from gossipswarm_agent.core.messages import (
    Ack,
    Join,
    MemberRecord,
    Members,
    Message,
    Nack,
    Ping,
    PingRequest,
)
from gossipswarm_agent.core.news import Incoming, News
from gossipswarm_agent.core.probing import LAG_LIMIT, LocalHealth, Prober
from gossipswarm_agent.core.standing import Standing
from gossipswarm_agent.core.suspicion import Suspicions

__all__ = ["ALIVE", "DEAD", "LEFT", "STATES", "SUSPECT", "Member", "Membership"]

LATE: Final = 0.05
"""Seconds by which a tick may be late without being evidence against this agent."""
SETTLE: Final = 0.3
"""Seconds without news before a difference between two tables counts: it may be in flight."""
UNSETTLED: Final = 1.0
"""Seconds of uninterrupted news after which a difference counts all the same."""
TABLE_INTERVAL: Final = 0.5
FORGET_AFTER: Final = 10.0
"""Seconds for which the dead and those that left are remembered although they are not declared."""
HOUSEKEEPING: Final = 5.0
SLACK: Final = 0.5
"""Seconds that housekeeping waits for something else to wake the agent."""


class Membership:
    """The members of the swarm as this agent knows them."""

    def __init__(self, ctx: Context, me: MemberRecord) -> None:
        self._ctx = ctx
        self._table = MemberTable(me, ctx.now.mono)
        self.members: Mapping[str, Member] = self._table.members
        """Everybody but this agent, by name: alive, suspect, dead and left."""
        self.reachable: Callable[[str], bool] = lambda _region: True
        """Whether a region is on this side of every cut. Members beyond one are left alone."""
        self.health = LocalHealth()
        self._news = News(ctx, self._table)
        self._incoming = Incoming(ctx)
        self._standing = Standing(ctx, self._table, self._news, self.health, self._stand_aside)
        self.declared: Mapping[str, str] | None = None
        self._withdrawn: set[str] = set()
        """Names that were declared and are no longer."""
        self.suspicion_version = 0
        """Rises when somebody becomes suspect or is cleared."""
        self._forgotten = Forgotten()
        self._admission = Admission(
            ctx, self._table, self._forgotten, self._news, self._incoming, self._learn
        )
        self._suspicions = Suspicions(ctx)
        self._prober = Prober(ctx, self._table, self.health, self._is_reachable, self._accuse)
        self._joining = Joining(ctx, self._table, self._is_reachable)
        self._housekeeping_at = ctx.now.mono + HOUSEKEEPING
        self._changed_at = self._unsettled_since = ctx.now.mono
        self._noted_hash = self._table.hash
        self._table_sent_at = -TABLE_INTERVAL
        self._handlers: dict[type[Message], Callable[..., None]] = {
            Ping: self._handle_ping,
            Ack: self._handle_ack,
            PingRequest: self._prober.handle_request,
            Nack: self._prober.handle_nack,
            Members: self._handle_members,
            Join: self._admission.handle,
        }

    # --- what others read -------------------------------------------------------------------------

    @property
    def me(self) -> MemberRecord:
        """What this agent claims of itself."""
        return self._table.own.record()

    @property
    def version(self) -> int:
        """Rises when the live members, their addresses or their regions change."""
        return self._table.version

    @property
    def hash(self) -> int:
        """Order-independent 64-bit hash over the live members' names, incarnations and addresses."""
        return self._table.hash

    @property
    def size(self) -> int:
        """Live members, this agent included."""
        return len(self._table.live()) + (self._table.own.status < DEAD)

    @property
    def seeking(self) -> bool:
        """Alone, and looking for the swarm."""
        return not self._table.live() and self._joining.has_seeds

    @property
    def outranked(self) -> bool:
        """Another process uses this name and the swarm sides with it, so that this agent hears nobody.

        It accuses nobody until the other one is gone, and asks now and then whether it is.
        """
        return self._standing.outranked

    def live(self) -> Sequence[Member]:
        """Alive or suspect, without this agent."""
        return self._table.live()

    def regions(self) -> Mapping[str, Sequence[Member]]:
        """Live members by region, sorted by name, this agent included."""
        return self._table.regions()

    def region_of_address(self, address: Address) -> str | None:
        """Region of whoever is known at this address."""
        return self._table.region_of_address(address)

    def records(self) -> list[MemberRecord]:
        """Everything this agent claims, about itself as well."""
        return [self.me, *(member.record() for member in self.members.values())]

    def counts(self) -> dict[tuple[str, str], int]:
        """Members by (region, state); live ones beyond a cut are ``unreachable``."""
        return self._table.counts(self.reachable)

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which ``tick`` has something to do."""
        return min(
            self._prober.deadline,
            self._suspicions.deadline,
            self._joining.deadline,
            self._admission.deadline,
            self._news.deadline,
            self._incoming.deadline,
            self._housekeeping_at + SLACK,
        )

    # --- what the node tells ----------------------------------------------------------------------

    def set_incarnation(self, incarnation: int) -> None:
        """Start in this incarnation: one higher than the journal's."""
        self._standing.claim(incarnation=incarnation)

    def set_peers(
        self, seeds: Iterable[Address], declared: Mapping[str, str] | None = None
    ) -> None:
        """Where to look for the swarm, and who ought to be in it (name to region; None = not known)."""
        if declared != self.declared:
            self._withdrawn = self._withdrawn.union(self.declared or ()).difference(declared or ())
            self.declared = declared
        self._joining.set_seeds(seeds)

    def reschedule(self) -> None:
        """The settings changed."""
        self._prober.schedule()

    def leave(self) -> None:
        """Tell everybody that this agent goes by its own will."""
        self._standing.claim(status=LEFT)
        self._news.publish(self._ctx.name)
        self._news.flush()

    def send_table(self, address: Address) -> None:
        """Our table and somebody else's differ: send ours, unless the difference may still be in flight.

        The receiver answers with what it knows better.
        """
        now = self._ctx.now.mono
        settled = now - self._changed_at >= SETTLE or now - self._unsettled_since >= UNSETTLED
        if settled and now - self._table_sent_at >= TABLE_INTERVAL:
            self._table_sent_at = now
            self._ctx.count("tables_sent")
            self._ctx.send((address,), self._whole_table())

    def handle(self, message: Message, _inbound: Inbound | None = None) -> bool:
        """Take a message in; whether it was one of membership's."""
        handler = self._handlers.get(type(message))
        if handler is None:
            return False
        handler(message)
        self._note_news()
        return True

    def tick(self) -> None:
        """Do what is due."""
        now = self._ctx.now.mono
        deadline = self.deadline
        if now < deadline:
            return
        late = now - deadline
        if late > LATE:
            # A process that did not run has heard nothing: no deadline passes meanwhile.
            self.health.worse()
            self._suspicions.postpone(late)
            self._prober.postpone(late)
            self._ctx.count("late_ticks")
        for record, sender in self._incoming.due():
            self._learn(record, sender, flooded=True)
        self._prober.tick()
        if now >= self._suspicions.deadline:
            self._judge()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING
            self._forget()
        self._joining.tick()
        self._admission.tick()
        if now >= self._news.deadline:
            self._news.flush()
        self._note_news()

    # --- probes -----------------------------------------------------------------------------------

    def _handle_ping(self, message: Ping) -> None:
        if message.target != self._ctx.name:
            self._ctx.count("pings_for_others")  # somebody else had this address before
            return
        if message.record is not None:
            self._standing.hear(message.record, message.sender)
        self._prober.handle_ping(message)
        sender = self.members.get(message.sender)
        if sender is not None and sender.status >= DEAD:
            # It lives and does not know that it is held for dead.
            self._ctx.send((sender.address,), self._direct([sender.record()]))

    def _handle_ack(self, message: Ack) -> None:
        if not self._prober.handle_ack(message):
            self._suspicions.answered(message.sender, message.number)

    def _accuse(self, member: Member, nackers: set[str]) -> None:
        suspicion = self._suspicions.start(member.name, member.incarnation)
        suspicion.grace = min(max(member.lag, self._prober.lag), LAG_LIMIT)
        shortened = self._suspicions.accuse(suspicion, {self._ctx.name, *nackers}, first_hand=True)
        if member.status == ALIVE:
            suspicion.opened_here = True
            self._ctx.count("suspicions")
            self._set_status(member, SUSPECT)
            self._news.publish(member.name)
        elif shortened:
            self._news.publish(member.name)

    def _judge(self) -> None:
        ask, over = self._suspicions.due(self._prober.others(), self.health.factor)
        for suspicion in (*ask, *over):
            member = self.members[suspicion.name]
            if not self.reachable(member.region):
                self._suspicions.clear(suspicion.name)
                self._set_status(member, ALIVE)
        for suspicion in ask:
            if suspicion.name in self._suspicions.open:
                self._prober.ping(self.members[suspicion.name], suspicion.number)
        self._bury([self.members[s.name] for s in over if s.name in self._suspicions.open])

    def _bury(self, dead: Sequence[Member]) -> None:
        """Declare deaths: first to everybody, along the trees that they were part of, then here."""
        records = [replace(member.record(), status=DEAD) for member in dead]
        self._news.flood(records)
        for member, record in zip(dead, records, strict=True):
            self._suspicions.clear(member.name)
            self._set_status(member, DEAD)
            self._ctx.count("deaths_declared")
            # Only the living get the flood; should it be one of them after all, it must know.
            self._ctx.send((member.address,), self._direct([record]))

    # --- claims -----------------------------------------------------------------------------------

    def _handle_members(self, message: Members) -> None:
        if message.flood:
            for record in message.records:
                self._hear(record, message.sender)
            return
        strangers = sum(record.name not in self.members for record in message.records)
        joining = strangers > len(self._table.live())
        news = [
            record.name
            for record in message.records
            if self._learn(record, message.sender, flooded=False, quiet=joining)
        ]
        if not joining:
            # Others may have missed it as well. One that knew less than it was told is the joiner itself.
            for name in news:
                if name not in self._incoming:
                    self._news.repeat(name)
        if message.whole:
            self._answer(message)

    def _hear(self, record: MemberRecord, sender: str) -> None:
        held = self._table.find(record.name)
        lived = held is not None and held.status < DEAD
        if lived == (record.status < DEAD) or held is self._table.own:
            self._learn(record, sender, flooded=True)
            self._news.heard(record)
        elif held is None or rank(record) > rank(held):
            self._incoming.add(record, sender)
            self._suspicions.clear(record.name)  # its death is declared; no need to do it again

    def _answer(self, message: Members) -> None:
        """Send the sender of a whole table what it lacks, or holds an older claim of."""
        theirs = {record.name: rank(record) for record in message.records}
        lacking = [
            member.record()
            for member in (self._table.own, *self.members.values())
            if (
                rank(member) > theirs[member.name]
                if member.name in theirs
                else member.status < DEAD
            )
        ]
        sender = self.members.get(message.sender)
        if lacking and sender is not None:
            self._ctx.send((sender.address,), self._direct(lacking))

    def _learn(
        self, record: MemberRecord, sender: str, *, flooded: bool, quiet: bool = False
    ) -> bool:
        """Take a claim in. Whether it was news that others may want, too."""
        if record.name == self._ctx.name:
            self._standing.hear(record, sender)
            return False
        held = self.members.get(record.name)
        if held is None:
            return self._meet(record, sender, quiet=quiet)
        if record.status == SUSPECT and not self.reachable(record.region):
            return False
        if (record.incarnation, record.status) == (held.incarnation, held.status):
            if record.status == SUSPECT and flooded:
                self._suspect(held, {sender})
            if held.address == (record.host, record.port):
                return False
            self._standing.note_conflict(record, held.record())
        if rank(record) <= rank(held):
            return False
        elsewhere = held.status < DEAD and held.address != (record.host, record.port)
        if elsewhere and (record.status >= DEAD or not flooded):
            # Back after a farewell, moved, or two processes with one name: who is at our address must know.
            self._ctx.send((held.address,), self._direct([record]))
        asked = not flooded and held.status < DEAD and self.reachable(held.region)
        if record.status == DEAD and asked:
            # As in memberlist: what a table says of the dead may be old news from beyond a cut. Ask first.
            accusation = replace(record, status=SUSPECT)
            if rank(accusation) > rank(held):
                self._put(accusation)
            self._suspicions.confirm(self._suspicions.start(held.name, held.incarnation))
            return False
        self._put(record)
        if record.status == SUSPECT:
            self._suspect(held, {sender} if flooded else set())
        return record.status != SUSPECT

    def _meet(self, record: MemberRecord, sender: str, *, quiet: bool) -> bool:
        """A name that is not in the table."""
        lost = self._forgotten.incarnation(record.name)
        if record.incarnation <= lost:
            self._ctx.count("ghosts_refused")
            if record.status < DEAD and self._forgotten.may_tell(record.name, self._ctx.now.mono):
                # Should it live, it can say so.
                fate = replace(record, incarnation=lost, status=DEAD)
                self._ctx.send(((record.host, record.port),), self._direct([fate]))
            return False
        if record.status >= DEAD and record.name not in (self.declared or (record.name,)):
            self._forgotten.remember(record.name, record.incarnation)
            return False
        if len(self.members) + 1 >= self._ctx.settings.max_agents and not self._make_room():
            self._ctx.count("members_refused")
            return False
        member = self._table.put(record, self._ctx.now.mono)
        self._forgotten.discard(record.name)
        if member.status == SUSPECT:
            self._suspect(member, {sender})
        if member.status < DEAD and not quiet:
            self._notify("member-up", member)
        return member.status != SUSPECT

    def _suspect(self, member: Member, accusers: set[str]) -> None:
        suspicion = self._suspicions.start(member.name, member.incarnation)
        self._suspicions.accuse(suspicion, accusers, first_hand=False)

    def _stand_aside(self, outranked: bool) -> None:
        self._prober.suspended = outranked
        self._joining.outside = outranked
        if outranked:
            self._joining.ask_soon()
            for name in list(self._suspicions.open):
                self._suspicions.clear(name)
                self._set_status(self.members[name], ALIVE)

    # --- changing the table -----------------------------------------------------------------------

    def _put(self, record: MemberRecord) -> None:
        held = self.members[record.name]
        was_live, was_suspect = held.status < DEAD, held.status == SUSPECT
        member = self._table.put(record, self._ctx.now.mono)
        if member.status != SUSPECT:
            self._suspicions.clear(member.name)
        self._note_change(member, was_live, was_suspect)

    def _set_status(self, member: Member, status: int) -> None:
        was_live, was_suspect = member.status < DEAD, member.status == SUSPECT
        self._table.set_status(member, status, self._ctx.now.mono)
        self._note_change(member, was_live, was_suspect)

    def _note_change(self, member: Member, was_live: bool, was_suspect: bool) -> None:
        if was_suspect != (member.status == SUSPECT):
            self.suspicion_version += 1
        if was_live and member.status >= DEAD:
            self._notify("member-down", member)
        elif not was_live and member.status < DEAD:
            self._notify("member-up", member)

    def _notify(self, event: str, member: Member) -> None:
        detail = {
            "member": member.name,
            "region": member.region,
            "status": STATES[member.status],
            "incarnation": member.incarnation,
            "address": f"{member.host}:{member.port}",
        }
        self._ctx.effects.append(Notify(event, detail))

    def _note_news(self) -> None:
        if self._table.hash == self._noted_hash:
            return
        self._noted_hash = self._table.hash
        now = self._ctx.now.mono
        if now - self._changed_at >= SETTLE:
            self._unsettled_since = now
        self._changed_at = now

    def _is_reachable(self, region: str) -> bool:
        return self.reachable(region)

    def _forget(self) -> None:
        """Drop who is gone and, as declared, does not come back."""
        if self.declared is None:
            return
        now = self._ctx.now.mono
        for name in sorted(self.members.keys() - self.declared.keys()):
            member = self.members[name]
            gone = member.status >= DEAD and now - member.since >= FORGET_AFTER
            # Removed while cut off; one that never was declared may be newer than the declaration that we have.
            if gone or (name in self._withdrawn and not self.reachable(member.region)):
                self._forgotten.remember(name, member.incarnation)
                if member.status < DEAD:
                    self._suspicions.clear(name)
                    self._set_status(member, DEAD)
                self._table.drop(name)

    def _make_room(self) -> bool:
        """Forget whoever has been gone longest."""
        gone = [member for member in self.members.values() if member.status >= DEAD]
        if not gone:
            return False
        oldest = min(gone, key=lambda member: (member.since, member.name))
        self._forgotten.remember(oldest.name, oldest.incarnation)
        self._table.drop(oldest.name)
        return True

    def _direct(self, records: list[MemberRecord]) -> Members:
        return Members(self._ctx.name, records, flood=False)

    def _whole_table(self) -> Members:
        return Members(self._ctx.name, self.records(), flood=False, whole=True)

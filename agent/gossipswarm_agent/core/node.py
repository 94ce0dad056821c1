"""One agent as a state machine: events in, effects out, no input or output of its own.

    node.handle(event, now) -> list[Effect]

The node routes; what happens is decided by its parts, each of which owns one concern:

    state        leaves, merge, history          membership   who is alive (SWIM + Lifeguard)
    spread       trees and forwarding            regions      cuts between regions
    relay        the merged stream under load    floors       what everybody is known to have
    rumors       the textbook mode               receipts     proof of delivery
    repair       digests, deltas, comparison     meetings     regions that come back
    writes       what callers here write         skew         clocks that run ahead

Effects of one event are in the order in which they must be carried out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from gossipswarm_agent.core import messages as wire
from gossipswarm_agent.core.batch import validate
from gossipswarm_agent.core.collector import Collector
from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.effects import Append, Changed, Effect, Notify, Reply
from gossipswarm_agent.core.events import (
    AwaitConvergence,
    Compare,
    Degrade,
    Durable,
    Event,
    HandOver,
    JournalFailed,
    Leave,
    LocalWrite,
    PeerList,
    Received,
    Release,
    Tick,
)
from gossipswarm_agent.core.floors import Floors
from gossipswarm_agent.core.frames import Frame, Inbound
from gossipswarm_agent.core.identity import NodeIdentity
from gossipswarm_agent.core.meeting import Meetings
from gossipswarm_agent.core.membership import ALIVE, Member, Membership
from gossipswarm_agent.core.parameters import SETTINGS_END, SETTINGS_KEY, Parameters
from gossipswarm_agent.core.receipts import Receipts
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.relay import Relay
from gossipswarm_agent.core.repair import Repair
from gossipswarm_agent.core.results import Change, Reading
from gossipswarm_agent.core.rumors import Peers, Rumors
from gossipswarm_agent.core.settings import Settings
from gossipswarm_agent.core.skew import SkewJudge
from gossipswarm_agent.core.spread import CROSSLINK, DIRECT, HOME_TREES, UPLINK, Spread
from gossipswarm_agent.core.state import State
from gossipswarm_agent.core.versions import agent_of
from gossipswarm_agent.core.writing import LocalWrites

RELEASE_INTERVAL: Final = 0.1
_REPLICATION: Final = (
    wire.Batch, wire.Digest, wire.Vector, wire.Delta, wire.Pull,
    wire.TreeRequest, wire.TreeReply,
)  # fmt: skip
_EVERYDAY: Final = frozenset((wire.Ping, wire.Ack, wire.Heartbeat))
"""Messages that idle agents exchange all the time; they concern nobody but membership and regions."""


_Handler: TypeAlias = Callable[[Any, Member], None]


class Node:
    """The core of one agent. Not thread-safe; belongs to whoever drives it."""

    def __init__(self, identity: NodeIdentity, settings: Settings, seed: int, now: Instant) -> None:
        self.identity = identity
        ctx = self._ctx = Context(identity.name, identity.region, settings, random.Random(seed))
        ctx.now = now
        ctx.flood = self._flood
        ctx.hashes = self._hashes
        record = wire.MemberRecord(
            identity.name,
            identity.region,
            identity.host,
            identity.port,
            identity.api,
            1,
            0,
            identity.labels,
        )
        self.state = State(ctx, identity.origin)
        self.membership = Membership(ctx, record)
        self.regions = Regions(ctx, self.membership)
        self.floors = Floors(ctx, self.membership, self.regions)
        self.spread = Spread(ctx, self.membership, self.regions)
        self.relay = Relay(
            ctx, self.regions, self.spread, identity.datagram_limit, lambda: self.membership.size
        )
        peers = Peers(ctx, self.membership, self.regions)
        self.rumors = Rumors(ctx, self.membership, peers)
        self.receipts = Receipts(ctx, self.membership, self.state.vector)
        self.repair = Repair(
            ctx,
            self.membership,
            peers,
            self.state,
            self._absorb,
            self._note_changed,
            lambda: self.relay.busy,
            lambda: self.rumors.hot,
        )
        self.meetings = Meetings(ctx, self.membership, self.regions, self.spread, self.repair)
        self.writes = LocalWrites(
            ctx, self.state, self.receipts, self._disseminate, self._note_changed
        )
        self.collector = Collector(ctx, self.state, self.floors)
        self.skew = SkewJudge(ctx, self.membership, self.state.clock)
        self._handlers = self._handlers_of()
        self._parts = (
            self.spread,
            self.relay,
            self.rumors,
            self.repair,
            self.receipts,
            self.skew,
            self.meetings,
            self.collector,
        )
        """All that have deadlines, but for those that never rest."""
        self._busied = True
        """Something happened that may have moved a deadline of ``_parts``."""
        self._links = (-1, -1)
        self._calm_until = now.mono
        """Earliest deadline of ``_parts``."""
        self.parameters = Parameters(ctx, self.state, settings, self._reschedule)
        self._catching_up = False
        self._changed_keys: list[str] = []
        self._release_due = float("inf")
        self.deadline = now.mono
        """Monotonic seconds at which the next Tick is wanted; read anew after every ``handle``."""

    # --- life -------------------------------------------------------------------------------------

    def restore(self, records: Iterable[bytes], *, damaged: bool = False) -> None:
        """Replay the journal, before the first event.

        ``damaged``: parts of it were lost, so claims without rows are not believed and are fetched again.
        """
        for record in records:
            self.state.restore(record, trust_seen=not damaged)
        self.state.restored()
        self._ctx.effects = []
        self._changed_keys.clear()
        self.membership.set_incarnation(self.state.incarnation + 1)
        self.state.incarnation = self.membership.me.incarnation
        self.parameters.apply()
        self._ctx.effects = []

    def snapshot(self) -> Iterator[bytes]:
        """Journal records that stand for everything so far."""
        self.state.incarnation = self.membership.me.incarnation
        return self.state.snapshot()

    @property
    def settings(self) -> Settings:
        """Parameters in force."""
        return self._ctx.settings

    @property
    def counters(self) -> dict[str, int]:
        """Monotonic counters of the core, for the metrics."""
        return self._ctx.counters

    def handle(self, event: Event, now: Instant) -> list[Effect]:
        """What happens because of ``event``. Never raises on bytes from outside."""
        ctx = self._ctx
        ctx.now = now
        effects: list[Effect] = []
        ctx.effects = effects
        if type(event) is Received:
            self._receive(event.frames)
        elif type(event) is Tick:
            ctx.lag = max(0.0, now.mono - self.deadline)
            self._tick()
        else:
            self._busied = True
            self._order(event)
        self._finish()
        ctx.effects = []
        return effects

    def _order(self, event: Event) -> None:
        """Something that this agent's host asks for or reports."""
        match event:
            case LocalWrite():
                self.writes.write(event, self.parameters.refusal(event))
            case Durable():
                self.writes.durable(event.token)
                self.repair.handover.durable(event.token)
            case JournalFailed():
                self.writes.failed(event)
                self.repair.handover.failed(event.token)
            case PeerList():
                self.membership.set_peers(event.seeds, event.declared)
            case Compare():
                self.repair.comparison.order(event.token, event.peer)
            case HandOver():
                self.repair.handover.order(event)
            case Leave():
                self.membership.leave()
            case AwaitConvergence():
                self.receipts.wait(event.token, event.dot, event.threshold)
            case Release():
                self._ctx.effects.append(Reply(event.token, self.meetings.release()))
            case Degrade():
                self.parameters.degrade(event.enabled)

    def _finish(self) -> None:
        self.receipts.flush()
        if self._changed_keys:
            keys = tuple(dict.fromkeys(self._changed_keys))
            self._changed_keys.clear()
            self._ctx.effects.append(Changed(keys))
            # The swarm's own keys come first in order, so one look at the least of many is enough.
            if min(keys) <= SETTINGS_END and any(key.startswith(SETTINGS_KEY) for key in keys):
                self.parameters.apply()
        links = self.membership.version, self.regions.version
        if self._busied or links != self._links or self.regions.reconnected:
            self._busied, self._links = False, links
            self.meetings.watch()
            self.collector.watch()
            deadlines = [part.deadline for part in self._parts]
            self._calm_until = min(*deadlines, self._release_due)
        self.deadline = min(
            self.membership.deadline,
            self.regions.deadline,
            self.floors.deadline,
            self._calm_until,
        )

    def _tick(self) -> None:
        now = self._ctx.now.mono
        if self.regions.is_relay:
            self.regions.vector_hash = self.repair.vector_hash
        self.membership.tick()
        self.regions.tick()
        self.floors.tick(self.state.vector)
        if self._calm_until > now:
            return
        self._busied = True
        for part in self._parts:
            if part.deadline <= now:
                part.tick()
        if self._release_due <= now:
            self._release_due = float("inf")
            applied = self.state.release()
            if applied.batch is not None:
                self._ctx.effects.append(Append(wire.encode(applied.batch)))
            self._note_applied(applied)
            if self.state.held_count:
                self._release_due = now + RELEASE_INTERVAL

    # --- local writes -----------------------------------------------------------------------------

    def _disseminate(self, batch: wire.Batch, frame: Frame) -> None:
        """An own batch goes out: by trees, by a relay, or by rumor."""
        self.repair.news()
        self._ctx.count("batches_out_spread")
        self._ctx.count("updates_out_spread", len(batch.keys))
        if not self._ctx.settings.eager:
            self.rumors.hear(frame, 1)
            return
        self.relay.observe(len(batch.keys))
        if not self.relay.offer(batch, frame):
            self.spread.send(frame)

    # --- the network ------------------------------------------------------------------------------

    def _receive(self, frames: list[Inbound]) -> None:
        ctx = self._ctx
        members = self.membership.members
        for inbound in frames:
            try:
                message = wire.decode(inbound.frame.body)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
                ctx.count("dropped_malformed")
                continue
            sender = message.sender
            if sender == ctx.name:
                # Our own frame came back down somebody's tree, or somebody took our name.
                self.spread.forward(inbound, sender)
                continue
            member = members.get(sender)
            if (
                member is not None
                and member.region != ctx.region
                and (inbound.hop == 1 or inbound.tree == CROSSLINK)
            ):
                # Straight from there: what others passed on proves nothing about the link.
                self.regions.heard(member.region)
            kind = type(message)
            if kind not in _EVERYDAY:
                self._busied = True
            if kind is wire.Batch:
                self._receive_batch(message, inbound, sender)
            elif inbound.tree == DIRECT or self.spread.forward(inbound, sender):
                self._route(message, inbound, member)

    def _receive_batch(self, batch: wire.Batch, inbound: Inbound, sender: str) -> None:
        if self.meetings.closed(sender):
            return
        if not self.spread.forward(inbound, sender):
            return
        try:
            validate(batch)
        except ValueError:
            self._ctx.count("dropped_invalid")
            return
        fresh = self._absorb(batch, inbound)
        tree = inbound.tree
        if tree in HOME_TREES:
            self.relay.heard(sender)
        if fresh is not None and tree in (UPLINK, CROSSLINK):
            size = len(inbound.frame.body)
            # Only what was new: a dot that comes twice in one window must not be merged twice.
            self.relay.take(fresh, size, inbound.hop, crossing=tree == UPLINK)

    def _absorb(self, batch: wire.Batch, inbound: Inbound | None) -> wire.Batch | None:
        """Apply a batch from elsewhere; its rows that were new, if any."""
        origin = self.state.origin
        for run in batch.runs:
            if run[0] == origin:
                self.relay.returned(origin, run[1] + run[2] - 1)
        applied = self.state.apply(batch)
        if applied.skewed:
            self.skew.tell(applied.skewed)
        if self.state.held_count and self._release_due == float("inf"):
            self._release_due = self._ctx.now.mono + RELEASE_INTERVAL
        if batch.traced and inbound is not None:
            self.receipts.owe(batch.traced, inbound.hop, applied.batch)
        if applied.batch is None:
            return None
        kind = "repair" if inbound is None else "spread"
        self._ctx.count(f"batches_in_{kind}")
        self._ctx.count(f"updates_in_{kind}", applied.rows)
        if inbound is not None:
            self._ctx.count(f"hops_{inbound.hop}")
        # Only what was merged is journalled: a replay asks no clock whether a row is from the future.
        if inbound is not None and applied.batch is batch:
            self._ctx.effects.append(Append(inbound.frame.body))
        else:
            self._ctx.effects.append(Append(wire.encode(applied.batch)))
        self._note_applied(applied)
        self.repair.news()
        self.relay.observe(applied.rows)
        if inbound is None:
            self.receipts.repaired(applied.fresh)
        else:
            if not self._ctx.settings.eager:
                self.rumors.hear(inbound.frame, inbound.hop + 1)
            if self.state.vector.ahead:
                self.repair.noticed(batch.sender)
        return applied.batch

    def _note_applied(self, applied: Any) -> None:
        self._changed_keys.extend(applied.changed)
        for loss in applied.losses:
            self._ctx.count(f"conflicts_{loss.resolution}")
            self._ctx.effects.append(
                Notify(
                    "conflict",
                    {
                        "key": loss.key,
                        "resolution": loss.resolution,
                        "winning_origin": agent_of(loss.winning_origin),
                        "losing_origin": agent_of(loss.origin),
                    },
                )
            )

    def _note_changed(self, keys: Sequence[str]) -> None:
        self._changed_keys.extend(keys)

    def _route(self, message: wire.Message, inbound: Inbound, member: Any) -> None:
        if self.membership.handle(message, inbound):
            self._catch_up(message.sender)
            if type(message) is wire.Ping:
                self._compare_hashes(message.sender, message.vector, message.members)
            return
        if type(message) is wire.Heartbeat:
            self._compare_hashes(message.sender, message.vector, message.members)
        if self.regions.handle(message, inbound) or self.floors.handle(message, inbound):
            return
        if member is None:
            member = self.membership.members.get(message.sender)
        if member is None:
            # A stranger cannot be answered: gossip leaves from ports that nobody listens on.
            self._ctx.count("dropped_stranger")
            return
        if isinstance(message, _REPLICATION) and self.meetings.closed(message.sender):
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            self._ctx.count("dropped_unexpected")
        else:
            handler(message, member)

    def _handlers_of(self) -> dict[type, _Handler]:
        repair, receipts = self.repair, self.receipts
        comparison = repair.comparison
        return {
            wire.Digest: lambda m, member: repair.handle_digest(m, member.address),
            wire.Vector: self._receive_vector,
            wire.Delta: self._receive_delta,
            wire.Pull: lambda m, member: repair.handle_pull(m, member.address),
            wire.Receipt: lambda m, _: receipts.handle_receipt(m),
            wire.ReceiptRequest: lambda m, _: receipts.handle_request(m),
            wire.HoldRequest: lambda m, member: repair.handover.handle_request(m, member.address),
            wire.HoldReply: lambda m, _: repair.handover.handle_reply(m),
            wire.TreeRequest: lambda m, member: comparison.handle_request(m, member.address),
            wire.TreeReply: lambda m, member: comparison.handle_reply(m, member.address),
            wire.ClockSkew: lambda m, _: self.skew.accused(m),
        }

    def _hashes(self) -> tuple[int | None, int]:
        return self.repair.vector_hash, self.membership.hash

    def _compare_hashes(self, name: str, vector: int | None, members: int) -> None:
        """Probes and heartbeats carry what a digest would say: idle agents send none."""
        member = self.membership.members.get(name)
        if vector is not None and member is not None and not self.meetings.closed(name):
            mode = self._ctx.settings.mode
            self.repair.compare_hashes(
                vector, members, member.address, push=mode != "pull", pull=mode != "push"
            )

    def _catch_up(self, name: str) -> None:
        """Met the swarm just now: get what it has at once, not at the next digest."""
        if self._catching_up or self.repair.synced:
            return
        member = self.membership.members.get(name)
        if member is not None and member.status == ALIVE:
            self._catching_up = True
            self.repair.exchange(member.address)

    def _receive_vector(self, vector: wire.Vector, member: Member) -> None:
        self._check_own_origin(vector)
        self.repair.handle_vector(vector, member.address)

    def _receive_delta(self, delta: wire.Delta, member: Member) -> None:
        for loss in delta.losses:
            self._ctx.count(f"losses_{loss.resolution}")
        fresh = self.repair.handle_delta(delta, member.address)
        if member.region != self._ctx.region and self.regions.is_relay:
            # What a relay learns from another region is news for its own. It goes down this agent's tree,
            # which the others compute from the sender in the frame.
            for batch in fresh:
                frame = Frame(wire.encode(replace(batch, sender=self._ctx.name)))
                self.spread.send(frame, home_only=True)

    def _check_own_origin(self, message: wire.Vector) -> None:
        """Peers know more of our writes than we do: our disk was restored from an older copy."""
        known = message.seen.get(self.state.origin, 0)
        if known <= self.state.sequence:
            return
        self._ctx.count("epochs_raised")
        batch = self.state.renumber(f"{self._ctx.name}/{self._ctx.now.wall}")
        self._ctx.effects.append(Append(self.state.identity_record()))
        if batch is not None:
            frame = Frame(wire.encode(batch))
            self._ctx.effects.append(Append(frame.body))
            self._disseminate(batch, frame)

    # --- regions ----------------------------------------------------------------------------------

    def _reschedule(self) -> None:
        self.repair.reschedule()
        self.membership.reschedule()

    def _flood(self, message: wire.Message) -> None:
        self.spread.send(Frame(wire.encode(message)))

    # --- reading ----------------------------------------------------------------------------------

    def read(self, key: str) -> Reading | None:
        """Visible value of a key; ``""`` is the whole tree without the swarm's own part."""
        return self.state.read(key)

    def change(self, key: str) -> Change:
        """Visible value of a leaf, as watchers get it."""
        return self.state.change(key)

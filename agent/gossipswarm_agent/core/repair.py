"""What makes up for every loss: digests, deltas, pulls and the full comparison.

Each interval a digest (two hashes) goes to a few random peers. Where the hashes differ, vectors are
exchanged and the missing ranges follow (delta). A gap in an origin's sequence is pulled at once. What the
vectors cannot know of is found by comparison (comparison.py).

Digests follow the activity: an interval apart while something changes, backing off to five seconds. Probes
and heartbeats carry the same hashes, so idle agents need no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gossipswarm_agent.core.batch import open_batch
from gossipswarm_agent.core.comparison import Comparison
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.core.handover import Handover
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import (
    Batch,
    Delta,
    Digest,
    Pull,
    Ranges,
    Vector,
)
from gossipswarm_agent.core.rumors import Peers
from gossipswarm_agent.core.state import State
from gossipswarm_agent.core.versions import VersionVector, common

IDLE_INTERVAL: Final = 5.0
"""Seconds between digests when nothing is new; probes and heartbeats carry the same hashes meanwhile."""
EXCHANGE_PAUSE: Final = 0.05
"""Seconds between two exchanges of vectors that hashes make us begin."""
BACKOFF: Final = 2.0
"""Factor between two intervals without news, up to ``IDLE_INTERVAL``."""
SETTLE: Final = 0.06
"""Seconds without news before a difference counts: what is in flight needs no repair."""
SETTLE_LIMIT: Final = 2.0
"""Under steady writes a difference counts all the same once this long has passed since an exchange."""
ONGOING: Final = 1.5
"""Intervals within which a digest follows another only because there are new writes."""
BUSY_INTERVAL: Final = 0.5
STEADY: Final = 0.25
"""Seconds without news after which a stream of writes is over."""
SETTLED: Final = 1.0
"""Seconds after which a row that was not seen by somebody counts as lost to it, under steady writes."""
GAP_GRACE: Final = 0.04
"""Seconds for reordered frames to close a gap before it is pulled."""
STREAM_CHUNK: Final = 256 * 1024
"""Bytes of batches in one part of a delta."""


class Repair:
    """Brings two agents to the same state whatever was lost on the way."""

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        peers: Peers,
        state: State,
        absorb: Callable[[Batch, Inbound | None], Batch | None],
        changed: Callable[[list[str]], None],
        busy: Callable[[], bool],
        hot: Callable[[], bool],
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._peers = peers
        self._state = state
        self._absorb = absorb
        self._changed = changed
        self._busy = busy
        self._hot = hot
        self._news_at = float("-inf")
        self._pace = 0.5
        self._lag = 0.0
        self._exchanged_at = float("-inf")
        self._digest_due = ctx.now.mono
        self._digest_at = float("-inf")
        self._gap_due = float("inf")
        self._gap_source: str | None = None
        self._gaps: Ranges = {}
        self.comparison = Comparison(
            ctx, membership, peers, state, changed, self._claim, self._in_flight
        )
        self.handover = Handover(ctx, membership, state, self._fetch)
        self._old: VersionVector | None = None
        self._old_at = float("-inf")
        self._older: VersionVector | None = None
        self.synced = False
        """A first exchange with somebody is complete."""

    # --- time -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return min(
            self._digest_due, self._gap_due, self.comparison.deadline, self.handover.deadline
        )

    def news(self) -> None:
        """Something new became known here: digests go out at the full rate for a while."""
        now = self._ctx.now.mono
        self._news_at = now
        self._pace = 0.0
        self._digest_due = min(self._digest_due, now + self._interval())

    def reschedule(self) -> None:
        """The intervals in force have changed."""
        now = self._ctx.now.mono
        self._digest_due = min(self._digest_due, now + self._interval())
        self.comparison.reschedule()

    def _interval(self) -> float:
        settings = self._ctx.settings
        interval = settings.interval / 1000
        if not settings.eager and settings.mode == "pull":
            return interval
        if self._is_steady():
            return max(interval, BUSY_INTERVAL)
        return max(interval, self._pace)

    def tick(self) -> None:
        """Send what is due."""
        now = self._ctx.now.mono
        if self._digest_due <= now:
            # Jitter keeps the agents of one machine from stepping together.
            self._digest_due = now + self._interval() * self._ctx.rng.uniform(0.9, 1.1)
            interval = self._ctx.settings.interval / 1000
            self._pace = min(IDLE_INTERVAL, max(self._pace, interval) * BACKOFF)
            self._send_digests()
        if self._gap_due <= now:
            self._pull_gaps()
        if self.comparison.deadline <= now:
            self.comparison.tick()
        if self.handover.deadline <= now:
            self.handover.tick()

    # --- digests and vectors ----------------------------------------------------------------------

    def _is_steady(self) -> bool:
        """Writes come in a steady stream, now; not only by the average of the last seconds."""
        return self._busy() and self._ctx.now.mono - self._news_at < STEADY

    def _send_digests(self) -> None:
        if self._tells_rumors() and self._hot():
            self._pace = 0.0
            return  # the news is being told; who misses it is found afterwards
        settings = self._ctx.settings
        now = self._ctx.now.mono
        # One will do where a difference is unlikely, and while writes keep the digests coming anyway.
        is_idle = self._pace >= IDLE_INTERVAL
        goes_on = settings.eager and now - self._digest_at < ONGOING * settings.interval / 1000
        self._digest_at = now
        count = 1 if is_idle or goes_on or self._is_steady() else settings.fanout
        peers = self._peers.choose(count)
        if peers:
            mode = settings.mode
            digest = Digest(
                self._ctx.name,
                self._state.vector.hash,
                self._membership.hash,
                mode != "pull",
                mode != "push",
            )
            self._ctx.send([peer.address for peer in peers], digest)

    def handle_digest(self, message: Digest, address: Address) -> None:
        """Compare hashes; answer only a difference that is not merely in flight."""
        self.compare_hashes(
            message.vector, message.members, address, push=message.push, pull=message.pull
        )

    def compare_hashes(
        self, vector: int, members: int, address: Address, *, push: bool, pull: bool
    ) -> None:
        """Somebody at ``address`` has these hashes (0 = not said), and would push to us or pull from us."""
        now = self._ctx.now.mono
        if members and members != self._membership.hash:
            self._membership.send_table(address)
        if vector == self._state.vector.hash:
            self.synced = True
        elif self._in_flight():
            self._ctx.count("digests_in_flight")
        elif now - self._exchanged_at >= EXCHANGE_PAUSE:
            self._exchanged_at = now
            self._send_vector(address, want=push, reply=pull)

    def _in_flight(self) -> bool:
        """Whether a difference may be nothing but news that is still on its way."""
        now = self._ctx.now.mono
        settings = self._ctx.settings
        if settings.eager:
            # A loaded machine takes longer to deliver what is under way.
            self._lag = max(self._ctx.lag, self._lag * 0.9)
            settle = SETTLE + 4 * self._lag
            return now - self._news_at < settle and now - self._exchanged_at < SETTLE_LIMIT
        return self._tells_rumors() and self._hot()

    @property
    def vector_hash(self) -> int | None:
        """What probes and heartbeats say of the vector: nothing while rumors are being told."""
        if self._tells_rumors() and self._hot():
            return None
        return self._state.vector.hash

    def _tells_rumors(self) -> bool:
        settings = self._ctx.settings
        return not settings.eager and settings.mode != "pull"

    def exchange(self, address: Address) -> None:
        """Bring both sides to the same state now, whatever may be on its way."""
        self._send_vector(address, want=True, reply=True, apart=True)

    def _fetch(self, address: Address) -> None:
        """Get from there what is missing here, now."""
        self._send_vector(address, want=True, reply=False, apart=True)

    def _send_vector(
        self, address: Address, *, want: bool, reply: bool, apart: bool = False
    ) -> None:
        vector = self._state.vector
        self._ctx.count("vectors_sent")
        self._ctx.send(
            [address], Vector(self._ctx.name, vector.seen, vector.ahead, want, reply, apart)
        )

    def handle_vector(self, message: Vector, address: Address) -> None:
        """Send what the other lacks, and ask for what we lack."""
        vector = self._state.vector
        self._exchanged_at = self._ctx.now.mono
        if message.want:
            known = vector if message.apart else self._settled_vector()
            lacking = known.missing_from(message.seen, message.ahead) if known else None
            if lacking:
                self._send_delta(address, lacking)
        if message.reply and _knows_more(message, vector.seen):
            self._send_vector(address, want=True, reply=False, apart=message.apart)
        elif not _knows_more(message, vector.seen):
            self.synced = True

    def _settled_vector(self) -> VersionVector | None:
        """What may be sent as missing: under steady writes, only what has been known for a while.

        The rest is on its way to everybody, and would be most of every delta.
        """
        vector = self._state.vector
        if not self._is_steady():
            self._older = self._old = None
            return vector
        now = self._ctx.now.mono
        if self._old is None or now - self._old_at >= SETTLED:
            self._older, self._old, self._old_at = self._old, VersionVector(vector.seen), now
        return self._older

    def handle_pull(self, message: Pull, address: Address) -> None:
        """Send the ranges, as far as we have them."""
        vector = self._state.vector
        held: Ranges = {}
        for origin, ranges in message.ranges.items():
            top = vector.seen.get(origin, 0)
            known = [(low, min(high, top)) for low, high in ranges if low <= top]
            known += [
                (max(low, first), min(high, last))
                for low, high in ranges
                for first, last in vector.ahead.get(origin, ())
                if max(low, first) <= min(high, last)
            ]
            if known:
                held[origin] = known
        if held:
            self._send_delta(address, held)

    def _send_delta(self, address: Address, ranges: Ranges) -> None:
        """In parts, so that no message is larger than a stream likes; claims come with the last."""
        self._ctx.count("deltas_sent")
        for extract in self._state.rows_for(ranges, STREAM_CHUNK):
            self._ctx.send(
                [address],
                Delta(
                    self._ctx.name,
                    batches=extract.batches,
                    claims=extract.claims,
                    losses=extract.losses,
                    collected=extract.collected,
                    last=extract.last,
                ),
            )

    def handle_delta(self, message: Delta, address: Address) -> list[Batch]:
        """Apply what we lacked; the rows that were fresh."""
        fresh: list[Batch] = []
        for body in message.batches:
            batch = self._opened(body)
            absorbed = self._absorb(batch, None) if batch is not None else None
            if absorbed is not None:
                fresh.append(absorbed)
        self._state.add_losses(message.losses)
        if message.collected:
            self.comparison.begin(message.sender, address, None, message.claims)
        else:
            self._claim(message.claims)
        self.synced = self.synced or message.last
        if fresh:
            self._ctx.count("rows_repaired", sum(len(batch.keys) for batch in fresh))
        return fresh

    def _opened(self, body: bytes) -> Batch | None:
        batch = open_batch(body)
        if batch is None:
            self._ctx.count("dropped_invalid")
        return batch

    def _claim(self, claims: Ranges) -> None:
        if claims and self._state.claim(claims):
            self.news()

    # --- gaps -------------------------------------------------------------------------------------

    def noticed(self, sender: str) -> None:
        """A batch from this agent left a gap below it: pull if it does not close by itself."""
        if self._gap_due == float("inf"):
            self._gap_due = self._ctx.now.mono + self._gap_grace()
            self._gaps = self._state.vector.gaps()
        self._gap_source = sender

    def _gap_grace(self) -> float:
        return SETTLED if self._is_steady() else GAP_GRACE + 4 * self._ctx.lag

    def _pull_gaps(self) -> None:
        """Pull what was missing a grace ago and still is; look again for what is missing since."""
        self._gap_due = float("inf")
        gaps = self._state.vector.gaps()
        if not gaps:
            return
        lasting = common(self._gaps, gaps)
        self._gaps = gaps
        self._gap_due = self._ctx.now.mono + self._gap_grace()
        member = self._membership.members.get(self._gap_source or "")
        chosen = [member] if member is not None else self._peers.choose(1)
        if chosen and lasting:
            self._ctx.count("gaps_pulled")
            self._ctx.send([chosen[0].address], Pull(self._ctx.name, lasting))
            # Until it is closed: another one is asked each time.
            self._gap_source = None


def _knows_more(message: Vector, seen: dict[str, int]) -> bool:
    return bool(message.ahead) or any(
        last > seen.get(origin, 0) for origin, last in message.seen.items()
    )

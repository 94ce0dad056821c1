"""What makes up for every loss: digests, deltas, pulls and the full comparison.

Each interval a digest (two hashes) goes to a few random peers. Where the hashes differ, vectors are
exchanged and the missing ranges follow (delta). A gap in an origin's sequence is pulled at once. And now and
then two agents compare everything by bucket hashes, which also finds what the vectors cannot know.

Digest traffic follows the activity: an interval apart while something changes, backing off to a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gossipswarm_agent.core.batch import validate
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Append, Reply
from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import (
    Batch,
    Delta,
    Digest,
    Pull,
    Ranges,
    TreeReply,
    TreeRequest,
    Vector,
    decode,
    encode,
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
BUSY_INTERVAL: Final = 0.5
STEADY: Final = 0.25
"""Seconds without news after which a stream of writes is over."""
SETTLED: Final = 1.0
"""Seconds after which a row that was not seen by somebody counts as lost to it, under steady writes."""
GAP_GRACE: Final = 0.04
"""Seconds for reordered frames to close a gap before it is pulled."""
TABLE_INTERVAL: Final = 0.5
"""Seconds between two full member tables sent because of a digest."""
COMPARE_TIMEOUT: Final = 10.0
STREAM_CHUNK: Final = 256 * 1024
"""Bytes of batches in one part of a delta."""


class Report(msgspec.Struct, frozen=True):
    """What one full comparison found."""

    peer: str
    buckets_compared: int
    buckets_different: int
    rows_received: int
    rows_sent: int
    dropped: int
    duration_ms: float


class _Sweep(msgspec.Struct):
    number: int
    peer: str
    started: float
    token: int | None
    stale: Ranges | None
    """Claims waiting for this comparison: we were behind a collected tombstone."""


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
        self._table_at = float("-inf")
        self._digest_due = ctx.now.mono
        self._sweep_due = ctx.now.mono + ctx.settings.anti_entropy_interval / 1000
        self._gap_due = float("inf")
        self._gap_source: str | None = None
        self._gaps: Ranges = {}
        self._sweep: _Sweep | None = None
        self._sweeps = 0
        self._old: VersionVector | None = None
        self._old_at = float("-inf")
        self._older: VersionVector | None = None
        self.synced = False
        """A first exchange with somebody is complete."""

    # --- time -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        timeout = self._sweep.started + COMPARE_TIMEOUT if self._sweep else float("inf")
        sweep = self._sweep_due if self._ctx.settings.anti_entropy else float("inf")
        return min(self._digest_due, sweep, self._gap_due, timeout)

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
        self._sweep_due = min(
            self._sweep_due, now + self._ctx.settings.anti_entropy_interval / 1000
        )

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
        sweep = self._sweep
        if sweep is not None and sweep.started + COMPARE_TIMEOUT <= now:
            self._sweep = None
            if sweep.token is not None:
                error = TimeoutError(f"{sweep.peer} did not answer the comparison")
                self._ctx.effects.append(Reply(sweep.token, error=error))
        if self._ctx.settings.anti_entropy and self._sweep_due <= now:
            interval = self._ctx.settings.anti_entropy_interval / 1000
            self._sweep_due = now + interval * self._ctx.rng.uniform(0.9, 1.1)
            # While vectors differ they say what is missing, at a hundredth of the cost.
            if self._sweep is None and not self._in_flight():
                for peer in self._peers.choose(1):
                    self._compare(peer.name, peer.address, None, None)

    # --- digests and vectors ----------------------------------------------------------------------

    def _is_steady(self) -> bool:
        """Writes come in a steady stream, now; not only by the average of the last seconds."""
        return self._busy() and self._ctx.now.mono - self._news_at < STEADY

    def _send_digests(self) -> None:
        if self._tells_rumors() and self._hot():
            self._pace = 0.0
            return  # the news is being told; who misses it is found afterwards
        # One will do where a difference is unlikely, and where the next digest is due soon anyway.
        is_idle = self._pace >= IDLE_INTERVAL
        count = 1 if is_idle or self._is_steady() else self._ctx.settings.fanout
        peers = self._peers.choose(count)
        if peers:
            mode = self._ctx.settings.mode
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
        news = members and members != self._membership.hash
        if news and now - self._table_at >= TABLE_INTERVAL:
            self._table_at = now
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

    def _send_vector(
        self, address: Address, *, want: bool, reply: bool, apart: bool = False
    ) -> None:
        vector = self._state.vector
        self._ctx.count("vectors_sent")
        self._ctx.send(
            [address], Vector(self._ctx.name, vector.seen, vector.ahead, want, reply, apart)
        )

    def handle_vector_request(self, address: Address) -> None:
        """Somebody asks for our vector."""
        self._send_vector(address, want=True, reply=False)

    def handle_vector(
        self, message: Vector, address: Address, *, was_cut_off: bool = False
    ) -> None:
        """Send what the other lacks, and ask for what we lack.

        ``was_cut_off``: its region was out of reach until now, so nothing is on its way to it.
        """
        vector = self._state.vector
        self._exchanged_at = self._ctx.now.mono
        if message.want:
            known = vector if was_cut_off else self._settled_vector()
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
                ),
            )

    def handle_delta(self, message: Delta, address: Address) -> list[Batch]:
        """Apply what we lacked; the rows that were fresh."""
        fresh: list[Batch] = []
        for body in message.batches:
            batch = self._open(body)
            absorbed = self._absorb(batch, None) if batch is not None else None
            if absorbed is not None:
                fresh.append(absorbed)
        self._state.add_losses(message.losses)
        if message.collected:
            self._compare(message.sender, address, None, message.claims)
        else:
            self._claim(message.claims)
        self.synced = True
        if fresh:
            self._ctx.count("rows_repaired", sum(len(batch.keys) for batch in fresh))
        return fresh

    def _open(self, body: bytes) -> Batch | None:
        """A batch that came inside a message; None if it is none, or not sound."""
        try:
            batch = decode(body)
            if isinstance(batch, Batch):
                validate(batch)
                return batch
        except (msgspec.MsgspecError, ValueError):
            pass
        self._ctx.count("dropped_invalid")
        return None

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

    # --- full comparison --------------------------------------------------------------------------

    def compare(self, token: int, peer: str | None) -> None:
        """Compare everything with this peer, or with a random one, and answer ``token`` with a Report."""
        if peer is None:
            chosen = self._peers.choose(1)
        else:
            member = self._membership.members.get(peer)
            chosen = [] if member is None else [member]
        if not chosen:
            error = LookupError(
                f"no live member {peer!r} to compare with"
                if peer
                else "no live member to compare with"
            )
            self._ctx.effects.append(Reply(token, error=error))
            return
        self._compare(chosen[0].name, chosen[0].address, token, None)

    def _compare(
        self, peer: str, address: Address, token: int | None, stale: Ranges | None
    ) -> None:
        if self._sweep is not None and self._sweep.token is not None:
            error = TimeoutError("a newer comparison took its place")
            self._ctx.effects.append(Reply(self._sweep.token, error=error))
        self._sweeps += 1
        on_schedule = token is None and stale is None
        self._sweep = _Sweep(self._sweeps, peer, self._ctx.now.mono, token, stale)
        self._ctx.count("comparisons")
        self._ctx.send(
            [address],
            TreeRequest(
                self._ctx.name,
                self._sweeps,
                self._state.bucket_hashes(),
                self._state.losses_hash,
                self._state.vector.hash if on_schedule else None,
            ),
        )

    def handle_tree_request(self, message: TreeRequest, address: Address) -> None:
        """Answer with the rows of the buckets that differ."""
        if self._sweep is not None and self._sweep.stale is not None:
            return  # what we hold is about to be corrected; it must not correct anybody
        if message.vector is not None and message.vector != self._state.vector.hash:
            return
        own = self._state.bucket_hashes()
        if len(own) != len(message.hashes):
            self._ctx.count("comparisons_refused")
            return
        differing = [bucket for bucket, value in enumerate(message.hashes) if value != own[bucket]]
        losses = [] if message.losses == self._state.losses_hash else self._state.conflicts()[1]
        batches = [
            body for part in self._state.bucket_rows(differing, STREAM_CHUNK) for body in part
        ]
        self._ctx.send(
            [address],
            TreeReply(
                self._ctx.name,
                message.sweep,
                differing,
                batches,
                self._state.vector.seen,
                losses,
                answer=True,
            ),
        )

    def handle_tree_reply(self, message: TreeReply, address: Address) -> None:
        """Take what we lack, drop what is gone, send what the peer lacks."""
        sweep = self._sweep
        asked = sweep is not None and sweep.number == message.sweep and sweep.peer == message.sender
        if message.answer and not asked:
            return
        received, held = self._adopt(message)
        self._state.add_losses(message.losses)
        dropped: list[str] = []
        if asked and sweep is not None and sweep.stale is not None:
            dropped = self._state.reconcile(message.buckets, message.seen, held)
            self._changed(dropped)
            self._claim(sweep.stale)
        sent = 0
        if message.answer and (message.buckets or message.losses):
            sent = self._answer(message, held, address)
        if asked and sweep is not None:
            self._sweep = None
            if sweep.token is not None:
                report = Report(
                    peer=message.sender,
                    buckets_compared=len(self._state.bucket_hashes()),
                    buckets_different=len(message.buckets),
                    rows_received=received,
                    rows_sent=sent,
                    dropped=len(dropped),
                    duration_ms=(self._ctx.now.mono - sweep.started) * 1000,
                )
                self._ctx.effects.append(Reply(sweep.token, report))

    def _adopt(self, message: TreeReply) -> tuple[int, set[tuple[str, str, int]]]:
        """Rows received that were new here, and all that the peer holds."""
        received = 0
        held: set[tuple[str, str, int]] = set()
        # Who is behind a tombstone that was collected here may still hold what it deleted.
        trusted = not self._state.collected_beyond(message.seen)
        for body in message.batches:
            batch = self._open(body)
            if batch is None:
                continue
            index = 0
            for origin, first, dots, rows in batch.runs:
                for dot in range(first, first + dots):
                    for key in batch.keys[index : index + rows]:
                        held.add((key, origin, dot))
                    index += rows
            if trusted:
                applied = self._state.adopt(batch)
                received += applied.rows
                self._changed(applied.changed)
                if applied.batch is not None:
                    self._ctx.effects.append(Append(encode(applied.batch)))
        return received, held

    def _answer(self, message: TreeReply, held: set[tuple[str, str, int]], address: Address) -> int:
        """Our side of the differing buckets, once; number of rows the peer did not name."""
        batches = [
            body for part in self._state.bucket_rows(message.buckets, STREAM_CHUNK) for body in part
        ]
        sent = 0
        for body in batches:
            batch = decode(body)
            assert isinstance(batch, Batch)
            index = 0
            for origin, first, dots, rows in batch.runs:
                for dot in range(first, first + dots):
                    sent += sum(
                        (key, origin, dot) not in held for key in batch.keys[index : index + rows]
                    )
                    index += rows
        if sent or message.losses:
            self._ctx.send(
                [address],
                TreeReply(
                    self._ctx.name,
                    message.sweep,
                    message.buckets,
                    batches,
                    self._state.vector.seen,
                    self._state.conflicts()[1],
                    answer=False,
                ),
            )
        return sent


def _knows_more(message: Vector, seen: dict[str, int]) -> bool:
    return bool(message.ahead) or any(
        last > seen.get(origin, 0) for origin, last in message.seen.items()
    )

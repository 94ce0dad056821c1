"""Full comparison of two agents by the hashes of buckets of leaves (anti-entropy).

It finds what version vectors cannot know of: a leaf that was lost although its write was seen. Presence wins
over absence, because a deletion leaves a tombstone; only who was behind a tombstone that has been collected
drops what the other no longer holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from gossipswarm_agent.core.batch import expand, open_batch
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Append, Reply
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import Batch, Ranges, TreeReply, TreeRequest, decode, encode
from gossipswarm_agent.core.rumors import Peers
from gossipswarm_agent.core.state import State

TIMEOUT: Final = 10.0
STALE_TIMEOUT: Final = 1.0
"""Patience of an agent that may hold what was deleted: until it has compared, it corrects nobody."""
CHUNK: Final = 256 * 1024
"""Bytes of batches taken out of the state at a time."""


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

    @property
    def patience(self) -> float:
        """Seconds to wait for the answer."""
        return TIMEOUT if self.stale is None else STALE_TIMEOUT


class Comparison:
    """Compares with one peer at a time, on schedule or by order, and answers others."""

    def __init__(
        self,
        ctx: Context,
        membership: Membership,
        peers: Peers,
        state: State,
        changed: Callable[[list[str]], None],
        claim: Callable[[Ranges], None],
        in_flight: Callable[[], bool],
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._peers = peers
        self._state = state
        self._changed = changed
        self._claim = claim
        self._in_flight = in_flight
        self._due = ctx.now.mono + ctx.settings.anti_entropy_interval / 1000
        self._sweep: _Sweep | None = None
        self._sweeps = 0

    # --- time -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        timeout = self._sweep.started + self._sweep.patience if self._sweep else float("inf")
        return min(timeout, self._due) if self._ctx.settings.anti_entropy else timeout

    def reschedule(self) -> None:
        """The interval in force has changed."""
        interval = self._ctx.settings.anti_entropy_interval / 1000
        self._due = min(self._due, self._ctx.now.mono + interval)

    def tick(self) -> None:
        """Give up a comparison that is not answered; begin the next that is due."""
        now = self._ctx.now.mono
        sweep = self._sweep
        if sweep is not None and sweep.started + sweep.patience <= now:
            self._sweep = None
            if sweep.stale is not None:
                for peer in self._peers.choose(1):
                    self.begin(peer.name, peer.address, None, sweep.stale)
            if sweep.token is not None:
                error = TimeoutError(f"{sweep.peer} did not answer the comparison")
                self._ctx.effects.append(Reply(sweep.token, error=error))
        if self._ctx.settings.anti_entropy and self._due <= now:
            interval = self._ctx.settings.anti_entropy_interval / 1000
            self._due = now + interval * self._ctx.rng.uniform(0.9, 1.1)
            # While vectors differ they say what is missing, at a hundredth of the cost.
            if self._sweep is None and not self._in_flight():
                for peer in self._peers.choose(1):
                    self.begin(peer.name, peer.address, None, None)

    # --- comparing --------------------------------------------------------------------------------

    def order(self, token: int, peer: str | None) -> None:
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
        self.begin(chosen[0].name, chosen[0].address, token, None)

    def begin(self, peer: str, address: Address, token: int | None, stale: Ranges | None) -> None:
        """Start a comparison; ``stale`` are claims to be made once what is gone was dropped."""
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

    def handle_request(self, message: TreeRequest, address: Address) -> None:
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
        batches = [body for part in self._state.bucket_rows(differing, CHUNK) for body in part]
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

    def handle_reply(self, message: TreeReply, address: Address) -> None:
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
            batch = open_batch(body)
            if batch is None:
                self._ctx.count("dropped_invalid")
                continue
            held.update(_rows(batch))
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
            body for part in self._state.bucket_rows(message.buckets, CHUNK) for body in part
        ]
        sent = 0
        for body in batches:
            batch = decode(body)
            assert isinstance(batch, Batch)
            sent += sum(row not in held for row in _rows(batch))
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


def _rows(batch: Batch) -> Iterator[tuple[str, str, int]]:
    """Key, origin and sequence of each row."""
    return zip(batch.keys, *expand(batch.runs), strict=True)

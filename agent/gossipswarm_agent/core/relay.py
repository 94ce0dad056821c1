"""The busy path: writes of many origins share batches, merged by one relay a region.

Per write, a spread tree costs every agent a datagram. Above some tens of writes a second it is cheaper to
hand them to the region's relay, which merges what comes within a window of a few milliseconds into one
batch, sends it down one tree at home and hands it to the other regions' relays. A relay is no sequencer:
it may be lost at any time, and any other may take over, because batches are idempotent and unordered.

What was handed to a relay is remembered until it comes back down the tree. If it does not, it goes out
over the sender's own trees, and the next relay in line is tried from then on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from gossipswarm_agent.core.batch import merge, split
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.frames import Frame
from gossipswarm_agent.core.membership import Member
from gossipswarm_agent.core.messages import Batch, decode
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.spread import CROSSLINK, UPLINK, Spread

TREE_DATAGRAMS: Final = 9000.0
"""Datagrams a second, over the whole swarm, that trees of single writes may cost before the stream pays."""
BUSY_RANGE: Final = (5.0, 60.0)
"""Bounds of the writes a second above which writes are merged."""
CALM_SHARE: Final = 0.7
"""Of that rate, below which it is left again."""
STREAM_DATAGRAMS: Final = 3000.0
"""Datagrams a second that a region's stream may cost the swarm: 20 batches a second at 150 agents."""
LONGEST_WINDOW: Final = 0.1
"""Seconds for which a relay holds rows back at most."""
_DECAY: Final = 2.8
"""Per second: what was counted a quarter of a second ago counts half."""
ECHO_SECONDS: Final = 0.8
"""Patience with a relay at least; four times what relays took lately, if that is more."""
ECHO_LIMIT: Final = 5.0
AVOID_SECONDS: Final = 5.0
ATTEMPTS: Final = 3
"""Relays tried before a batch goes out over the trees of its own origin."""
HANDED_LIMIT: Final = 4096
"""Batches whose return is awaited; the oldest is given up to repair beyond that."""
PENDING_BYTES: Final = 8 << 20
"""Rows a relay holds back at most before it sends at once."""


class Rate:
    """Exponentially decaying rate of events a second."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._at = 0.0

    def add(self, count: int, now: float) -> None:
        """Count events."""
        self._value = self.at(now) + count * _DECAY
        self._at = now

    def at(self, now: float) -> float:
        """Events a second as of now."""
        return self._value * math.exp((self._at - now) * _DECAY)


class _Handed(msgspec.Struct):
    origin: str
    last: int
    at: float
    due: float
    batch: Batch
    relay: str
    attempts: int


class Relay:
    """Both ends of the stream: what this agent hands to a relay, and what it merges as one."""

    def __init__(
        self,
        ctx: Context,
        regions: Regions,
        spread: Spread,
        datagram_limit: int,
        size: Callable[[], int],
    ) -> None:
        self._ctx = ctx
        self._size = size
        self._regions = regions
        self._spread = spread
        self._limit = datagram_limit
        self._rate = Rate()
        self._busy = False
        self._echo = 0.0
        """Seconds that relays took lately, smoothed."""
        self._handed: deque[_Handed] = deque()
        self._avoid: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._pending: list[tuple[Batch, bool]] = []
        self._pending_bytes = 0
        self._hop = 0
        self._flush_at = float("inf")

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return min(self._flush_at, self._handed[0].due if self._handed else float("inf"))

    @property
    def busy(self) -> bool:
        """Whether writes go to relays at the moment."""
        now = self._ctx.now.mono
        trees = self._ctx.settings.redundancy * max(self._size(), 1)
        low, high = BUSY_RANGE
        threshold = min(high, max(low, TREE_DATAGRAMS / trees))
        # Less of it to get out again, so that a steady rate does not flap.
        self._busy = self._rate.at(now) > (threshold * CALM_SHARE if self._busy else threshold)
        return self._busy

    def rate(self) -> float:
        """Writes a second as seen here."""
        return self._rate.at(self._ctx.now.mono)

    def observe(self, writes: int) -> None:
        """Writes became known here, own or others'."""
        self._rate.add(writes, self._ctx.now.mono)

    # --- as one that writes -----------------------------------------------------------------------

    def offer(self, batch: Batch, frame: Frame) -> bool:
        """Hand an own batch to the region's relay; False if it should take its own trees."""
        if not self.busy or len(frame.body) > self._limit:
            return False
        relay = self._choose(self._ctx.region)
        if relay is None:
            return False
        if relay.name == self._ctx.name:
            self.take(batch, len(frame.body), 0, crossing=True)
            return True
        self._hand(batch, frame, relay, attempts=1)
        return True

    def _hand(self, batch: Batch, frame: Frame, relay: Member, attempts: int) -> None:
        origin, first, dots, _ = batch.runs[-1]
        now = self._ctx.now.mono
        patience = min(ECHO_LIMIT, max(ECHO_SECONDS, 4 * self._echo)) * attempts
        last = first + dots - 1
        self._handed.append(_Handed(origin, last, now, now + patience, batch, relay.name, attempts))
        if len(self._handed) > HANDED_LIMIT:
            self._handed.popleft()
            self._ctx.count("relay_handed_overflow")
        self._ctx.effects.append(Send((relay.address,), frame, 1, UPLINK))

    def returned(self, origin: str, last: int) -> None:
        """A batch of ours came back down the tree."""
        handed = self._handed
        while handed and (handed[0].origin != origin or handed[0].last <= last):
            took = self._ctx.now.mono - handed.popleft().at
            self._echo += (took - self._echo) / 8

    def heard(self, relay: str) -> None:
        """A batch of this relay's stream came: it is alive."""
        self._heard[relay] = self._ctx.now.mono

    def _choose(self, region: str) -> Member | None:
        now = self._ctx.now.mono
        relays = self._regions.relays(region)
        for relay in relays:
            if self._avoid.get(relay.name, 0.0) <= now:
                return relay
        return relays[0] if relays else None

    # --- as a relay -------------------------------------------------------------------------------

    def take(self, batch: Batch, size: int, hop: int, *, crossing: bool) -> None:
        """Merge somebody's batch into the stream; ``crossing`` also hands it to other regions."""
        self._pending.append((batch, crossing))
        self._pending_bytes += size
        self._hop = max(self._hop, hop)
        now = self._ctx.now.mono
        if self._flush_at == float("inf"):
            self._flush_at = now + self._window()
        if self._pending_bytes >= min(self._limit * 0.9, PENDING_BYTES):
            self._flush()

    def _window(self) -> float:
        """Seconds to wait for more: none while writes are rarer than the batches that may be sent."""
        between_batches = self._size() / STREAM_DATAGRAMS
        between_writes = 1.0 / max(self.rate(), 1.0)
        return min(LONGEST_WINDOW, max(0.0, between_batches - between_writes))

    def tick(self) -> None:
        """Send the window's batch; take back what no relay returned."""
        now = self._ctx.now.mono
        if self._flush_at <= now:
            self._flush()
        lost: list[_Handed] = []
        while self._handed and self._handed[0].due <= now:
            lost.append(self._handed.popleft())
        if lost:
            # Slow is not lost: be more patient from now on, and leave only a relay that is silent.
            self._echo = min(ECHO_LIMIT / 4, 2 * max(self._echo, ECHO_SECONDS / 4))
            for relay in {each.relay for each in lost}:
                if self._heard.get(relay, 0.0) + ECHO_SECONDS < now:
                    self._avoid[relay] = now + AVOID_SECONDS
            self._ctx.count("relay_echo_missed", len(lost))
            self._hand_again(lost)

    def _hand_again(self, lost: list[_Handed]) -> None:
        """Another relay first; only then the own trees, which cost the swarm a hundred times as much."""
        attempts = 1 + min(each.attempts for each in lost)
        relay = self._choose(self._ctx.region)
        for frame in self._frames([each.batch for each in lost]):
            if attempts > ATTEMPTS or relay is None or relay.name == self._ctx.name:
                self._spread.send(frame)
            else:
                batch = decode(frame.body)
                assert isinstance(batch, Batch)
                self._hand(batch, frame, relay, attempts)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        hop, self._hop = self._hop, 0
        self._pending_bytes = 0
        self._flush_at = float("inf")
        if not pending:
            return
        own = [batch for batch, crossing in pending if crossing]
        frames = self._frames(own)
        others = [
            relay.address
            for region in self._regions.next_regions(self._ctx.region)
            if region not in self._spread.closed_regions
            and (relay := self._choose(region)) is not None
        ]
        for frame in frames:
            if others:
                self._ctx.effects.append(Send(tuple(others), frame, hop + 1, CROSSLINK))
        if len(own) < len(pending):
            frames = self._frames([batch for batch, _ in pending])
        for frame in frames:
            self._spread.send(frame, hop + 1, home_only=True)
        self._ctx.count("relay_batches", len(frames))

    def _frames(self, batches: list[Batch]) -> list[Frame]:
        if not batches:
            return []
        merged = merge(batches, self._ctx.name)
        return [Frame(body) for body in split(merged, self._limit)]

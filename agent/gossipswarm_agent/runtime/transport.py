"""An agent on the network: datagrams and streams under one address, and what is let through.

A frame that fits goes as a datagram, a larger one down a stream. It is sealed once, on the first send;
whoever passes it on sends the same sealed bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.frames import Address, Frame, Inbound
from gossipswarm_agent.runtime.admission import PREFIX_BYTES, Admission
from gossipswarm_agent.runtime.compression import compress
from gossipswarm_agent.runtime.counters import Counters
from gossipswarm_agent.runtime.datagrams import LARGEST_DATAGRAM, Datagrams
from gossipswarm_agent.runtime.drops import DropList, InboundFilter
from gossipswarm_agent.runtime.keyring import HEADER_BYTES, TAG_BYTES, Keyring
from gossipswarm_agent.runtime.ports import GossipSockets
from gossipswarm_agent.runtime.reaching import Reaching
from gossipswarm_agent.runtime.stream_server import StreamServer
from gossipswarm_agent.runtime.streams import Streams

ENVELOPE_BYTES: Final = PREFIX_BYTES + HEADER_BYTES + TAG_BYTES
"""What a datagram holds besides the message."""
ROTATION_SECONDS: Final = 60.0
"""Mean time between changes of the source port; each is drawn from half to one and a half of it."""
_LARGEST_HOP: Final = 255


class Transport:
    """Both ways of an agent to its peers. Made by ``start``, given back by ``close``."""

    def __init__(
        self,
        sockets: GossipSockets,
        local: Address,
        host: str,
        keyring: Keyring,
        deliver: Callable[[list[Inbound]], None],
        *,
        datagram_limit: int,
        rng: random.Random,
        rotation_seconds: float = ROTATION_SECONDS,
    ) -> None:
        self.counters = Counters()
        self.compresses = False
        """Whether messages too large for a datagram are compressed."""
        self.region_of_address: Callable[[Address], str | None] = lambda _: None
        self.region_of_member: Callable[[str], str | None] = lambda _: None
        self.drops = DropList()
        self._keyring = keyring
        self._limit = min(datagram_limit, LARGEST_DATAGRAM)
        self._rng = rng
        self._rotation_seconds = rotation_seconds
        self._admission = Admission(keyring)
        self._sockets = sockets
        self._streams = Streams(local, host, keyring, self.counters)
        self._stream_server = StreamServer(self._admission, deliver, self.counters)
        self._datagrams = Datagrams(sockets.udp, host, self._admission, deliver, self.counters)
        self.reaching = Reaching(
            keyring,
            host,
            self._datagrams,
            self._streams,
            lambda region: region in self.drops.inbound,
            self._is_cut,
        )
        """Probes of other agents, and answers to theirs."""
        self._datagrams.answer = self._stream_server.answer = self.reaching.answer
        self._loop = asyncio.get_running_loop()
        self._rotation: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept streams; datagrams are received from the construction on."""
        await self._stream_server.start(self._sockets.tcp)
        self._schedule_rotation()

    # --- sending and receiving --------------------------------------------------------------------

    def send(self, effect: Send) -> None:
        """Send a frame to each of its targets, by datagram or stream as its size demands."""
        frame = effect.frame
        sealed = frame.sealed
        if sealed is None:
            sealed = self._seal(frame)
        data = bytes((min(effect.hop, _LARGEST_HOP), effect.tree)) + sealed
        targets = effect.targets
        if self.drops.outbound:
            kept = tuple(target for target in targets if not self._is_cut(target))
            self.counters.drop("region", len(targets) - len(kept))
            targets = kept
        if len(data) <= self._limit:
            self._datagrams.send(targets, data)
        else:
            self._streams.send(targets, data)

    def _seal(self, frame: Frame) -> bytes:
        body = frame.body
        if self.compresses and len(body) + ENVELOPE_BYTES > self._limit:
            body = compress(body)
        frame.sealed = self._keyring.seal(body)
        return frame.sealed

    def drain(self) -> bool:
        """Hand over the datagrams that wait; True if more do."""
        return self._datagrams.drain()

    # --- source ports -----------------------------------------------------------------------------

    @property
    def source_port(self) -> int:
        """Port that datagrams leave from at the moment."""
        return self._datagrams.source_port

    @property
    def streams_open(self) -> int:
        """Streams in both directions."""
        return len(self._streams) + len(self._stream_server)

    @property
    def stream_queue_bytes(self) -> int:
        """What waits to be sent down streams."""
        return self._streams.queued_bytes

    def reset_peers(self) -> int:
        """Send from a new port and close all streams, so that every flow is judged afresh by the network.

        How many streams were closed.
        """
        self._datagrams.rotate()
        return self._streams.disconnect() + self._stream_server.disconnect()

    def disconnect(self, region: str) -> int:
        """Close all streams with agents of a region; how many. What comes back later gets fresh ones.

        A connection that was cut is silent for as long again once the cut is over (RFC 6298, section 5.5: each
        retransmission waits twice as long as the one before).
        """

        def is_there(peer: Address) -> bool:
            return self.region_of_address(peer) == region

        return self._streams.disconnect(is_there) + self._stream_server.disconnect(is_there)

    def _schedule_rotation(self) -> None:
        # Jitter: agents that were started together must not all change at once.
        pause = self._rotation_seconds * self._rng.uniform(0.5, 1.5)
        self._rotation = self._loop.call_later(pause, self._rotate)

    def _rotate(self) -> None:
        self._datagrams.rotate()
        self._schedule_rotation()

    # --- cuts made on purpose ---------------------------------------------------------------------

    def set_drops(self, drops: DropList, wall_ms: int) -> None:
        """Drop frames as listed from now on, in place of what was listed before."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        until = drops.until_ms
        if until is not None and until <= wall_ms:
            drops = DropList()
        elif until is not None:
            self._expiry = self._loop.call_later((until - wall_ms) / 1000, self._end_drops)
        self.drops = drops
        if drops.inbound:
            self._admission.refuses = InboundFilter(drops.inbound, self.region_of_member).refuses
            self._stream_server.refuses_peer = self._refuses_peer
            self._stream_server.disconnect(self._refuses_peer)
        else:
            self._admission.refuses = None
            self._stream_server.refuses_peer = lambda _: False
        if drops.outbound:
            self._streams.disconnect(self._is_cut)

    def _end_drops(self) -> None:
        self._expiry = None
        self.set_drops(DropList(), 0)

    def _is_cut(self, target: Address) -> bool:
        return self.region_of_address(target) in self.drops.outbound

    def _refuses_peer(self, peer: Address) -> bool:
        return self.region_of_address(peer) in self.drops.inbound

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop sending and receiving, and give the port back."""
        for timer in (self._rotation, self._expiry):
            if timer is not None:
                timer.cancel()
        self._datagrams.close()
        await self._streams.close()
        await self._stream_server.close()

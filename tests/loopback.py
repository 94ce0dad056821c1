"""Transports on loopback, for the tests of datagrams, streams and what is let through."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.core.frames import Frame, Inbound
from gossipswarm_agent.runtime.keyring import Keyring
from gossipswarm_agent.runtime.ports import PortInUse, bind_gossip
from gossipswarm_agent.runtime.transport import Transport
from unassigned_ports import unassigned_ports

KEY = bytes(range(32))
HOST = "127.0.0.1"


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until the condition holds; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.002)


def free_ports(count: int) -> list[int]:
    """Ports of ``HOST`` that nobody listens on by UDP or TCP, and that stay free until they are used: the system gives
    none of them to somebody who asks for any.
    """
    found: list[int] = []
    for port in unassigned_ports():
        try:
            bind_gossip(HOST, port).close()
        except PortInUse:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"there are no {count} free ports")


class Peer:
    """A transport and all that it let through."""

    def __init__(self, keyring: Keyring, datagram_limit: int, rotation_seconds: float) -> None:
        sockets = bind_gossip(HOST)
        self.address = (HOST, sockets.port)
        self.keyring = keyring
        self.inbound: list[Inbound] = []
        self.transport = Transport(
            sockets,
            self.address,
            HOST,
            keyring,
            self.inbound.extend,
            datagram_limit=datagram_limit,
            rng=random.Random(1),
            rotation_seconds=rotation_seconds,
        )

    @property
    def bodies(self) -> list[bytes]:
        return [inbound.frame.body for inbound in self.inbound]

    @property
    def dropped(self) -> dict[str, int]:
        return self.transport.counters.dropped

    def send(self, to: Peer, body: bytes, hop: int = 1, tree: int = 0) -> Frame:
        frame = Frame(body)
        self.transport.send(Send((to.address,), frame, hop, tree))
        return frame


@asynccontextmanager
async def peers(
    count: int,
    *,
    swarm: str = "test",
    key: bytes | None = KEY,
    datagram_limit: int = 1400,
    rotation_seconds: float = 3600.0,
) -> AsyncIterator[list[Peer]]:
    """That many started transports of one swarm."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            keyring = Keyring(swarm, [] if key is None else [key])
            peer = Peer(keyring, datagram_limit, rotation_seconds)
            stack.push_async_callback(peer.transport.close)
            await peer.transport.start()
            made.append(peer)
        yield made

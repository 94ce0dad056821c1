"""One edge as its agent knows it: what it is, how far it is, and how much it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from gossipswarm_agent.core.versions import VersionVector
from gossipswarm_agent.edge.feed import Prefixes, add
from gossipswarm_agent.edge.frames import Hello

UNSENT_LIMIT: Final = 64 << 10
"""Bytes that may wait in the buffer of an edge's socket; with more it falls behind."""
STALLED_SECONDS: Final = 10.0
"""An edge that takes nothing for so long is given up; it resumes when it is back."""


class Lost(Exception):
    """An edge is given up; the message says why."""


class Attended:
    """One edge that is connected."""

    def __init__(
        self, hello: Hello, socket: web.WebSocketResponse, unsent: asyncio.Transport
    ) -> None:
        self.name = hello.name
        self.region = hello.region
        self.labels = hello.labels
        self.prefixes: Prefixes = None if hello.prefixes is None else tuple(hello.prefixes)
        self.since_ms = time.time_ns() // 1_000_000
        self.taken = 0
        """Number of the last frame that it has applied."""
        self.heard = time.monotonic()
        self.report: str | None = None
        """What it says of those that use it, as JSON."""
        self.vector: VersionVector | None = VersionVector(hello.seen)
        """What it has, while it is behind; None = it is level."""
        add(self.vector, hello.ahead)
        self.needs_all = False
        self.terms = b""
        """The terms that it was told, as sent; empty = it has not been welcomed yet."""
        self.fell_behind = asyncio.Event()
        self._socket = socket
        self._unsent = unsent

    def has_room(self, size: int) -> bool:
        """Whether so many more bytes can be written without waiting for it."""
        return self._unsent.get_write_buffer_size() + size < UNSENT_LIMIT

    async def push(self, frame: bytes) -> None:
        """Send a frame for which there is room. Raises ConnectionError."""
        await self._socket.send_bytes(frame)

    async def send(self, frame: bytes) -> None:
        """Send once the edge takes it. Raises Lost or ConnectionError."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._socket.send_bytes(frame)
        except TimeoutError:
            raise Lost(f"it took nothing for {STALLED_SECONDS:g} s") from None

    def known(self) -> VersionVector:
        """What it has, while it is behind."""
        assert self.vector is not None
        return self.vector

    def cut_off(self) -> None:
        """End its connection at once."""
        self._unsent.abort()


async def push_all(edge: Attended, pieces: Sequence[bytes]) -> bool:
    """Whether there was room for all of it; an edge that is gone has as much as it needs."""
    for piece in pieces:
        if not edge.has_room(len(piece)):
            return False
        try:
            await edge.push(piece)
        except ConnectionError:
            break
    return True

"""What crosses the network: an encoded message and, once sealed, the very bytes that travel.

A message is encoded once and sealed once; everyone who passes it on sends the same sealed bytes, so a
relay pays for a datagram and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Address: TypeAlias = tuple[str, int]
"""Host and gossip port (the same number for UDP and TCP)."""


class Frame:
    """An encoded message, and its sealed form once somebody needed it.

    ``body`` is plaintext MessagePack. ``sealed`` is filled in by the transport on the first send, or is
    what arrived when the frame is being passed on.
    """

    __slots__ = ("body", "sealed")

    def __init__(self, body: bytes, sealed: bytes | None = None) -> None:
        self.body = body
        self.sealed = sealed


class Inbound(NamedTuple):
    """One authenticated frame as it came in.

    ``hop`` counts the sends since the origin (1 = straight from it); it and ``tree`` travel outside the
    seal because every relay changes them, so they are hints for measurement and routing, never trusted
    for more.
    """

    frame: Frame
    hop: int
    tree: int
    source: Address
    session: bytes
    counter: int

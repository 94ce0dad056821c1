"""Cuts that are made on purpose: frames to and from some regions are dropped by the agent itself.

This is how a local swarm is partitioned, where every agent has the same IP address and no firewall can tell
regions apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from gossipswarm_agent.core import messages
from gossipswarm_agent.core.frames import Address, Inbound
from gossipswarm_agent.core.messages import Join

SOURCES_KEPT: Final = 4096
CONFIGURED: Final = "configuration"
"""Who asked for the cut that an agent is born into."""


class DropList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Regions whose frames are dropped on their way in, and on their way out."""

    inbound: frozenset[str] = frozenset()
    outbound: frozenset[str] = frozenset()
    until_ms: int | None = None
    """Wall clock in ms at which the cut ends by itself; None = when somebody ends it."""
    by: str | None = None
    """Who asked for it, so that whoever finds it knows whether it is his to end; None = nobody said."""

    def __bool__(self) -> bool:
        return bool(self.inbound or self.outbound)

    def within(self, regions: Collection[str], until_ms: int | None) -> DropList:
        """What is left of it if nothing but these regions may be cut off, and not for longer than that."""
        inbound, outbound = self.inbound.intersection(regions), self.outbound.intersection(regions)
        return DropList(inbound, outbound, until_ms, self.by if inbound or outbound else None)


def sender_of(body: bytes) -> str | None:
    """The sender in an encoded message, without decoding the rest; None if there is none to be found.

    A message is an array of a small integer (its kind), the sender, and more.
    """
    start = 1 if body[:1] and 0x90 <= body[0] <= 0x9F else 3
    mark = body[start + 1 : start + 2]
    if not mark:
        return None
    if 0xA0 <= mark[0] <= 0xBF:
        begin, length = start + 2, mark[0] & 0x1F
    elif mark[0] == 0xD9 and len(body) > start + 2:
        begin, length = start + 3, body[start + 2]
    else:
        return None
    try:
        return body[begin : begin + length].decode()
    except UnicodeDecodeError:
        return None


class InboundFilter:
    """Decides whether a frame came out of one of the regions that are cut off.

    What counts is who sent it last, as on a real network: a frame that was sealed beyond the cut and comes
    by way of a third region is let in. Who that was is learnt from the frames that come straight from their
    sender; until then the sender of the seal stands in for it.
    """

    def __init__(
        self, regions: frozenset[str], region_of_member: Callable[[str], str | None]
    ) -> None:
        self._regions = regions
        self._region_of_member = region_of_member
        self._sources: OrderedDict[Address, str] = OrderedDict()

    def refuses(self, inbound: Inbound) -> bool:
        """Whether this frame must be dropped."""
        if inbound.hop > 1:
            region = self._sources.get(inbound.source)
            if region is not None:
                return region in self._regions
        region = self._region_of_sender(inbound.frame.body)
        if region is None:
            return False
        if inbound.hop <= 1:
            self._learn(inbound.source, region)
        return region in self._regions

    def _learn(self, source: Address, region: str) -> None:
        self._sources[source] = region
        self._sources.move_to_end(source)
        if len(self._sources) > SOURCES_KEPT:
            self._sources.popitem(last=False)

    def _region_of_sender(self, body: bytes) -> str | None:
        name = sender_of(body)
        if name is None:
            return None
        region = self._region_of_member(name)
        if region is not None:
            return region
        try:
            message = messages.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None  # the core counts it
        return message.record.region if isinstance(message, Join) else None

"""Which ports NetworkPolicies leave open beside that of gossip: policies only ever allow, so each has to say what stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator import names

Protocol = Literal["TCP", "UDP", "SCTP"]
HIGHEST: Final = 65_535
MOST_LISTED: Final = 32
"""Ports that may be listed. Each is an entry in two policies of every region, and a network makes rules of each."""


class Port(msgspec.Struct, frozen=True):
    """A port of a protocol, ``443/TCP``."""

    number: int
    protocol: Protocol


class OpenPorts(msgspec.Struct, frozen=True):
    """How everything but gossip is left open.

    By ranges it is really everything. A network that does not know ``endPort`` takes a range for its first port, so there
    ports are listed instead, and others are closed to whoever is not a pod.
    """

    listed: tuple[Port, ...] | None = None
    """None = ranges."""

    @property
    def ranges(self) -> bool:
        """The network knows ``endPort``."""
        return self.listed is None

    def entries(self, *protocols: Protocol) -> list[dict[str, Any]]:
        """Ports of a rule."""
        if self.listed is None:
            gossip = names.GOSSIP_PORT
            return [
                {"protocol": protocol, "port": first, "endPort": last}
                for protocol in protocols
                for first, last in ((1, gossip - 1), (gossip + 1, HIGHEST))
            ]
        wanted = {Port(names.API_PORT, "TCP"): None, **dict.fromkeys(self.listed)}
        return [
            {"protocol": port.protocol, "port": port.number}
            for port in wanted
            if port.protocol in protocols
        ]

    def outgoing(self, swarm: str, *protocols: Protocol) -> list[dict[str, Any]]:
        """Rules for what agents of a swarm send to others than themselves."""
        anywhere: dict[str, Any] = {"ports": self.entries(*protocols)}
        if self.ranges:
            return [anywhere]
        # No list knows the ports of every name server and of what hooks call; most of it is a pod.
        entry = {"key": names.SWARM_LABEL, "operator": "NotIn", "values": [swarm]}
        strangers = {"namespaceSelector": {}, "podSelector": {"matchExpressions": [entry]}}
        return [anywhere, {"to": [strangers]}]


RANGES: Final = OpenPorts()


def listed(texts: Sequence[str]) -> OpenPorts:
    """Open ports from ``443/TCP`` and the like; TCP where no protocol is named. Raises ValueError saying what is wrong."""
    if len(texts) > MOST_LISTED:
        raise ValueError(f"{len(texts)} ports are listed, of at most {MOST_LISTED}")
    return OpenPorts(tuple(_port(text) for text in texts))


def _port(text: str) -> Port:
    number, _, protocol = text.partition("/")
    try:
        found = msgspec.convert(
            {"number": number, "protocol": protocol or "TCP"}, Port, strict=False
        )
    except msgspec.ValidationError:
        found = None
    if found is None or not 1 <= found.number <= HIGHEST:
        raise ValueError(f"{text!r} is no port such as 443/TCP, 53/UDP or 9090")
    if found.number == names.GOSSIP_PORT and found.protocol != "SCTP":
        raise ValueError(f"{text} is the port of gossip, which policies are there to close")
    return found

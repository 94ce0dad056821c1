"""Who an agent is."""

from __future__ import annotations

import msgspec


class NodeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who an agent is and where it listens."""

    name: str
    region: str
    host: str
    port: int
    api: str = ""
    labels: dict[str, str] = {}
    origin: str
    """``name/epoch``, for a journal that holds no identity yet."""
    datagram_limit: int = 1400

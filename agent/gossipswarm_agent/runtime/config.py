"""How one agent is told who it is: a typed model, from a file, the environment or a supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gossipswarm_agent.core.frames import Address


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bearer tokens of the HTTP API by scope; None = that scope needs no credential."""

    read: str | None = None
    write: str | None = None


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one agent needs to start."""

    name: str
    region: str
    swarm: str
    """Unique id of the swarm: frames of other swarms are dropped."""
    data_dir: Path | None = None
    """Journal and identity live here; None keeps both in memory."""
    keys: list[bytes] | None = None
    """32-byte keys, the one to seal with first; None sends plaintext."""
    host: str = "127.0.0.1"
    gossip_port: int = 0
    api_host: str = "127.0.0.1"
    api_port: int = 0
    tokens: Tokens | None = None
    seeds: list[Address] = []
    declared: dict[str, str] | None = None
    settings: dict[str, Any] = {}
    labels: dict[str, str] = {}
    datagram_limit: int = 1400
    hooks: Path | None = None
    drop_regions: list[str] = []
    """Regions cut off from the first packet on (a partition that this agent is born into)."""
    drop_expires_ms: int | None = None
    """Wall clock in ms at which that cut ends by itself."""

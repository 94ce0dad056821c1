"""How one agent is told who it is: a typed model, from a file, the environment or a supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gossipswarm_agent.project.projections import Projection


class ConfigError(ValueError):
    """The configuration cannot be used; the message says what is wrong, what is expected and what to do."""


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bearer tokens of the HTTP API by scope; None = that scope needs no credential."""

    read: str | None = None
    write: str | None = None


class Seed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where somebody of the swarm may be found. A name is resolved again and again, to all it stands for."""

    host: str
    port: int
    region: str | None = None
    srv: bool = False
    """``host`` is the name of a service (``_gossip-udp._udp.example``), whose SRV records say hosts and ports."""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one agent needs to start."""

    name: str
    region: str
    swarm: str
    """Unique id of the swarm: frames of other swarms are dropped."""
    data_dir: Path | None = None
    """Journal, identity and keys live here; None keeps all of them in memory."""
    keys: list[bytes] | None = None
    """32-byte keys, the one to seal with first; None sends plaintext."""
    host: str = "127.0.0.1"
    """Numeric address that gossip listens on and leaves from."""
    advertise: str | None = None
    """Numeric address that peers reach this agent at; None = ``host``."""
    gossip_port: int = 0
    """UDP and TCP port; 0 = any that is free."""
    api_host: str = "127.0.0.1"
    api_port: int = 0
    """Port that somebody serves the HTTP API on, which peers are told of; 0 = nobody does."""
    tokens: Tokens | None = None
    seeds: list[Seed] = []
    declared: dict[str, str] | None = None
    """Name to region of every member that ought to exist; None = not known."""
    settings: dict[str, Any] = {}
    """Parameters that differ from their defaults, until the swarm's own state says otherwise."""
    labels: dict[str, str] = {}
    datagram_limit: int = 1400
    """Largest UDP payload in bytes; larger messages go by TCP."""
    hooks: Path | None = None
    """File that says what to do when something happens."""
    project: list[Projection] = []
    """Parts of the state that are kept as files."""
    drop_regions: list[str] = []
    """Regions cut off from the first packet on, both ways (a partition that this agent is born into)."""
    drop_inbound: list[str] = []
    """Regions of which nothing is let in, from the first packet on."""
    drop_outbound: list[str] = []
    """Regions to which nothing is sent, from the first packet on."""
    drop_expires_ms: int | None = None
    """Wall clock in ms at which that cut ends by itself."""

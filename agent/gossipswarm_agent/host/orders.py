"""What a worker can be told: one typed order an operation, as JSON in one line.

``{"id": 7, "op": "start", ...}`` is answered by ``{"id": 7, "result": {...}}`` or
``{"id": 7, "error": {"reason", "message", "hint", "exit"}}``, in whatever order the work is done.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Seed = tuple[str, int, str]
"""Host, gossip port, region."""


class Refused(Exception):
    """An order that cannot be carried out; becomes the answer's ``error``."""

    def __init__(self, reason: str, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.status = status
        """Exit code of the command that asked: 1 failed, 2 a mistake in what was asked."""

    def to_dict(self) -> dict[str, Any]:
        """As it goes back."""
        return {
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "exit": self.status,
        }


class Order(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """Common to all."""

    id: int


class Drops(msgspec.Struct, frozen=True):
    """What the agents of a region drop; ``until_ms`` is wall clock, None = until told otherwise."""

    inbound: list[str] = []
    outbound: list[str] = []
    until_ms: int | None = None


class Configure(Order, tag="configure"):
    """Comes first, once: what all agents here have in common."""

    swarm: str
    host: str
    keys: list[str] | None
    """In base64; None = no encryption."""
    read_token: str
    write_token: str
    settings: dict[str, Any]
    agents_dir: str
    hooks: str | None
    declared: dict[str, str]
    seeds: dict[str, list[Seed]] = {}


class Start(Order, tag="start"):
    """-> {gossip_port, api_port, joined}, once the agent listens and knows a peer, or ``join_seconds`` are over.

    Ports are wishes: others are taken where these are in use. An agent that runs already is left alone.
    """

    name: str
    region: str
    labels: dict[str, str]
    gossip_port: int
    api_port: int
    seeds: list[Seed]
    drops: Drops
    join_seconds: float


class Stop(Order, tag="stop"):
    """-> {} once it is stopped. ``heirs``: one of these must first hold everything that the agent does."""

    name: str
    leave: bool
    heirs: list[str]


class Peers(Order, tag="peers"):
    """-> {}: who belongs to the swarm as declared (name to region), and seeds of the agents named."""

    declared: dict[str, str]
    seeds: dict[str, list[Seed]]


class SetDrops(Order, tag="drops"):
    """-> {agents}: how many drop accordingly; by region."""

    regions: dict[str, Drops]


class Settings(Order, tag="settings"):
    """-> {before, settings}: parameters in force, and as they would be with ``changes``; refused if invalid."""

    changes: dict[str, Any]


class Defaults(Order, tag="defaults"):
    """-> {}: parameters of agents that are started from now on."""

    settings: dict[str, Any]


class Change(Order, tag="change"):
    """-> {applied}: whether the agent is here; it wrote the parameters into the swarm's state."""

    agent: str
    changes: dict[str, Any]


class Keyring(Order, tag="keyring"):
    """-> {agents}: every agent here installs, uses or removes a key; ``keys`` are those of later ones."""

    action: Literal["install", "use", "remove"]
    keys: list[str]
    key: str = ""
    key_id: str = ""


class Stats(Order, tag="stats"):
    """-> {agents: [...]}: a summary of each."""


class Hashes(Order, tag="hashes"):
    """-> {hashes: {name: hash of the state}}"""


class CutReport(Order, tag="cut-report"):
    """-> {agents: [...]}: what each drops, and when it noticed."""


class Usage(Order, tag="usage"):
    """-> {name, pid, rss_bytes, cpu_seconds, agents_running, loop_lag_ms}"""


AnyOrder = (
    Configure | Start | Stop | Peers | SetDrops | Settings | Defaults | Change | Keyring | Stats
    | Hashes | CutReport | Usage
)  # fmt: skip

decode = msgspec.json.Decoder(AnyOrder).decode
"""The order in a line; msgspec.DecodeError if it is none."""

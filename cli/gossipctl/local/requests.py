"""What may be asked over the control socket: one typed request an operation.

A request is a JSON object in one line; ``op`` says which. Answers are ``{"ok": true, "result": ...}`` or
``{"ok": false, "error": {"reason", "message", "hint", "exit"}}``. With ``stream`` true an operation may send
lines before its last one, which is ``{"ok": true, "done": true, "result": ...}``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gossipctl.local.errors import USAGE, LocalError, suggestion

Count = Annotated[int, Meta(ge=1, le=10_000)]
Group = list[str] | str
"""Regions, as a list or separated by commas."""


class Request(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """Common to all."""

    stream: bool = False


class Ping(Request, tag="ping"):
    """-> {swarm_id, pid, version}"""


class Status(Request, tag="status"):
    """-> swarm_id, topology, protocol, status (initializing | active | degraded | partitioned), agents (names),
    regions, created_at, max_agents, encryption, agent_counts {region: {declared, active}}.

    ``verbose``: agents are objects as in Agents, plus workers, supervisor, settings, partitions, paths.
    """

    verbose: bool = False


class Spawn(Request, tag="spawn"):
    """-> {agents: [as in Agents]}, once they are up and known to a peer. Streams one {agent} a line.

    What is not given is chosen: the region with the fewest agents, the type ``worker``. The name of an agent
    that is stopped starts that one again; what is given must then be as it was.
    """

    name: str | None = None
    region: str | None = None
    type: str | None = None
    capabilities: list[str] | None = None
    labels: dict[str, str] = {}
    count: Count = 1


class Stop(Request, tag="stop"):
    """-> {agents: [names]}. ``remove`` also ends the declaration and deletes the data, once a peer has it.
    Streams one {agent: name} a line.
    """

    name: str | None = None
    region: str | None = None
    all: bool = False
    remove: bool = False


class Restart(Request, tag="restart"):
    """-> {agents: [names]}, once they are up again. ``kill``: SIGKILL their workers rather than ask."""

    name: str | None = None
    all: bool = False
    kill: bool = False


class Agents(Request, tag="agents"):
    """-> {agents: [{name, region, type, capabilities, labels, worker, status (starting | active | stopped |
    failed), joined, gossip, api, created_at, error}]}. ``filter`` is a status or ``all``.
    """

    filter: Literal["all", "active", "starting", "stopped", "failed"] = "all"
    region: str | None = None


class Resolve(Request, tag="resolve"):
    """-> {name, region, api, token, read_token}: of the agent named, or of any that is up."""

    name: str | None = None
    region: str | None = None


class ResolveAll(Request, tag="resolve-all"):
    """-> {agents: [as Resolve]} of all that are up."""

    region: str | None = None


class Config(Request, tag="config"):
    """-> {settings, changed, agent}. Without ``changes`` it only reads. ``agent`` passed them on."""

    changes: dict[str, Any] = {}


class Partition(Request, tag="partition"):
    """-> {id, kind, groups, started_at, expires_at, duration_ms, agents, enforced_ms}, once every agent drops.

    ``group1``/``group2`` or ``groups``, with ``one_way``; or ``pair``. See ``cuts``.
    """

    group1: Group | None = None
    group2: Group | None = None
    groups: list[Group] | None = None
    pair: Group | None = None
    one_way: bool = False
    duration_ms: Annotated[int, Meta(ge=1)] | None = None


class Heal(Request, tag="heal"):
    """-> {healed: [ids], agents}: every cut is lifted."""


class PartitionStatus(Request, tag="partition-status"):
    """-> {status (healthy | partitioned), cuts: [{id, kind, groups, started_at, expires_at, remaining_ms}], groups,
    enforced {agents, of}, detection {agents, of, groups: [{regions, agents, detected, first_ms, last_ms}]},
    healing {the same}, agents: [{name, region, inbound, outbound, dropped, detected_ms, healed_ms}]}.

    Milliseconds run from the moment at which the agent itself began (ended) to drop packets.
    """


class Stats(Request, tag="stats"):
    """-> {agents: [{name, region, status, ready, state_hash, losses_hash, leaves, ...}], declared}."""


class Converged(Request, tag="converged"):
    """-> {converged, share, agents, agreeing, state_hash}: how many have the commonest state."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Logs(Request, tag="logs"):
    """-> {lines: [{time, level, logger, message, agent?, source}]}, oldest first; ``name``: an agent, a worker or
    ``supervisor``. Streams {line} as they come for as long as the client listens, if ``follow``.
    """

    name: str | None = None
    lines: Annotated[int, Meta(ge=1, le=100_000)] = 100
    follow: bool = False


class Tokens(Request, tag="tokens"):
    """-> {read, write}: bearer tokens of the agents' HTTP API."""


class Keyring(Request, tag="keyring"):
    """-> {keys: [ids], agents}. ``rotate``: install a new key everywhere, use it everywhere, remove the old."""

    action: Literal["list", "rotate"] = "list"


class Apply(Request, tag="apply"):
    """-> {swarm, changes: [text], ignored: [fields], status}. Streams {change} lines."""

    manifest: dict[str, Any]


class Down(Request, tag="down"):
    """-> {}, after which the supervisor ends every process of the swarm, itself last."""


_Any = (
    Ping | Status | Spawn | Stop | Restart | Agents | Resolve | ResolveAll | Config | Partition | Heal
    | PartitionStatus | Stats | Converged | Logs | Tokens | Keyring | Apply | Down
)  # fmt: skip

_decoder = msgspec.json.Decoder(_Any)
_known = {kind.__struct_config__.tag for kind in _Any.__args__}


def decode(line: bytes) -> Request:
    """The request in a line; LocalError (exit 2) if it is none."""
    try:
        request: Request = _decoder.decode(line)
    except msgspec.ValidationError as error:
        op = _op_of(line)
        if op not in _known:
            hint = suggestion(str(op), [str(name) for name in _known], "operation")
            raise LocalError("unknown-operation", f"no operation {op!r}", hint, USAGE) from None
        raise LocalError("invalid-request", f"{op}: {_readable(error)}", exit=USAGE) from None
    except msgspec.DecodeError as error:
        raise LocalError("invalid-request", f"not JSON: {error}", exit=USAGE) from None
    return request


def _op_of(line: bytes) -> Any:
    request = msgspec.json.decode(line)
    return request.get("op") if isinstance(request, dict) else None


def _readable(error: msgspec.ValidationError) -> str:
    what, _, where = str(error).partition(" - at `$.")
    what = what[0].lower() + what[1:]
    return f"{where.rstrip('`')}: {what}" if where else what

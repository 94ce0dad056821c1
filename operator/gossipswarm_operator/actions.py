"""What a plan consists of: typed steps, each of which may be repeated, and after any of which another plan can be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gossipswarm_operator.client import Propagation
from gossipswarm_operator.keyring import Key


class Apply(msgspec.Struct, frozen=True):
    """Server-side apply of an object."""

    body: dict[str, Any]
    why: Literal["Created", "Updated", "Repaired"]
    field: str = ""
    """The first field that differed."""


class Delete(msgspec.Struct, frozen=True):
    """Delete an object, if it is still the one that was seen. ``Orphan`` leaves what it owns."""

    kind: str
    name: str
    uid: str
    why: str
    propagation: Propagation = "Background"


class ResizeClaim(msgspec.Struct, frozen=True):
    """Ask for a larger volume."""

    name: str
    size: str


class ChangeSettings(msgspec.Struct, frozen=True):
    """Change parameters of the running swarm, by one agent."""

    agent: str
    changes: Mapping[str, Any]


class InstallKeys(msgspec.Struct, frozen=True):
    """Make an agent accept further keys."""

    agent: str
    keys: tuple[Key, ...]


class UseKey(msgspec.Struct, frozen=True):
    """Make an agent seal with another key."""

    agent: str
    id: str


class RemoveKeys(msgspec.Struct, frozen=True):
    """Make an agent refuse keys."""

    agent: str
    ids: tuple[str, ...]


class Drain(msgspec.Struct, frozen=True):
    """Make an agent take no writes and hand over what it holds."""

    agent: str
    leaving: tuple[str, ...]
    """Agents that do not count as somebody to hand over to: they go as well."""
    since: str
    """RFC 3339; when this was first asked for."""


class LiftCut(msgspec.Struct, frozen=True):
    """Make an agent hear every region again."""

    agent: str


class ReplaceKeyring(msgspec.Struct, frozen=True):
    """The Secret with the keys is gone while agents run: a new key, which they all get before any restarts with it."""

    agents: tuple[str, ...]
    key: Key
    secret: Apply


Action = (
    Apply
    | Delete
    | ResizeClaim
    | ChangeSettings
    | InstallKeys
    | UseKey
    | RemoveKeys
    | ReplaceKeyring
    | Drain
    | LiftCut
)


def described(action: Action) -> str:
    """The action in a few words, for logs and events."""
    match action:
        case Apply(body=body, why=why, field=field):
            detail = f" ({field})" if field else ""
            return f"{why} {body['kind']} {body['metadata']['name']}{detail}"
        case Delete(kind=kind, name=name, why=why):
            return f"Deleted {kind} {name}: {why}"
        case ResizeClaim(name=name, size=size):
            return f"Asked for {size} for volume claim {name}"
        case ChangeSettings(agent=agent, changes=changes):
            pairs = ", ".join(f"{name}={value}" for name, value in sorted(changes.items()))
            return f"Changed {pairs} in the swarm, by {agent}"
        case InstallKeys(agent=agent, keys=keys):
            return f"Installed key {', '.join(key.id for key in keys)} at {agent}"
        case UseKey(agent=agent, id=name):
            return f"{agent} seals with key {name}"
        case RemoveKeys(agent=agent, ids=ids):
            return f"Removed key {', '.join(ids)} at {agent}"
        case ReplaceKeyring(agents=agents, key=key):
            return f"Replaced the lost keyring by key {key.id}, at {len(agents)} agents"
        case LiftCut(agent=agent):
            return f"{agent} hears every region again"
        case Drain(agent=agent):
            return f"{agent} handed over what it held"


class Wait(msgspec.Struct, frozen=True):
    """Something that the plan cannot go on with now. ``blocked``: not before somebody intervenes."""

    reason: str
    message: str
    blocked: bool = False

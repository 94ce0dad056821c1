"""What a plan for the cuts of a swarm consists of. Each step may be repeated, and after any another plan can be made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from gossipswarm_operator.partition.model import SwarmPartition


class Hold(msgspec.Struct, frozen=True):
    """Have the object stay until its cut is undone."""

    partition: SwarmPartition


class Begin(msgspec.Struct, frozen=True):
    """Decide that the cut is made now: from here on it is in force, and its time runs."""

    partition: SwarmPartition
    at: datetime


class HandOver(msgspec.Struct, frozen=True):
    """The network does not do it: from here on agents make the cut."""

    partition: SwarmPartition
    message: str


class GiveUp(msgspec.Struct, frozen=True):
    """The network does not do it: from here on the cut is not in force."""

    partition: SwarmPartition
    reason: str
    message: str


class Put(msgspec.Struct, frozen=True):
    """Server-side apply of a NetworkPolicy or ConfigMap."""

    body: dict[str, Any]


class Remove(msgspec.Struct, frozen=True):
    """Delete a NetworkPolicy or ConfigMap, if it is still the one that was seen."""

    kind: str
    name: str
    uid: str


class Drop(msgspec.Struct, frozen=True):
    """Make agents drop what some regions send, and send them nothing; no regions = hear everybody again."""

    regions: Mapping[str, tuple[str, ...]]
    """By agent."""
    until: datetime | None


class Reset(msgspec.Struct, frozen=True):
    """Make agents give up their connections, so that the network judges every flow afresh."""

    agents: tuple[str, ...]
    cut: str
    """Hash of what is cut."""
    stage: int
    """1 = policies were applied; 2 = new flows were seen to be closed."""


class Ask(msgspec.Struct, frozen=True):
    """One agent is to try to reach another that is beyond the cut."""

    source: str
    target: str
    address: str
    """Gossip address of the target."""


class Probe(msgspec.Struct, frozen=True):
    """One round of a SwarmPartition's trial."""

    partition: SwarmPartition
    asks: tuple[Ask, ...]


class Finish(msgspec.Struct, frozen=True):
    """The cut is undone: say so, and let the object go."""

    partition: SwarmPartition
    reason: str
    message: str
    at: datetime


Action = Hold | Begin | HandOver | GiveUp | Put | Remove | Drop | Reset | Probe | Finish

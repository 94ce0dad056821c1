"""The swarm's live-changeable parameters: one typed, range-checked model.

Each parameter lives as one leaf under ``$swarm.config`` of the replicated state, so a change is
versioned, spreads like any write and is applied by every agent on receipt. Durations are milliseconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Mode = Literal["push", "pull", "push-pull"]
Resolution = Literal["vector-clock", "last-write-wins", "max", "min", "union", "manual"]
Healing = Literal["merge-last-write-wins", "merge", "manual"]
Compression = Literal["none", "delta", "zstd"]


class InvalidSetting(ValueError):
    """A parameter is unknown, of the wrong type or out of range. The message says which and what is allowed."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a swarm, with their defaults and ranges."""

    fanout: Annotated[
        int, Meta(ge=1, le=16, description="peers contacted per round; arity of the spread trees")
    ] = 3
    interval: Annotated[int, Meta(ge=10, le=60_000, description="gossip round in ms")] = 100
    mode: Annotated[Mode, Meta(description="direction of the random exchange")] = "push-pull"
    eager: Annotated[
        bool,
        Meta(description="forward on receipt over trees; false is the textbook mode, on rounds"),
    ] = True
    redundancy: Annotated[int, Meta(ge=1, le=4, description="spread trees per origin")] = 2
    convergence_threshold: Annotated[
        Share, Meta(description="share of agents that counts as converged")
    ] = 0.95
    anti_entropy: Annotated[bool, Meta(description="periodic full comparison by hash tree")] = True
    anti_entropy_interval: Annotated[
        int, Meta(ge=100, le=3_600_000, description="ms between full comparisons")
    ] = 10_000
    partition_detection: Annotated[bool, Meta(description="declare region cuts")] = True
    partition_timeout: Annotated[
        int, Meta(ge=100, le=60_000, description="ms of silence between regions before a cut")
    ] = 300
    healing_strategy: Annotated[
        Healing,
        Meta(description="what reconnected regions do: merge at once, or wait for an operator"),
    ] = "merge-last-write-wins"
    conflict_resolution: Annotated[
        Resolution, Meta(description="how concurrent writes are decided")
    ] = "vector-clock"
    conflict_resolution_prefixes: Annotated[
        dict[str, Resolution], Meta(description="overrides by key prefix")
    ] = {}
    compression: Annotated[
        Compression,
        Meta(
            description="delta: only changed leaves travel; zstd: large batches compressed; delta implies both"
        ),
    ] = "delta"
    region_affinity: Annotated[
        Share, Meta(description="share of random exchanges kept in the own region")
    ] = 0.7
    cross_region_fanout: Annotated[
        int, Meta(ge=1, le=8, description="spread edges that enter a region from another")
    ] = 1
    max_clock_skew: Annotated[
        int,
        Meta(ge=1, le=3_600_000, description="ms a clock may run ahead before its writes are held"),
    ] = 500
    degraded_mode: Annotated[bool, Meta(description="read-only: writes get 503")] = False
    durability: Annotated[
        Literal["fsync", "memory"], Meta(description="when a write is acknowledged")
    ] = "fsync"
    probe_interval: Annotated[
        int, Meta(ge=10, le=60_000, description="ms between failure-detector probes of one agent")
    ] = 500
    suspicion_timeout: Annotated[
        int, Meta(ge=10, le=600_000, description="ms a confirmed suspect has to refute")
    ] = 850
    max_agents: Annotated[int, Meta(ge=1, le=10_000, description="agents the swarm admits")] = 1000


DEFAULTS = Settings()
NAMES = Settings.__struct_fields__


def merge(current: Settings, changes: Mapping[str, Any]) -> Settings:
    """Apply ``changes`` to ``current``, whole or not at all.

    Raises:
        InvalidSetting: naming the parameter, the value and what is allowed.
    """
    known = {}
    for raw, value in changes.items():
        name = raw.replace("-", "_")
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(NAMES)}"
            raise InvalidSetting(f"unknown parameter {raw!r}{hint}")
        known[name] = value
    try:
        return msgspec.convert({**msgspec.to_builtins(current), **known}, Settings)
    except msgspec.ValidationError as error:
        where = str(error).partition("$.")[2].rstrip("`") or "?"
        name = where.split("[")[0]
        reason = str(error).split(" - ")[0]
        raise InvalidSetting(
            f"{name}={known.get(name)!r}: {reason[0].lower()}{reason[1:]}"
        ) from None

"""The swarm's parameters as the manifest writes them (``spec.gossip``) and as agents take them.

The agent judges ranges; this module knows names, types and defaults. A test holds it against the agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator.quantities import milliseconds

Kind = Literal["count", "duration", "share", "switch", "choice", "choices"]


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: how it is written in a manifest, and what an agent starts with."""

    kind: Kind
    default: Any


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "fanout": Parameter("count", 3),
    "interval": Parameter("duration", 100),
    "mode": Parameter("choice", "push-pull"),
    "eager": Parameter("switch", True),
    "redundancy": Parameter("count", 2),
    "convergence_threshold": Parameter("share", 0.95),
    "anti_entropy": Parameter("switch", True),
    "anti_entropy_interval": Parameter("duration", 10_000),
    "partition_detection": Parameter("switch", True),
    "partition_timeout": Parameter("duration", 300),
    "healing_strategy": Parameter("choice", "merge-last-write-wins"),
    "conflict_resolution": Parameter("choice", "vector-clock"),
    "conflict_resolution_prefixes": Parameter("choices", {}),
    "compression": Parameter("choice", "delta"),
    "region_affinity": Parameter("share", 0.7),
    "cross_region_fanout": Parameter("count", 1),
    "max_clock_skew": Parameter("duration", 500),
    "degraded_mode": Parameter("switch", False),
    "durability": Parameter("choice", "fsync"),
    "probe_interval": Parameter("duration", 500),
    "suspicion_timeout": Parameter("duration", 850),
    "max_agents": Parameter("count", 1000),
}
"""Agent's name to parameter."""

TOP_LEVEL: Final = ("durability", "max_agents")
"""Parameters that are fields of the spec itself."""


def snake(camel: str) -> str:
    """``antiEntropyInterval`` to ``anti_entropy_interval``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), camel)


def kebab(pascal: str) -> str:
    """``MergeLastWriteWins`` to ``merge-last-write-wins``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", pascal).lower()


def settings(gossip: Mapping[str, Any]) -> dict[str, Any]:
    """``spec.gossip`` to parameters by the agent's names.

    Raises ValueError: ``<field>: <what is wrong with it>``.
    """
    found: dict[str, Any] = {}
    for field, value in gossip.items():
        name = _ALIASES.get(field, snake(field))
        parameter = PARAMETERS.get(name)
        if parameter is None or name in TOP_LEVEL:
            raise ValueError(f"{field}: no such parameter")
        try:
            found[name] = _READ[parameter.kind](value)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{field}: {error}") from None
    return found


_ALIASES: Final = {"conflictPolicies": "conflict_resolution_prefixes"}


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, not {value!r}")
    return value


def _duration(value: Any) -> int:
    # A bare number is milliseconds, as on the command line.
    return milliseconds(value) if isinstance(value, str) else _count(value)


def _share(value: Any) -> float:
    return float(value)


def _switch(value: Any) -> bool:
    if value not in ("Enabled", "Disabled"):
        raise ValueError(f"expected Enabled or Disabled, not {value!r}")
    return bool(value == "Enabled")


def _choice(value: Any) -> str:
    return kebab(str(value))


def _choices(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(prefix): kebab(str(choice)) for prefix, choice in value.items()}
    return {str(entry["prefix"]): kebab(str(entry["resolution"])) for entry in value}


_READ: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    "count": _count,
    "duration": _duration,
    "share": _share,
    "switch": _switch,
    "choice": _choice,
    "choices": _choices,
}

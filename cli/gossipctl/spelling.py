"""How a GossipSwarm manifest writes the swarm's parameters (``spec.gossip``), and how agents do.

    antiEntropyInterval: 10s     anti_entropy_interval: 10000
    convergenceThreshold: "0.95" convergence_threshold: 0.95
    antiEntropy: Enabled         anti_entropy: true
    mode: PushPull               mode: push-pull

Both directions are strict: what the CRD would refuse is refused here, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gossipctl import durations
from gossipctl.parameters import PARAMETERS, POLICIES, Parameter
from gossipctl.suggest import did_you_mean, listing

TOP_LEVEL = ("durability", "max_agents")
"""Parameters that are fields of the spec itself."""
PREFIXES = "conflict_resolution_prefixes"
_FIELD_OF_PREFIXES = "conflictPolicies"
_SWITCH = {"Enabled": True, "Disabled": False}
_DURATION = re.compile(r"[0-9]+(\.[0-9]+)?(ms|s|m|h)")
_DECIMAL = re.compile(r"[0-9](\.[0-9]+)?")


class Misspelt(ValueError):
    """A field that no manifest may have, or a value that it may not have. ``hint`` may be empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def camel(name: str) -> str:
    """``anti_entropy`` to ``antiEntropy``."""
    if name == PREFIXES:
        return _FIELD_OF_PREFIXES
    return re.sub(r"[_-]([a-z])", lambda found: found[1].upper(), name)


def pascal(word: str) -> str:
    """``push-pull`` to ``PushPull``."""
    return "".join(part.capitalize() for part in word.split("-"))


FIELDS = {camel(name): name.replace("-", "_") for name in map(str, PARAMETERS)}
FIELDS[_FIELD_OF_PREFIXES] = FIELDS.pop("conflictResolutionPrefixes")


def write(name: str, value: Any) -> Any:
    """A parameter's value, by the agents' name for it, as a manifest has it."""
    if name == PREFIXES:
        return [
            {"prefix": prefix, "resolution": pascal(policy)} for prefix, policy in value.items()
        ]
    if isinstance(value, bool):
        return "Enabled" if value else "Disabled"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if _parameter(name).unit:
        return f"{value // 1000}s" if value % 1000 == 0 and value else f"{value}ms"
    return pascal(value) if isinstance(value, str) else value


def read(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a spec sets, by the agents' names.

    Raises:
        Misspelt: naming the field, what it holds and what was expected.
    """
    found = {}
    gossip = spec.get("gossip") or {}
    for field, value in gossip.items():
        name = FIELDS.get(field)
        if name is None or name in TOP_LEVEL:
            known = [each for each, named in FIELDS.items() if named not in TOP_LEVEL]
            above = f"it is spec.{field}, not a part of spec.gossip" if name else ""
            raise Misspelt(
                f"unknown field spec.gossip.{field}",
                above or did_you_mean(field, known) or f"known: {listing(known, limit=30)}",
            )
        found[name] = _read_one(f"spec.gossip.{field}", name, value)
    for name in TOP_LEVEL:
        if camel(name) in spec:
            found[name] = _read_one(f"spec.{camel(name)}", name, spec[camel(name)])
    return found


def _parameter(name: str) -> Parameter:
    return PARAMETERS[name.replace("_", "-")]


def _read_one(where: str, name: str, value: Any) -> Any:
    parameter = _parameter(name)
    if name == PREFIXES:
        return _read_prefixes(where, value)
    if isinstance(parameter.default, bool):
        return _word(where, value, _SWITCH)
    if parameter.unit:
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            raise _unexpected(where, "a duration with a unit, such as 100ms, 10s or 5m", value)
        return durations.parse(value)
    if isinstance(parameter.default, float):
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise _unexpected(where, 'a decimal in quotes, such as "0.95"', value)
        return float(value)
    if isinstance(parameter.default, int):
        if isinstance(value, bool) or not isinstance(value, int):
            raise _unexpected(where, "a whole number", value)
        return value
    return _word(where, value, {pascal(word): word for word in parameter.convert.allowed})  # type: ignore[attr-defined]  # set by parser.choice


def _read_prefixes(where: str, value: Any) -> dict[str, str]:
    policies = {pascal(word): word for word in POLICIES}
    if not isinstance(value, list):
        raise _unexpected(where, "a list of prefixes, each with a resolution", value)
    found = {}
    for index, each in enumerate(value):
        if not isinstance(each, Mapping) or set(each) != {"prefix", "resolution"}:
            raise _unexpected(f"{where}[{index}]", "prefix and resolution", each)
        found[str(each["prefix"])] = _word(
            f"{where}[{index}].resolution", each["resolution"], policies
        )
    return found


def _word(where: str, value: Any, words: Mapping[str, Any]) -> Any:
    if not isinstance(value, str) or value not in words:
        raise _unexpected(where, listing(words, last="or"), value)
    return words[value]


def _unexpected(where: str, expected: str, value: Any) -> Misspelt:
    return Misspelt(f"{where}: expected {expected}, not {value!r}")

"""``spec.gossip`` on a running swarm: which parameters agents start with, and which are to be changed live. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossipswarm_operator.parameters import PARAMETERS


def enforced(spec: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that the spec sets, and those it set once, which go back to their defaults.

    ``before`` is what agents were last told to start with. What the spec never named is left to whoever changes it
    live.
    """
    defaults = {name: PARAMETERS[name].default for name in before if name in PARAMETERS}
    return {**defaults, **spec}


def changes(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that the running swarm has otherwise. One that it does not know is of a newer version: left out."""
    return {
        name: value for name, value in wanted.items() if name in current and current[name] != value
    }

"""What a swarm's objects depend on beside its spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.partition.severing import Cut

HOLD: Final = 1_000_000
"""Partition of a StatefulSet that updates no pod: above every ordinal."""


class RegionFacts(msgspec.Struct, frozen=True):
    """How far a region is on its way to what the spec wants."""

    replicas: int
    """More than the spec wants while agents hand over what they hold."""
    partition: int = HOLD
    """Pods from this ordinal on may be replaced to match the template."""


class Facts(msgspec.Struct, frozen=True):
    """What is needed beside the spec."""

    default_image: str
    regions: Mapping[str, RegionFacts]
    declared: Mapping[str, str]
    """Agent to region of everyone who ought to exist, those on their way out included."""
    settings: Mapping[str, object]
    """Parameters that agents start with."""
    keys: Mapping[str, bytes]
    """Data of the keyring Secret; empty = it is not ours to write."""
    key_annotations: Mapping[str, str]
    read_token: str
    write_token: str
    restart: Mapping[str, str] = {}
    """Annotations of pods whose change means that they have to be replaced."""
    cut: Cut = Cut()
    """Regions that are cut off from each other on purpose."""
    ports: OpenPorts = RANGES
    """What policies leave open beside gossip."""

    @property
    def inhabited(self) -> tuple[str, ...]:
        """Regions of the spec, and those that still have agents."""
        return tuple(sorted({*self.regions, *self.declared.values()}))

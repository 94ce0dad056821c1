"""What a swarm is made of, as plain dictionaries for server-side apply. Pure: no call, clock or chance."""

from __future__ import annotations

from gossipswarm_operator.builders.facts import HOLD, Facts, RegionFacts
from gossipswarm_operator.builders.whole import build, build_region

__all__ = ["HOLD", "Facts", "RegionFacts", "build", "build_region"]

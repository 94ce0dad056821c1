"""The clocks of this machine."""

from __future__ import annotations

import time

from gossipswarm_agent.core.context import Instant


def read_clocks() -> Instant:
    """Both clocks of this machine."""
    return Instant(time.monotonic(), time.time_ns() // 1_000_000)

"""Ports that stay free between being found and being used, as the system gives none of them to whoever asks for any."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

WIDTH: Final = 20_000
"""So many below those that the system gives to whoever connects, or asks for any."""
_GIVEN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def unassigned_ports() -> list[int]:
    """All of them in a random order; somebody may have asked for one by its number."""
    first = int(_GIVEN.read_text("ascii").split()[0]) if _GIVEN.exists() else 49_152
    ports = range(max(1024, first - WIDTH), first) or range(1024, 1 << 16)
    return random.SystemRandom().sample(ports, len(ports))

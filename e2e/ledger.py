"""Writers that never rest, and a ledger of what was acknowledged to them: no line of it may be missing afterwards."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from e2e.cluster import Failed, until
from e2e.swarm import Swarm
from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed
from gossipswarm_client.errors import GossipSwarmError

KEY: Final = "ledger"
WRITERS: Final = 3
PATIENCE: Final = 2.0
"""Seconds that a writer waits for an acknowledgement before it turns to another agent with its next line."""
PAUSE: Final = 0.02
LOOK_EVERY: Final = 50
"""Lines after which a writer looks again which agents are there."""
CHECK_SECONDS: Final = 60.0


class Ledger:
    """Writes to a swarm from entering to leaving, each line at an agent chosen at random."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self.lines: dict[str, int] = {}
        """Acknowledged: by key below ``ledger`` what was written."""
        self._regions: dict[str, str] = {}
        """By the same key whose agent acknowledged it."""
        self.unknown = 0
        """Writes that nobody acknowledged in time: they may be there or not."""
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,), name=f"writer-{number}")
            for number in range(WRITERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        chance = random.Random(writer)
        agents: Sequence[Agent] = ()
        number = 0
        while not self._stopped.wait(PAUSE):
            try:
                if not agents or number % LOOK_EVERY == 0:
                    agents = self._swarm.agents()
                agent = chance.choice(agents)
                key = f"w{writer}.n{number}"
                number += 1
                agent.set(f"{KEY}.{key}", number, timeout=PATIENCE)
                self.lines[key] = number
                self._regions[key] = agent.region
            except (GossipSwarmError, CommandFailed, OSError):
                self.unknown += 1
                agents = ()

    def by_region(self) -> Counter[str]:
        """How many writes each region's agents have acknowledged so far."""
        return Counter(list(self._regions.values()))  # a copy: writers go on

    def check(self, agents: int) -> None:
        """Wait until so many agents hold every line. Raises Failed with what is missing, and where."""
        missing: dict[str, list[str]] = {}

        def complete() -> bool | None:
            missing.clear()
            try:
                found = self._swarm.everywhere(KEY)
            except (GossipSwarmError, CommandFailed) as error:
                missing["everywhere"] = [str(error)]
                return None
            for name, held in found.items():
                lost = [key for key, value in self.lines.items() if _at(held, key) != value]
                if lost:
                    missing[name] = lost
            return True if len(found) == agents and not missing else None

        try:
            until(f"{len(self.lines)} lines at {agents} agents", complete, CHECK_SECONDS, every=1.0)
        except Failed as failed:
            short = {name: (len(lost), lost[:5]) for name, lost in missing.items()}
            raise Failed(f"{failed}; lost: {short}") from None


def _at(held: Any, key: str) -> Any:
    for part in key.split("."):
        held = held.get(part) if isinstance(held, dict) else None
    return held

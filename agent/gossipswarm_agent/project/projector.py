"""All projections of one agent: a part of the state each, kept as files for the application beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Final, Protocol

from prometheus_client.core import Metric

from gossipswarm_agent.project.following import Follower
from gossipswarm_agent.project.overlays import Reads
from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.project.receipts import Counts, Receipt, encode_receipt, families
from gossipswarm_agent.project.writing import target

LOOK_SECONDS: Final = 0.02
"""Between two looks at whether the agent has caught up, until it has."""

_log = logging.getLogger(__name__)


class Configured(Protocol):
    """What a projector has to know of the configuration of an agent or an edge."""

    @property
    def name(self) -> str:
        """Of whoever projects."""

    @property
    def region(self) -> str:
        """Whose trials are shown."""

    @property
    def swarm(self) -> str:
        """Unique id of the swarm."""

    @property
    def project(self) -> Sequence[Projection]:
        """What is to be kept as files."""


class Projector:
    """Keeps files at what the state says, from when it has been caught up with until it is closed.

    Nothing is written before that: an agent that starts without its data, and has not met anybody yet, must not replace
    what its application has by nothing.
    """

    def __init__(self, config: Configured, state: Reads, executor: Executor | None) -> None:
        self._followers = [
            Follower(each, state, config.region, target(each, config.swarm, config.name), executor)
            for each in config.project
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, caught_up: Callable[[], bool]) -> None:
        """Begin once ``caught_up`` says so."""
        if self._followers:
            self._tasks.append(asyncio.create_task(self._run(caught_up), name="projections"))

    async def _run(self, caught_up: Callable[[], bool]) -> None:
        while not caught_up():  # noqa: ASYNC110 - nothing says when it has; after that nobody looks
            await asyncio.sleep(LOOK_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            for follower in self._followers:
                path = follower.projection.path
                tasks.create_task(follower.follow(), name=f"projection {path}")
                tasks.create_task(follower.tell(), name=f"reload {path}")

    def changed(self, keys: Iterable[str]) -> None:
        """The visible values of these leaves changed."""
        if not self._followers:
            return
        keys = tuple(keys)
        for follower in self._followers:
            if not follower.waits and any(map(follower.concerns, keys)):
                follower.note()

    def changed_all(self) -> None:
        """Everything may have changed."""
        for follower in self._followers:
            follower.note()

    def subscribe(self, callback: Callable[[Receipt], None]) -> None:
        """Tell ``callback`` of every new receipt, on the event loop."""
        for follower in self._followers:
            follower.on_receipt = callback

    @property
    def counts(self) -> list[Counts]:
        """Receipt and figures of each projection, in the order of the configuration."""
        return [follower.counts for follower in self._followers]

    @property
    def receipts(self) -> list[Receipt]:
        """What is known of each projection, in the order of the configuration."""
        return [each.receipt for each in self.counts]

    @property
    def unreadiness(self) -> str | None:
        """What has not been written since the start, in words; None = everything has."""
        for receipt in self.receipts:
            if receipt.written is None:
                said = _say(receipt)
                return f"{said}: {receipt.trouble}" if receipt.trouble else said
        return None

    @property
    def trouble(self) -> str | None:
        """What could be written before and cannot be now, in words."""
        troubles = [
            f"{receipt.projection.path} stays at version {receipt.written.version}: {receipt.trouble}"
            for receipt in self.receipts
            if receipt.written is not None and receipt.trouble is not None
        ]
        return "; ".join(troubles) or None

    def report(self, limit: int) -> str:
        """The receipts as JSON of at most ``limit`` bytes, for others than the application; what is too much is left out."""
        known, room = [], limit - 64
        for receipt in self.receipts:
            encoded = encode_receipt(receipt)
            room -= len(encoded) + 1
            if room < 0:
                break
            known.append(encoded.decode())
        left_out = len(self._followers) - len(known)
        return f'{{"projections":[{",".join(known)}],"left_out":{left_out}}}'

    def collect(self) -> Iterator[Metric]:
        """Metrics of all projections."""
        yield from families(self.counts)

    async def close(self) -> None:
        """Finish the writes that are under way. The files stay."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("projections ended early", exc_info=ended)
        for follower in self._followers:
            await follower.close()


def _say(receipt: Receipt) -> str:
    projection = receipt.projection
    return f"{projection.prefix} is not yet projected to {projection.path}"

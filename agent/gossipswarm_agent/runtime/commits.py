"""Between the core and the journal: what is appended together, synced together and acknowledged together.

Records of writes that somebody waits for go to the journal at the end of the event loop's turn, and share
one sync with all that came meanwhile. Records that came from peers wait a little longer: peers have them,
so nothing is lost with the process but the time to fetch them again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec

from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Durable, Event, JournalFailed
from gossipswarm_agent.runtime.journal import DiskFull, Journal, JournalError, MemoryJournal

AnyJournal: TypeAlias = Journal | MemoryJournal

LINGER_SECONDS: Final = 0.05
"""How long records that nobody waits for may stay in memory."""
LINGER_BYTES: Final = 256 << 10
"""...unless they are more than this."""
SNAPSHOT_BYTES: Final = 4 << 20
"""Segments below this are not worth a snapshot."""
RETRY_SECONDS: Final = 5.0
"""Pause between attempts to make a journal whole that could not take everything."""

_log = logging.getLogger(__name__)


class JournalStatus(msgspec.Struct, frozen=True):
    """How the journal is doing."""

    bytes: int
    records: int
    """Records appended since the start."""
    fsync_p99_ms: float
    """Over the last few hundred syncs; 0 = there was none."""
    snapshots: int
    failures: int
    trouble: str | None
    """Why it does not hold everything at the moment."""


class Commits:
    """Owns when a journal is written; the journal itself is closed by whoever opened it.

    ``feed`` takes the events that tell the core how its appends fared; ``snapshot`` yields records that
    stand for everything appended so far.
    """

    def __init__(
        self,
        journal: AnyJournal,
        feed: Callable[[Sequence[Event]], object],
        snapshot: Callable[[], Iterable[bytes]],
        rng: random.Random,
    ) -> None:
        self.failures = 0
        """Appends, syncs and snapshots that the disk refused."""
        self.snapshots = 0
        self.records = 0
        """Records appended so far."""
        self.trouble: JournalError | None = None
        """Why the journal does not hold everything at the moment; None = it does."""
        self._journal = journal
        self._feed = feed
        self._snapshot = snapshot
        # The agents of one machine receive the same: without this they would all take a snapshot at once.
        self._patience = rng.uniform(1.0, 2.0)
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._pending_tokens: list[int] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flush_soon: asyncio.Handle | None = None
        self._unsynced: list[int] = []
        self._unsynced_end = 0
        self._sync_task: asyncio.Task[None] | None = None
        self._snapshot_task: asyncio.Task[None] | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def append(self, record: bytes, token: int | None, *, whole: bool = False) -> None:
        """Take a record; with a token, ``Durable`` or ``JournalFailed`` follows.

        ``whole``: it is of use only in a journal that holds everything, and refused while this one does not.
        """
        if whole and token is not None and self.trouble is not None:
            error = WriteRefused(503, "journal-failed", str(self.trouble), RETRY_SECONDS)
            self._loop.call_soon(self._feed, [JournalFailed(token, error)])
            return
        self._pending.append(record)
        self._pending_bytes += len(record)
        if token is not None:
            self._pending_tokens.append(token)
            if self._flush_soon is None:
                self._flush_soon = self._loop.call_soon(self.flush)
        elif self._pending_bytes > LINGER_BYTES:
            self.flush()
        elif self._flush_timer is None:
            self._flush_timer = self._loop.call_later(LINGER_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand everything that waits to the journal."""
        for handle in (self._flush_timer, self._flush_soon):
            if handle is not None:
                handle.cancel()
        self._flush_timer = self._flush_soon = None
        records, tokens = self._pending, self._pending_tokens
        if not records:
            return
        self._pending, self._pending_bytes, self._pending_tokens = [], 0, []
        try:
            end = self._journal.append(records)
        except JournalError as error:
            self._failed(error, tokens)
            return
        self.records += len(records)
        if tokens:
            self._unsynced += tokens
            self._unsynced_end = end
            if self._sync_task is None:
                self._sync_task = self._loop.create_task(self._sync(), name="journal-acknowledge")
        self._snapshot_if_due()

    async def _sync(self) -> None:
        try:
            while self._unsynced:
                tokens, self._unsynced = self._unsynced, []
                try:
                    await self._journal.sync(self._unsynced_end)
                except JournalError as error:
                    self._failed(error, tokens)
                else:
                    self._feed([Durable(token) for token in tokens])
        finally:
            self._sync_task = None

    def _failed(self, error: JournalError, tokens: list[int]) -> None:
        self.failures += 1
        if self.trouble is None:
            _log.error("the journal refuses writes", extra={"error": str(error)})
        self.trouble = error
        self.mend()
        if isinstance(error, DiskFull):
            refusal = WriteRefused(507, "disk-full", str(error), RETRY_SECONDS)
        else:
            refusal = WriteRefused(503, "journal-failed", str(error), RETRY_SECONDS)
        if tokens:
            self._feed([JournalFailed(token, refusal) for token in tokens])

    def status(self) -> JournalStatus:
        """How the journal is doing."""
        syncs = sorted(self._journal.fsync_seconds)
        return JournalStatus(
            bytes=self._journal.bytes,
            records=self.records,
            fsync_p99_ms=1000 * syncs[int(0.99 * (len(syncs) - 1))] if syncs else 0.0,
            snapshots=self.snapshots,
            failures=self.failures,
            trouble=None if self.trouble is None else str(self.trouble),
        )

    # --- snapshots --------------------------------------------------------------------------------

    def _snapshot_if_due(self) -> None:
        segments = self._journal.segment_bytes
        if segments <= SNAPSHOT_BYTES:
            return
        if segments > max(SNAPSHOT_BYTES, 2 * (self._journal.bytes - segments)) * self._patience:
            self.start_snapshot()

    def start_snapshot(self) -> None:
        """Begin to replace the journal by a snapshot of now, unless one is under way."""
        if self._snapshot_task is None:
            self._snapshot_task = self._loop.create_task(
                self._take_snapshot(), name="journal-snapshot-request"
            )

    async def _take_snapshot(self) -> None:
        try:
            # What waits in memory is in the snapshot as well; appended first, it keeps its order.
            self.flush()
            await self._journal.snapshot(self._snapshot())
        except JournalError as error:
            self._failed(error, [])
        else:
            self.snapshots += 1
            if self.trouble is not None:
                _log.info("the journal is whole again")
            self.trouble = None
        finally:
            self._snapshot_task = None

    def mend(self) -> None:
        """Something may be missing from the journal: take a snapshot before long."""
        if self._retry_timer is None and not self._closed:
            self._retry_timer = self._loop.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        self.start_snapshot()

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Append what waits, and await what is under way."""
        self.flush()
        self._closed = True
        under_way = [task for task in (self._sync_task, self._snapshot_task) if task is not None]
        for task in under_way:
            with suppress(JournalError):
                await task
        if self._retry_timer is not None:
            self._retry_timer.cancel()

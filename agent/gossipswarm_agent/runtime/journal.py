"""An agent's journal: append-only segments of opaque records, group-committed, cut short by
snapshots.

What ``append`` returned for survives the death of the process; what ``sync`` returned for survives
the death of the machine. The journal knows nothing of what its records mean, except that replaying
one twice is harmless: after damage to a snapshot, older files that still exist are replayed as
well.

Crash safety of a snapshot with number n, in the order in which things happen:

1. Appends go to segment n or above from the moment that ``snapshot`` is called; nothing is visible
   yet.
2. The snapshot is written under a temporary name and fsynced. A crash leaves all segments below n.
3. It is renamed and the directory fsynced. From here on recovery starts at n.
4. Files below n are removed. A crash in between leaves files that the next start removes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeAlias

from gossipswarm_agent.runtime import journal_format as form
from gossipswarm_agent.runtime.journal_recovery import (
    DiskFull,
    JournalError,
    JournalLocked,
    Quarantined,
    Recovery,
    Replayed,
    journal_files,
    recover,
    typed_errors,
)
from gossipswarm_agent.runtime.syncing import syncer_of

__all__ = [
    "DiskFull",
    "Journal",
    "JournalError",
    "JournalLocked",
    "MemoryJournal",
    "Quarantined",
    "Recovery",
]

Record: TypeAlias = bytes
SEGMENT_BYTES: Final = 8 << 20
FSYNCS_KEPT: Final = 256


class _Segment:
    """The segment that takes appends."""

    __slots__ = ("descriptor", "number", "path", "salt", "size")

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.path = directory / form.file_name("segment", number)
        self.salt = form.salt_of("segment", number)
        self.size = 0
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
        self.descriptor = os.open(self.path, flags, 0o600)


class Journal:
    """One directory, one process, one event loop. Made by ``open``, given back by ``close``."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        replayed: Replayed,
        segment_bytes: int,
        step: Callable[[str], None],
        executor: Executor | None,
    ) -> None:
        self.directory = directory
        self.fsync_seconds: deque[float] = deque(maxlen=FSYNCS_KEPT)
        """How long the last fdatasyncs took."""
        self.on_fsync: Callable[[float], None] | None = None
        """Told the seconds of every fdatasync, on the event loop."""
        self._lock = lock
        self._segment_limit = segment_bytes
        self._step = step
        self._next_number = replayed.next_number
        self._snapshot_bytes = replayed.snapshot_bytes
        self._segment_bytes = replayed.segment_bytes
        # Created by the first append, so that a start on a full disk succeeds and reads are served.
        self._segment: _Segment | None = None
        self._retired: list[int] = []  # full segments' descriptors that are not synced yet
        self._names_changed = False  # a segment was created whose directory entry is not synced
        self._end = 0
        self._synced = 0
        self._commit: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._failure: JournalError | None = None
        self._closed = False
        self._executor = executor

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        step: Callable[[str], None] = lambda _: None,
        executor: Executor | None = None,
    ) -> tuple[Self, Recovery]:
        """Lock ``directory`` (made if absent), read it back and go on after what is there.

        Syncs and snapshots run in ``executor``, which needs two threads at least so that a long
        snapshot does not hold up commits; None is the event loop's own.
        ``step`` is told each step of a snapshot as it is done, from a thread; crash tests look at
        the disk there. Raises JournalLocked, DiskFull or JournalError.
        """
        with typed_errors("open the journal in", directory):
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            with typed_errors("recover the journal in", directory):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise JournalLocked(f"the journal in {directory} is open elsewhere") from None
                replayed = recover(directory)
        except BaseException:
            os.close(lock)
            raise
        journal = cls(directory, lock, replayed, segment_bytes, step, executor)
        return journal, replayed.recovery

    @property
    def bytes(self) -> int:
        """Size on disk of segments and snapshot."""
        return self._snapshot_bytes + self._segment_bytes

    @property
    def segment_bytes(self) -> int:
        """Size on disk of segments alone: what a snapshot would make superfluous."""
        return self._segment_bytes

    @property
    def synced(self) -> int:
        """Position up to which everything is on the disk."""
        return self._synced

    # --- appending --------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> int:
        """Write ``records`` with one system call and return the position after them.

        All of them or none: on DiskFull or JournalError the segment is as it was before.
        """
        self._need_working()
        segment = self._segment
        if segment is not None and segment.size >= self._segment_limit:
            self._retire_segment()
            segment = None
        with typed_errors("append to the journal in", self.directory):
            if segment is None:
                segment = self._segment = _Segment(self.directory, self._next_number)
                self._next_number += 1
                self._names_changed = True
            self._write(segment, records)
        return self._end

    def _write(self, segment: _Segment, records: Sequence[Record]) -> None:
        pieces = form.encode_records(records, segment.salt)
        if segment.size == 0:
            pieces.insert(0, form.encode_header("segment", segment.number))
        data = b"".join(pieces)
        try:
            form.write_all(segment.descriptor, data)
        except OSError:
            try:
                os.ftruncate(segment.descriptor, segment.size)
            except OSError:
                # Its tail is torn for good: later appends go to the next segment, and the next
                # start sets this one aside with all its records.
                self._retire_segment()
            raise
        segment.size += len(data)
        self._segment_bytes += len(data)
        self._end += len(data)

    def _retire_segment(self) -> None:
        if self._segment is not None:
            self._retired.append(self._segment.descriptor)
            self._segment = None

    def _need_working(self) -> None:
        if self._closed:
            raise JournalError(f"the journal in {self.directory} is closed")
        if self._failure is not None:
            raise self._failure

    # --- group commit -----------------------------------------------------------------------------

    async def sync(self, position: int) -> None:
        """Return once everything up to ``position`` is on the disk.

        Callers that wait at the same time share one fdatasync. After a failed one the kernel may
        have dropped what it could not write, so the journal refuses all work until a snapshot has
        succeeded.
        """
        if position > self._end:
            raise ValueError(f"position {position} was never returned by append")
        while self._synced < position:
            self._need_working()
            if self._commit is None:
                self._commit = asyncio.create_task(self._commit_once(), name="journal-commit")
            # Shielded: a waiter that gives up must not take the others' commit with it.
            await asyncio.shield(self._commit)

    async def _commit_once(self) -> None:
        """One fdatasync of all that was appended so far. Never raises: failures go to ``_failure``."""
        target, retired, names_changed = self._end, self._retired, self._names_changed
        self._retired, self._names_changed = [], False
        descriptors = list(retired)
        if self._segment is not None:
            # Ours to close: a snapshot may retire the segment while its fdatasync is under way.
            descriptors.append(os.dup(self._segment.descriptor))
        directory = self.directory if names_changed else None
        try:
            with typed_errors("sync the journal in", self.directory):
                seconds = await syncer_of(self._executor).sync(descriptors, directory)
        except JournalError as error:
            self._failure = error
            return
        finally:
            self._commit = None
        self._synced = max(self._synced, target)
        self.fsync_seconds.append(seconds)
        if self.on_fsync is not None:
            self.on_fsync(seconds)

    # --- snapshot ---------------------------------------------------------------------------------

    def snapshot(self, records: Iterable[Record]) -> Awaitable[None]:
        """Replace everything appended so far by ``records``; await the result to know that it is
        done.

        ``records`` is read at once, before this returns, so it stands for exactly the appends
        before the call; later appends go to later segments. On failure the journal is as it was.
        """
        if self._closed:
            raise JournalError(f"the journal in {self.directory} is closed")
        if self._snapshot is not None and not self._snapshot.done():
            raise JournalError(f"a snapshot of the journal in {self.directory} is under way")
        contents = list(records)
        self._retire_segment()
        number = self._next_number
        self._next_number += 1
        self._snapshot = asyncio.create_task(
            self._replace_by_snapshot(number, contents, self._end, self._segment_bytes),
            name="journal-snapshot",
        )
        # Retrieved here once, so that a caller who gave up waiting leaves no complaint behind.
        self._snapshot.add_done_callback(lambda task: task.cancelled() or task.exception())
        return asyncio.shield(self._snapshot)

    async def _replace_by_snapshot(
        self, number: int, records: list[Record], covered: int, superseded_bytes: int
    ) -> None:
        loop = asyncio.get_running_loop()
        with typed_errors("snapshot the journal in", self.directory):
            size = await loop.run_in_executor(self._executor, self._write_snapshot, number, records)
        self._snapshot_bytes = size
        self._segment_bytes -= superseded_bytes
        self._synced = max(self._synced, covered)
        # What a failed fdatasync may have lost is in the snapshot, unless it was appended since.
        if self._failure is not None and self._end == covered:
            self._failure = None
        with typed_errors("remove old files of the journal in", self.directory):
            await loop.run_in_executor(self._executor, self._remove_below, number)

    def _write_snapshot(self, number: int, records: list[Record]) -> int:
        """Steps 2 and 3; size of the snapshot in bytes. Runs in a thread."""
        path = self.directory / form.file_name("snapshot", number)
        temporary = path.with_name(f"{path.name}{form.TEMPORARY_SUFFIX}")
        size = 0
        try:
            with temporary.open("wb", buffering=1 << 20) as file:
                self._step("snapshot created")
                for piece in form.encode_snapshot(number, records):
                    size += file.write(piece)
                file.flush()
                self._step("snapshot written")
                os.fsync(file.fileno())
            self._step("snapshot synced")
            temporary.rename(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._step("snapshot renamed")
        form.sync_directory(self.directory)
        self._step("directory synced")
        return size

    def _remove_below(self, number: int) -> None:
        """Step 4, newest first, so that what is left is never a history with a hole. Runs in a
        thread.
        """
        for name in reversed(journal_files(self.directory)):
            if name.number < number:
                (self.directory / form.file_name(name.kind, name.number)).unlink()
                self._step(f"removed {name.kind} {name.number}")

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish what is under way, sync what was appended and give the directory back."""
        if self._closed:
            return
        try:
            if self._snapshot is not None:
                await asyncio.wait([self._snapshot])
            if self._failure is None:
                await self.sync(self._end)
        finally:
            self._closed = True
            if self._commit is not None:
                await asyncio.wait([self._commit])
            self._retire_segment()
            for descriptor in self._retired:
                os.close(descriptor)
            self._retired = []
            os.close(self._lock)


class MemoryJournal:
    """The interface of Journal for ``durability: memory``: keeps nothing, so nothing outlives the
    process.
    """

    def __init__(self) -> None:
        self.fsync_seconds: deque[float] = deque(maxlen=FSYNCS_KEPT)
        self.on_fsync: Callable[[float], None] | None = None
        self.bytes = 0
        self.segment_bytes = 0
        self._end = 0

    @classmethod
    def open(cls) -> tuple[Self, Recovery]:
        """A journal with nothing in it, always."""
        return cls(), Recovery([], 0, [], fresh=True)

    @property
    def synced(self) -> int:
        """Position up to which everything is as durable as it gets."""
        return self._end

    def append(self, records: Sequence[Record]) -> int:
        """Forget ``records`` and return the position after them."""
        self._end += sum(map(len, records))
        return self._end

    async def sync(self, position: int) -> None:
        """Return at once."""
        if position > self._end:
            raise ValueError(f"position {position} was never returned by append")

    def snapshot(self, records: Iterable[Record]) -> Awaitable[None]:
        """Forget ``records``."""
        del records
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def close(self) -> None:
        """Nothing to give back."""

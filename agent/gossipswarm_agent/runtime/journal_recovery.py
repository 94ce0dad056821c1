"""What a start finds in a journal's directory: the records to replay, and an account of the damage.

Recovery replays the newest sound snapshot and everything after it. Damage is never fatal and never
silent: a torn tail of the last segment is cut off, a damaged segment is set aside whole and
rewritten with the records that are sound, and a damaged snapshot stays until the next one replaces
it, with all that is older than it replayed too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossipswarm_agent.runtime import journal_format as form
from gossipswarm_agent.runtime.journal_format import Contents, FileName

QUARANTINES_KEPT: Final = 8
"""Damaged files kept for inspection; the oldest go first."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class JournalError(Exception):
    """The journal cannot do what was asked; the message says why and where."""


class DiskFull(JournalError):
    """No space, quota or allowed file size is left. Nothing was appended; it works again once there
    is.
    """


class JournalLocked(JournalError):
    """Another process, or another journal in this one, has the directory open."""


@contextmanager
def typed_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError into DiskFull or JournalError with a message for the operator."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else JournalError
        raise kind(f"cannot {action} {path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged file: where its bytes are kept, how many of them are no record, how many records
    are.
    """

    path: Path
    lost_bytes: int
    kept_records: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found.

    ``records`` in the order of appending; ``torn_bytes`` cut off the end of the last segment (never
    synced, so never acknowledged); ``quarantined`` damage that peers have to make up for, after
    which a snapshot should be taken; ``fresh`` if there was no journal at all.
    """

    records: list[bytes]
    torn_bytes: int
    quarantined: list[Quarantined]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """Recovery, the number for the next file, and the bytes that sound files take on disk."""

    recovery: Recovery
    next_number: int
    snapshot_bytes: int
    segment_bytes: int


def journal_files(directory: Path) -> list[FileName]:
    """Snapshots and segments in the order of replay."""
    return sorted(name for path in directory.iterdir() if (name := form.parse_name(path.name)))


def recover(directory: Path) -> Replayed:
    """Read the journal in ``directory`` and leave it sound; the caller holds its lock."""
    for entry in directory.glob(f"*.journal{form.TEMPORARY_SUFFIX}"):
        entry.unlink()
    names = journal_files(directory)
    base, decoded = _newest_sound_snapshot(directory, names)
    replayed = [name for name in names if base is None or name >= base]
    records: list[bytes] = []
    quarantined: list[Quarantined] = []
    torn = 0
    for name in replayed:
        path = directory / form.file_name(name.kind, name.number)
        contents = decoded.pop(name, None) or _read(path, name)
        records.extend(contents.records)
        if contents.lost_bytes == 0:
            _sync(path)
        elif name is names[-1] and name.kind == "segment" and contents.tail_only:
            torn = contents.lost_bytes
            _cut(path, contents.valid_end)
        else:
            quarantined.append(_quarantine(path, name, contents))
    # Only now: until the files that are kept are known to be sound, the old ones are worth
    # something.
    for name in names:
        if base is not None and name < base:
            (directory / form.file_name(name.kind, name.number)).unlink()
    _forget_old_quarantines(directory)
    form.sync_directory(directory)
    sizes = {"snapshot": 0, "segment": 0}
    for name in journal_files(directory):
        sizes[name.kind] += (directory / form.file_name(name.kind, name.number)).stat().st_size
    return Replayed(
        Recovery(records, torn, quarantined, fresh=not names),
        names[-1].number + 1 if names else 1,
        sizes["snapshot"],
        sizes["segment"],
    )


def _newest_sound_snapshot(
    directory: Path, names: list[FileName]
) -> tuple[FileName | None, dict[FileName, Contents]]:
    decoded: dict[FileName, Contents] = {}
    for name in reversed(names):
        if name.kind == "snapshot":
            path = directory / form.file_name(name.kind, name.number)
            decoded[name] = _read(path, name)
            if decoded[name].lost_bytes == 0:
                return name, decoded
    return None, decoded


def _read(path: Path, name: FileName) -> Contents:
    try:
        return form.decode(name, path.read_bytes())
    except form.UnknownVersion as error:
        raise JournalError(f"cannot read {path}: {error}") from error


def _sync(path: Path) -> None:
    # What a killed process appended is in the page cache, not yet on the disk.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _cut(path: Path, end: int) -> None:
    if end <= form.HEADER_BYTES:
        path.unlink()
        return
    os.truncate(path, end)
    _sync(path)


def _quarantine(path: Path, name: FileName, contents: Contents) -> Quarantined:
    aside = _keep_aside(path)
    report = Quarantined(aside, contents.lost_bytes, len(contents.records))
    if name.kind == "snapshot":
        # Rewritten it would pass for whole, and the older files would go at the next start.
        return report
    salt = form.salt_of(name.kind, name.number)
    sound = form.encode_header(name.kind, name.number) + b"".join(
        form.encode_records(contents.records, salt)
    )
    try:
        form.replace_file(path, sound)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        # Reading works on a full disk, so an agent starts on one; the next start tries again.
    return report


def _keep_aside(path: Path) -> Path:
    """Second name for the file at ``path``: costs no space, and survives the first name."""
    for attempt in range(QUARANTINES_KEPT + 1):
        mark = f".{attempt}" if attempt else ""
        aside = path.with_name(f"{path.name}{mark}{form.QUARANTINE_SUFFIX}")
        if aside.exists():
            if aside.samefile(path):
                return aside
            continue
        aside.hardlink_to(path)
        return aside
    return path


def _forget_old_quarantines(directory: Path) -> None:
    kept = sorted(
        directory.glob(f"*{form.QUARANTINE_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns
    )
    for path in kept[:-QUARANTINES_KEPT]:
        path.unlink()

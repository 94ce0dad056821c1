"""The journal on disk: names of its files, the bytes in them, and how they are read back after
damage.

A directory holds segments, which are appended to, and snapshots, which are written whole::

    segment-<number>.journal     appended records, in order of number
    snapshot-<number>.journal    stands for every segment below its number

Each file is a 20-byte header and records::

    header: magic "GSWJ" | format version (2) | kind (2) | number (8) | CRC-32 of the 16 bytes
    before record: length (4) | CRC-32 (4) | payload

All integers are big-endian. The CRC of a record starts from its length and the file's kind and
number instead of zero, so a run of zeros or a piece of another file is not a record. A snapshot
ends in a footer with the number of records, so that a short one is noticed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias
from zlib import crc32

Kind: TypeAlias = Literal["snapshot", "segment"]

FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 20
RECORD_LIMIT: Final = 128 << 20
"""Largest payload of a record, in bytes."""
QUARANTINE_SUFFIX: Final = ".quarantine"
TEMPORARY_SUFFIX: Final = ".temporary"

_MAGIC: Final = b"GSWJ"
_KINDS: Final[dict[Kind, int]] = {"snapshot": 1, "segment": 2}
_HEADER: Final = struct.Struct(">4sHHQ")
_RECORD: Final = struct.Struct(">II")
_FOOTER: Final = struct.Struct(">8sQ")
_FOOTER_MAGIC: Final = b"GSWJ-END"
_NAME: Final = re.compile(r"(snapshot|segment)-(\d{16})\.journal")
_SEARCH_BUDGET: Final = 1 << 30
"""Bytes to checksum in search of the next record after damage: about a second."""


class UnknownVersion(Exception):
    """An intact header of a format that this program does not know."""


class FileName(NamedTuple):
    """Number and kind of a file; their order is the order of replay (a snapshot before its
    segment).
    """

    number: int
    rank: int
    kind: Kind


class Contents(NamedTuple):
    """What could be read of one file.

    ``valid_end`` is where the unbroken run of records from the start ends; ``lost_bytes`` counts
    what is no record; ``tail_only`` says that nothing valid comes after the damage, as after a torn
    write.
    """

    records: list[bytes]
    valid_end: int
    lost_bytes: int
    tail_only: bool


def file_name(kind: Kind, number: int) -> str:
    """Name of a journal file in its directory."""
    return f"{kind}-{number:016d}.journal"


def parse_name(name: str) -> FileName | None:
    """Inverse of file_name; None for any other file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind: Kind = "snapshot" if match[1] == "snapshot" else "segment"
    return FileName(int(match[2]), _KINDS[kind], kind)


def salt_of(kind: Kind, number: int) -> int:
    """Start value of the record CRCs in this file, derivable from its name even if the header is
    gone.
    """
    return crc32(_HEADER.pack(_MAGIC, FORMAT_VERSION, _KINDS[kind], number))


def encode_header(kind: Kind, number: int) -> bytes:
    """The first bytes of a file."""
    start = _HEADER.pack(_MAGIC, FORMAT_VERSION, _KINDS[kind], number)
    return start + crc32(start).to_bytes(4, "big")


def encode_records(records: Iterable[bytes], salt: int) -> list[bytes]:
    """Records as pieces to be written one after the other; ValueError above RECORD_LIMIT."""
    pieces: list[bytes] = []
    for record in records:
        length = len(record)
        if length > RECORD_LIMIT:
            raise ValueError(f"a record of {length} bytes is above the limit of {RECORD_LIMIT}")
        pieces.append(_RECORD.pack(length, crc32(record, length ^ salt)))
        pieces.append(record)
    return pieces


def encode_snapshot(number: int, records: Sequence[bytes]) -> Iterator[bytes]:
    """A whole snapshot file in pieces."""
    yield encode_header("snapshot", number)
    salt = salt_of("snapshot", number)
    for record in records:
        yield from encode_records((record,), salt)
    yield from encode_records((_FOOTER.pack(_FOOTER_MAGIC, len(records)),), salt)


def decode(name: FileName, data: bytes) -> Contents:
    """Read a file back, passing over what is damaged; UnknownVersion if it is intact but not ours."""
    contents = _scan(data, _start(name, data), salt_of(name.kind, name.number))
    if name.kind == "segment":
        return contents
    records = contents.records
    footer = _FOOTER.pack(_FOOTER_MAGIC, len(records) - 1)
    if records and records[-1] == footer:
        return contents._replace(records=records[:-1])
    if records and records[-1].startswith(_FOOTER_MAGIC) and len(records[-1]) == _FOOTER.size:
        records = records[:-1]
    return Contents(records, contents.valid_end, max(1, contents.lost_bytes), tail_only=False)


def _start(name: FileName, data: bytes) -> int:
    """Offset of the first record, or -1 if the header is damaged."""
    header = data[:HEADER_BYTES]
    if header == encode_header(name.kind, name.number):
        return HEADER_BYTES
    if len(header) == HEADER_BYTES and header[:4] == _MAGIC:
        version = int.from_bytes(header[4:6], "big")
        intact = crc32(header[:16]) == int.from_bytes(header[16:], "big")
        if intact and version != FORMAT_VERSION:
            raise UnknownVersion(f"format version {version}, this program knows {FORMAT_VERSION}")
    return -1


def _scan(data: bytes, start: int, salt: int) -> Contents:
    records: list[bytes] = []
    offset, valid_end, lost, budget = start, start, 0, _SEARCH_BUDGET
    recovered_after_damage = False
    if start < 0:
        offset, valid_end, lost = 0, 0, min(len(data), HEADER_BYTES)
        found, budget = _next_record(data, HEADER_BYTES, salt, budget)
        offset = min(len(data), HEADER_BYTES) if found is None else found
        lost += 0 if found is None else found - HEADER_BYTES
    size = len(data)
    while offset < size:
        end = _record_end(data, offset, salt)
        if end is not None:
            records.append(data[offset + 8 : end])
            if lost:
                recovered_after_damage = True
            else:
                valid_end = end
            offset = end
            continue
        found, budget = _next_record(data, offset + 1, salt, budget)
        if found is None:
            lost += size - offset
            break
        lost += found - offset
        offset = found
    return Contents(records, valid_end, lost, tail_only=bool(lost) and not recovered_after_damage)


def _record_end(data: bytes, offset: int, salt: int) -> int | None:
    """End of the record at ``offset``, or None if there is no intact one."""
    if offset + 8 > len(data):
        return None
    length, checksum = _RECORD.unpack_from(data, offset)
    end = offset + 8 + length
    if end > len(data) or length > RECORD_LIMIT:
        return None
    return end if crc32(memoryview(data)[offset + 8 : end], length ^ salt) == checksum else None


def _next_record(data: bytes, offset: int, salt: int, budget: int) -> tuple[int | None, int]:
    """Offset of the first intact record from ``offset`` on, and what is left of the search budget.

    Every offset is tried: the length of a damaged record may be what is damaged, and trusting it
    could pass over sound records.
    """
    view = memoryview(data)
    last = len(data) - 8
    while offset <= last:
        length, checksum = _RECORD.unpack_from(data, offset)
        end = offset + 8 + length
        if end <= last + 8 and length <= RECORD_LIMIT:
            budget -= length
            if budget < 0:
                return None, 0
            if crc32(view[offset + 8 : end], length ^ salt) == checksum:
                return offset, budget
        offset += 1
    return None, budget


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; one system call unless the kernel takes less."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` durably and in one step: readers see the old file or the new one."""
    temporary = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)

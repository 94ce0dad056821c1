"""The last state of an edge in one file, replaced as a whole, so that it is there again when no agent is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from gossipswarm_agent.edge.frames import Terms

FILE: Final = "replica"
_MAGIC: Final = b"gossipswarm edge 1\n"
_DIGEST_BYTES: Final = 16


class NotSaved(Exception):
    """There is no state to go on from; the message says why. ``absent``: there never was."""

    def __init__(self, detail: str, *, absent: bool = False) -> None:
        super().__init__(detail)
        self.absent = absent


class _Content(msgspec.Struct, array_like=True):
    swarm: str
    prefixes: Sequence[str] | None
    contact_ms: int
    terms: Terms
    records: list[bytes]


class Saved(msgspec.Struct, frozen=True):
    """What was saved."""

    contact_ms: int
    """Wall clock at which an agent was last heard then."""
    terms: Terms
    records: list[bytes]


def save(
    directory: Path,
    swarm: str,
    prefixes: Sequence[str] | None,
    contact_ms: int,
    terms: Terms,
    records: Iterable[bytes],
) -> None:
    """Replace the file. Blocks. Raises OSError; then the former one is still there."""
    content = _Content(swarm, prefixes, contact_ms, terms, list(records))
    body = msgspec.msgpack.encode(content)
    directory.mkdir(parents=True, exist_ok=True)
    path, draft = directory / FILE, directory / f"{FILE}.new"
    with draft.open("wb") as file:
        file.write(_MAGIC)
        file.write(blake2b(body, digest_size=_DIGEST_BYTES).digest())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load(directory: Path, swarm: str, prefixes: Sequence[str] | None) -> Saved:
    """What was saved last for this swarm and these prefixes. Blocks. Raises NotSaved."""
    path = directory / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotSaved(f"there is no {path}", absent=True) from None
    except OSError as error:
        raise NotSaved(f"cannot read {path}: {error.strerror}") from None
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    digest = blake2b(body, digest_size=_DIGEST_BYTES).digest()
    if data[:start] != _MAGIC + digest:
        raise NotSaved(f"{path} is damaged, or of another version")
    try:
        content = msgspec.msgpack.decode(body, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotSaved(f"{path} is of another version: {error}") from None
    if content.swarm != swarm:
        raise NotSaved(f"{path} is of swarm {content.swarm!r}")
    if content.prefixes != (None if prefixes is None else list(prefixes)):
        raise NotSaved(f"{path} holds other prefixes")
    return Saved(content.contact_ms, content.terms, content.records)

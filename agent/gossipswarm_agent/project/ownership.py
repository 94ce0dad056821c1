"""Whose files these are: a claim beside each, locked for as long as somebody projects there.

A projection never takes a file that nobody gave to it. The claim is a file in the same directory; the lock on it tells two
projectors that live at once apart, and its text says which swarm the files are of. An empty claim, made by hand, gives
away a file that was there before.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec


class NotOurs(Exception):
    """Something else is where a projection would write; the message says what, and what to do."""


class Claimant(msgspec.Struct, frozen=True):
    """Who claims."""

    swarm: str
    prefix: str
    agent: str


class Claim:
    """A claim on what stands beside it. Blocks; call it in an executor."""

    def __init__(self, path: Path, claimant: Claimant) -> None:
        self.path = path
        self._claimant = claimant
        self._descriptor: int | None = None

    def take(self, is_free: Callable[[], bool], what: str) -> None:
        """Hold the claim, once. Where there is none yet, ``is_free`` says whether it may be made.

        Raises:
            NotOurs: somebody else projects there, or ``what`` is there and nobody gave it away.
            OSError: the directory is missing, full or read-only.
        """
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not is_free():
                raise NotOurs(
                    f"{what} is there already and is not ours; move it away, or let it be replaced by making "
                    f"the empty file {self.path}"
                ) from None
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o644)
        try:
            self._lock(descriptor, what)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _lock(self, descriptor: int, what: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            former = _read(descriptor)
            whom = f"agent {former.agent}" if former is not None else "another process"
            raise NotOurs(f"{what} is being projected to by {whom}; choose another path") from None
        former = _read(descriptor)
        if former is not None and former.swarm != self._claimant.swarm:
            raise NotOurs(
                f"{what} belongs to swarm {former.swarm}, prefix {former.prefix}; remove it and {self.path}, "
                "or choose another path"
            )
        if former != self._claimant:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(self._claimant) + b"\n", 0)

    def release(self) -> None:
        """Let another projector have it. The claim itself stays with the files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read(descriptor: int) -> Claimant | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Claimant)
    except msgspec.DecodeError:
        return None  # empty: given away by hand, or the disk was full

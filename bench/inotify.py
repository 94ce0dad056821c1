"""When files are renamed into directories, as the kernel tells it: a benchmark that looked for them would be a load of its own."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_MOVED_TO: Final = 0x80
_NONBLOCK: Final = os.O_NONBLOCK
_EVENT: Final = struct.Struct("iIII")
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Renames:
    """Watches directories. ``wait`` says when each of some names was last renamed into place."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._descriptor = _checked(_libc.inotify_init1(_NONBLOCK))
        self._directories = {
            _checked(
                _libc.inotify_add_watch(
                    self._descriptor, os.fsencode(directory), ctypes.c_uint32(_MOVED_TO)
                )
            ): directory
            for directory in directories
        }
        self._seen: dict[tuple[Path, str], float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def clear(self) -> None:
        """Forget what was seen so far."""
        self._read()
        self._seen.clear()

    def wait(
        self, files: Collection[tuple[Path, str]], seconds: float
    ) -> dict[tuple[Path, str], float]:
        """Monotonic seconds at which each (directory, name) was renamed, once all were. Raises TimeoutError."""
        ends = time.monotonic() + seconds
        while not all(file in self._seen for file in files):
            left = ends - time.monotonic()
            if left <= 0:
                missing = [file for file in files if file not in self._seen]
                raise TimeoutError(f"not renamed within {seconds:g} s: {missing[:3]}")
            select.select([self._descriptor], [], [], left)
            self._read()
        return dict(self._seen)

    def _read(self) -> None:
        now = time.monotonic()
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            self._seen.setdefault((self._directories[watch], name), now)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

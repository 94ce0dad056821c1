"""File systems of a few kilobytes, for tests of what happens when there is no room, or no writing, on a disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of this size at ``path``; the test is skipped where nobody may mount one."""
    path.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr.decode().strip()}")
    try:
        yield path
    finally:
        unmount(path)


def mount(*arguments: str | Path) -> None:
    """Mount something. Raises CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def unmount(path: Path) -> None:
    """Take the latest mount at ``path`` away."""
    # Lazily: a thread that writes, or tries to, may have something open there.
    subprocess.run(["umount", "--lazy", path], check=True)

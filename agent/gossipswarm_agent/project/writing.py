"""Files replaced whole, synced before they are seen. Everything here blocks; call it in an executor.

A file is written beside itself, synced and renamed. A directory has the layout of a ConfigMap's volume: every file is a
link through ``..data``, which is a link to a directory with all files of one version, so that one rename changes them
all. A version that was replaced stays for a moment: who has just followed the link still finds its files.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from gossipswarm_agent.project.ownership import Claim, Claimant, NotOurs
from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.project.rendering import Content

_DATA: Final = "..data"
_NEXT: Final = "..data_tmp"
_CLAIM: Final = "..gossipswarm"
_GRACE_SECONDS: Final = 1.0
"""How long a version stays after it was replaced, at least, unless there are more than..."""
_FORMER_KEPT: Final = 8
_MANY: Final = 64
"""New files from which on one sync of all there is on the disk is cheaper than a sync of each."""
_GENERATION: Final = re.compile(r"\.\.[0-9]{4}_[0-9]{2}_.+")
_syncfs: Final = ctypes.CDLL(None, use_errno=True).syncfs


class Target(Protocol):
    """Where a projection goes."""

    def replace(self, content: Content) -> bool:
        """Make this what is there; whether anything had to be changed.

        Raises:
            NotOurs: something of somebody else's is in the way.
            OSError: the disk is full, the directory missing or read-only, and so on. What was there is there still.
        """

    def release(self) -> None:
        """Let another projector have the place; what is there stays."""


def target(projection: Projection, swarm: str, agent: str) -> Target:
    """Where this projection goes."""
    claimant = Claimant(swarm, projection.prefix, agent)
    path, mode = Path(projection.path), projection.permissions
    if projection.format == "dir":
        return DirectoryTarget(path, mode, claimant)
    return FileTarget(path, mode, claimant)


class FileTarget:
    """One file."""

    def __init__(self, path: Path, mode: int, claimant: Claimant) -> None:
        self._path = path
        self._mode = mode
        self._claim = Claim(path.with_name(f".{path.name}.gossipswarm"), claimant)

    def replace(self, content: Content) -> bool:
        """As ``Target`` says."""
        assert isinstance(content, bytes)
        found = _regular(self._path)
        same = found is not None and _is(self._path, found, content)
        self._claim.take(lambda: found is None or same, str(self._path))
        if found is not None and same and stat.S_IMODE(found.st_mode) == self._mode:
            return False
        beside = self._path.with_name(f".{self._path.name}.gossipswarm-new")
        beside.unlink(missing_ok=True)
        try:
            _write(beside, content, self._mode)
            beside.rename(self._path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        _sync_directory(self._path.parent)
        return True

    def release(self) -> None:
        """As ``Target`` says."""
        self._claim.release()


class DirectoryTarget:
    """A directory of files that change together."""

    def __init__(self, path: Path, mode: int, claimant: Claimant) -> None:
        self._path = path
        self._mode = mode
        self._claim = Claim(path / _CLAIM, claimant)

    def replace(self, content: Content) -> bool:
        """As ``Target`` says."""
        assert isinstance(content, dict)
        with suppress(FileExistsError):
            self._path.mkdir(mode=0o755)
        self._claim.take(self._is_free, f"what is in {self._path}")
        links = self._links()
        self._refuse_foreign(content, links)
        current = self._current()
        kept = self._unchanged(content, current)
        if current is None or len(kept) < len(content) or set(content) != _files(current):
            current = self._flip(content, current, kept)
        else:
            self._sweep(current, _GRACE_SECONDS)
            if links == set(content):
                return False
        for name in content.keys() - links:
            (self._path / name).symlink_to(f"{_DATA}/{name}")
        for name in links - content.keys():
            (self._path / name).unlink(missing_ok=True)
        _sync_directory(self._path)
        return True

    def _is_free(self) -> bool:
        return not os.path.lexists(self._path / _DATA)

    def _links(self) -> set[str]:
        """Files of ours that show, whether there is anything behind them or not."""
        with os.scandir(self._path) as entries:
            return {
                entry.name
                for entry in entries
                if entry.is_symlink()
                and str(Path(entry.path).readlink()) == f"{_DATA}/{entry.name}"
            }

    def _refuse_foreign(self, content: dict[str, bytes], links: set[str]) -> None:
        for name in content.keys() - links:
            if os.path.lexists(self._path / name):
                raise NotOurs(f"{self._path / name} is there already and is not ours; move it away")

    def _current(self) -> Path | None:
        """The directory with the version that shows."""
        try:
            name = str((self._path / _DATA).readlink())
        except FileNotFoundError:
            return None
        directory = self._path / name
        return directory if _GENERATION.fullmatch(name) and directory.is_dir() else None

    def _unchanged(self, content: dict[str, bytes], current: Path | None) -> set[str]:
        if current is None:
            return set()
        return {name for name, wanted in content.items() if self._holds(current / name, wanted)}

    def _holds(self, path: Path, wanted: bytes) -> bool:
        try:
            found = path.lstat()
            return found.st_mode == stat.S_IFREG | self._mode and _is(path, found, wanted)
        except FileNotFoundError:
            return False

    def _flip(self, content: dict[str, bytes], current: Path | None, kept: set[str]) -> Path:
        """Write a version of its own and let it show. Files that did not change are the same files."""
        made = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime())
        fresh = Path(tempfile.mkdtemp(prefix=made, dir=self._path))
        try:
            new = {
                name: data
                for name, data in content.items()
                if name not in kept or not _linked(current, fresh, name)
            }
            for name, data in new.items():
                _write(fresh / name, data, self._mode, sync=len(new) < _MANY)
            fresh.chmod(0o755)
            if len(new) < _MANY:
                _sync_directory(fresh)
            else:
                _sync_file_system(fresh)
            upcoming = self._path / _NEXT
            upcoming.unlink(missing_ok=True)
            upcoming.symlink_to(fresh.name)
            upcoming.rename(self._path / _DATA)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            self._sweep(current, 0.0)  # there may be room next time
            raise
        if current is not None:
            os.utime(current)  # replaced now
        self._sweep(fresh, _GRACE_SECONDS)
        return fresh

    def _sweep(self, current: Path | None, grace: float) -> None:
        """Remove versions that were replaced more than ``grace`` seconds ago, and those beyond a number."""
        with os.scandir(self._path) as entries:
            former = [
                (entry.stat(follow_symlinks=False).st_mtime, entry.path)
                for entry in entries
                if (current is None or entry.name != current.name)
                and _GENERATION.fullmatch(entry.name)
                and entry.is_dir(follow_symlinks=False)
            ]
        former.sort(reverse=True)
        oldest = time.time() - grace
        for number, (replaced, path) in enumerate(former):
            if number >= _FORMER_KEPT or replaced < oldest:
                shutil.rmtree(path, ignore_errors=True)

    def release(self) -> None:
        """As ``Target`` says."""
        self._claim.release()


# --- files ----------------------------------------------------------------------------------------


def _regular(path: Path) -> os.stat_result | None:
    """The regular file there; None = there is nothing. Raises NotOurs for anything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        kind = "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "device"
        raise NotOurs(f"{path} is a {kind}, and not a file of ours; move it away")
    return found


def _is(path: Path, found: os.stat_result, content: bytes) -> bool:
    # What is not ours may be of any size: read only what can be the same.
    return found.st_size == len(content) and path.read_bytes() == content


def _files(directory: Path) -> set[str]:
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries}


def _linked(current: Path | None, fresh: Path, name: str) -> bool:
    """Whether the file could be taken over as it is; not every file system has links."""
    if current is None:
        return False
    try:
        (fresh / name).hardlink_to(current / name)
    except OSError:
        return False
    return True


def _write(path: Path, content: bytes, mode: int, *, sync: bool = True) -> None:
    """A new file with this content, and if ``sync`` on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, mode)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

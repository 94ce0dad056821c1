"""Where the control socket may be, safely: private to the user, and with a path short enough."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from gossipctl.local.errors import LocalError
from gossipctl.local.layout import Layout

SOCKET_PATH_BYTES: Final = 104
"""Longest path a Unix socket may have everywhere (Linux 108, macOS 104), with its final NUL."""
SOCKET_NAME: Final = "control.sock"


def socket_directory(layout: Layout) -> Path:
    """Directory for the control socket: the user's runtime directory if there is one, else the state
    directory, else (its path too long for a socket) a short one in the temporary directory.
    """
    candidates = []
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and runtime.startswith("/") and os.access(runtime, os.W_OK | os.X_OK):
        candidates.append(Path(runtime) / "gossipswarm" / layout.name)
    candidates.append(layout.directory / "run")
    digest = hashlib.blake2b(os.fsencode(layout.directory), digest_size=6).hexdigest()
    candidates.append(Path(tempfile.gettempdir()) / f"gossipswarm-{os.getuid()}" / digest)
    for directory in candidates:
        if len(os.fsencode(directory / SOCKET_NAME)) < SOCKET_PATH_BYTES:
            return directory
    raise LocalError(
        "socket-path",
        f"no directory has a path short enough for a socket ({candidates[-1]})",
        "set XDG_RUNTIME_DIR or TMPDIR to a shorter path",
    )


def private_directory(path: Path) -> None:
    """Make ``path`` for us alone, and refuse one that somebody else could have prepared."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid():
        raise LocalError(
            "unsafe-directory",
            f"{path} belongs to another user",
            "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        )
    if status.st_mode & 0o077:
        path.chmod(0o700)

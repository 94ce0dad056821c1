"""Where a local swarm keeps its files.

The state directory is the truth: it also records where the control socket is, so that shells with another
``XDG_RUNTIME_DIR`` (cron, sudo, a second login) find the same supervisor.

    $XDG_STATE_HOME/gossipswarm/
        current                 name of the swarm that was selected last
        <swarm>/
            spec.json           what is declared: regions, agents, ports, settings, cuts
            keyring  token      secrets, readable by their owner only
            lock                flock held by the supervisor while it lives
            workers.lock        flock held by every worker: files are in use until it is free
            endpoint            path of the control socket, and the supervisor's pid
            agents/<name>/      journal and identity of one agent
            logs/               supervisor.log, worker-<n>.log, rotated
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from gossipctl.local.errors import USAGE, LocalError, storage_error

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_AGENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


def check_label(what: str, name: str) -> str:
    """A swarm's or region's name: a DNS label, because it becomes one in Kubernetes."""
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        raise LocalError(
            f"invalid-{what}",
            f"{name!r} is no valid name for a {what}",
            "use lower-case letters, digits and inner hyphens, at most 63, such as us-east",
            USAGE,
        )
    return name


def check_agent_name(name: str) -> str:
    """An agent's name: it is a directory's name and part of every dot."""
    if not isinstance(name, str) or not _AGENT.fullmatch(name):
        raise LocalError(
            "invalid-agent",
            f"{name!r} is no valid name for an agent",
            "use letters, digits and inner hyphens, dots or underscores, at most 128",
            USAGE,
        )
    return name


def state_root() -> Path:
    """Directory of all local swarms of this user."""
    base = os.environ.get("XDG_STATE_HOME")
    root = Path(base) if base and base.startswith("/") else Path.home() / ".local" / "state"
    return root / "gossipswarm"


class Layout:
    """Paths of one swarm. Nothing is created by making one."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        self.name = check_label("swarm", name)
        self.root = root or state_root()
        self.directory = self.root / name
        self.spec = self.directory / "spec.json"
        self.keyring = self.directory / "keyring"
        self.token = self.directory / "token"
        self.lock = self.directory / "lock"
        self.workers_lock = self.directory / "workers.lock"
        self.endpoint = self.directory / "endpoint"
        self.agents = self.directory / "agents"
        self.logs = self.directory / "logs"

    @property
    def exists(self) -> bool:
        """Whether the swarm was initialised here."""
        return self.spec.is_file()


def is_locked(path: Path) -> bool:
    """Whether some process holds the flock on ``path``; False if the file is absent."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error("open the lock", error) from None
    try:
        # Shared, so that those who only look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def take_lock(path: Path) -> int | None:
    """Descriptor of ``path``, made if absent and locked by us; None if another process has it.

    Raises OSError if the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have deleted the swarm, lock included, between our open and our lock.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)

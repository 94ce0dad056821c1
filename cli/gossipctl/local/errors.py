"""The one error of the local backend: what was wrong, what to do, and how a command should exit."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, Final

from gossipctl.suggest import nearest

FAILED: Final = 1
USAGE: Final = 2
TIMED_OUT: Final = 3
UNREACHABLE: Final = 4


class LocalError(Exception):
    """Something a user can act on.

    ``reason`` is a stable slug, ``message`` says what was wrong and what was expected, ``hint`` what to do
    next (may be empty), ``exit`` the exit code that fits.
    """

    def __init__(self, reason: str, message: str, hint: str = "", exit: int = FAILED) -> None:  # noqa: A002
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.exit = exit

    def to_dict(self) -> dict[str, Any]:
        """As it crosses the supervisor's socket."""
        return {
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "exit": self.exit,
        }

    @classmethod
    def from_dict(cls, error: dict[str, Any]) -> LocalError:
        """The error that ``to_dict`` described."""
        return cls(
            str(error.get("reason", "failed")),
            str(error.get("message", "the supervisor gave no reason")),
            str(error.get("hint", "")),
            int(error.get("exit", FAILED)),
        )


def suggestion(wrong: str, known: Iterable[str], what: str) -> str:
    """A hint for a mistyped name: the nearest known one, or all of them if they are few."""

    names = sorted(known)
    near = nearest(wrong, names)
    if near:
        return f"did you mean {near}?"
    if not names:
        return f"there is no {what} yet"
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"known {what}s: {listed}"


def unknown(what: str, wrong: str, known: Iterable[str]) -> LocalError:
    """No ``what`` is called ``wrong``."""
    return LocalError(
        f"unknown-{what}", f"no {what} {wrong!r}", suggestion(wrong, known, what), USAGE
    )


def storage_error(action: str, error: OSError) -> LocalError:
    """The state directory did not take what was asked of it."""
    where = error.filename or ""
    hints = {
        errno.EROFS: "it is on a read-only file system; set XDG_STATE_HOME to a writable directory",
        errno.EACCES: "check its owner and mode, or set XDG_STATE_HOME to a writable directory",
        errno.EPERM: "check its owner and mode, or set XDG_STATE_HOME to a writable directory",
        errno.ENOSPC: "free some space on that file system, or set XDG_STATE_HOME to another one",
        errno.EDQUOT: "the disk quota is used up; free some space or set XDG_STATE_HOME elsewhere",
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
        errno.ENFILE: "the system has no open files left",
        errno.ENOTDIR: "a file is where a directory should be; check XDG_STATE_HOME",
    }
    code = error.errno or 0
    reason = {errno.ENOSPC: "disk-full", errno.EDQUOT: "disk-full"}.get(code, "state-directory")
    text = (error.strerror or str(error)).lower()
    return LocalError(
        reason,
        f"cannot {action}: {text}" + (f" ({where})" if where else ""),
        hints.get(code, "check the state directory, or set XDG_STATE_HOME to another one"),
    )

"""Everything a command can end with, as a small tree. The exit code is part of the interface."""

from __future__ import annotations

DONE = 0
INTERRUPTED = 130
STDOUT_CLOSED = 141


class CommandFailed(Exception):
    """A command could not do what was asked: what went wrong, and what the user can do about it.

    ``hint`` is one sentence or a command to try; None when there is nothing sensible to suggest.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CommandFailed):
    """The command line itself is wrong; nothing was tried."""

    exit_code = 2


class NotConverged(CommandFailed):
    """What was waited for did not happen in time. What had been written stands."""

    exit_code = 3


class Unreachable(CommandFailed):
    """There is nobody to talk to: no swarm, no supervisor, or an agent that does not answer."""

    exit_code = 4


class StdoutClosed(Exception):
    """Whoever read our output has gone (``| head``): stop quietly."""

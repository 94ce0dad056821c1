"""What a command is, and what it is given to run with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gossipctl.backend import Backend, Swarm
    from gossipctl.output import Output
    from gossipctl.parser import Parser


class Invocation:
    """One run of one command: its parsed flags, where to print, and the swarm it is about.

    ``creates``: it may make the swarm, so that no cluster is taken which nobody named.
    """

    creates = False

    def __init__(self, flags: argparse.Namespace, output: Output) -> None:
        self.flags = flags
        self.output = output
        self._backend: Backend | None = None
        self._swarm: Swarm | None = None

    @property
    def backend(self) -> Backend:
        """Where swarms run, found on first use."""
        if self._backend is None:
            from gossipctl.backend import choose

            self._backend = choose(self.flags, creating=self.creates)
        return self._backend

    @property
    def swarm(self) -> Swarm:
        """The selected swarm, found on first use.

        Raises:
            Unreachable: there is none, or its supervisor does not answer.
        """
        if self._swarm is None:
            self._swarm = self.backend.swarm(self.flags.swarm)
        return self._swarm


class Command(NamedTuple):
    """A verb: how it is parsed, explained and run."""

    run: Callable[[Invocation], int | None]
    """Returns the exit code, None for 0."""
    arguments: Callable[[Parser], None]
    about: str
    """One or two paragraphs for its help page."""
    examples: tuple[str, ...] = ()
    """Command lines without the program's name."""
    passes_on: bool = False
    """Everything behind its name goes to another program as it stands, in ``flags.arguments``."""


def no_arguments(_: Parser) -> None:
    """For commands that take only the global flags."""

"""gossipctl simulate: the simulator is a program of its own; everything is passed on to it."""

from __future__ import annotations

import signal
import subprocess
import sys

from gossipctl.command import Command, Invocation, no_arguments
from gossipctl.failures import INTERRUPTED, CommandFailed

MODULE = "gossipswarm_simulator"


def _simulate(invocation: Invocation) -> int:
    # -P: a module in the caller's directory must not become the simulator's.
    command = [sys.executable, "-P", "-m", MODULE, *invocation.flags.arguments]
    try:
        process = subprocess.Popen(command)  # noqa: S603 - our own interpreter and module
    except OSError as error:
        raise CommandFailed(f"cannot start the simulator: {error.strerror}") from None
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has told the simulator as well: wait for what it makes of it.
            continue
        return INTERRUPTED if code == -signal.SIGINT else code


COMMANDS = {
    "simulate": Command(
        _simulate,
        no_arguments,
        """Run the real protocol in virtual time, with latency, loss, cuts and crashes, by a seed that
        reproduces everything.""",
        ("simulate --help",),
        passes_on=True,
    )
}

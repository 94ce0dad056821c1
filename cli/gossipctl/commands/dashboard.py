"""gossipctl dashboard."""

from __future__ import annotations

from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser, duration


def _arguments(parser: Parser) -> None:
    parser.flag(
        "--refresh",
        type=duration,
        default=500,
        metavar="DURATION",
        help="time between pictures (default 500ms)",
    )


def _dashboard(invocation: Invocation) -> None:
    if not invocation.output.terminal:
        raise UsageError(
            "the dashboard needs a terminal", "for scripts there is gossipctl swarm status -o json"
        )
    if not invocation.output.rich:
        raise CommandFailed(
            "the dashboard is drawn by the package rich, which is not installed",
            "install it with: pip install 'gossipswarm[cli]'",
        )
    from gossipctl.dashboard import run

    run(invocation.swarm, invocation.flags.refresh / 1_000)


COMMANDS = {
    "dashboard": Command(
        _dashboard,
        _arguments,
        """A live view of the swarm: regions, every agent, cuts, and writes as they arrive. q or Ctrl-C ends
        it.""",
        ("dashboard",),
    )
}

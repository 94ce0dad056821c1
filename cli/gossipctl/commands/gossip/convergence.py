"""gossipctl gossip convergence."""

from __future__ import annotations

import time
from collections.abc import Callable

from gossipctl import durations, rounds, traces
from gossipctl.command import Command, Invocation
from gossipctl.failures import NotConverged
from gossipctl.parser import Parser, duration

REFRESH_SECONDS = 0.1
COMPLETION_SECONDS = 2.0
"""How long to look on for the last few agents once the threshold is reached."""


def _arguments(parser: Parser) -> None:
    parser.switch("--watch", "-w", help="look on until it has converged")
    parser.switch("--follow", help="like --watch, and go on with every newer write until Ctrl-C")
    parser.flag("--agent", metavar="NAME", help="the newest write of this agent (default: of any)")
    parser.flag("--dot", metavar="ORIGIN:N", help="this write, as state-update -o json names it")
    parser.flag(
        "--timeout",
        type=duration,
        default=60_000,
        metavar="DURATION",
        help="how long to look on (default 1m)",
    )


def _convergence(invocation: Invocation) -> None:
    flags = invocation.flags
    if flags.follow:
        _follow(invocation)
        return
    trace = traces.required(invocation.swarm, flags.agent, flags.dot)
    if flags.watch:
        _watch(invocation, trace)
    else:
        _print(invocation, trace)
    if flags.watch and not trace.convergence["converged"]:
        raise NotConverged(
            f"{trace.convergence['key']} has not converged within {durations.show(flags.timeout)}",
            _who_is_missing(trace),
        )


def _follow(invocation: Invocation) -> None:
    """Every newest write in turn, for ever."""
    shown = None
    while True:
        trace = traces.newest(invocation.swarm, invocation.flags.agent)
        if trace is not None and trace.dot != shown:
            if shown is not None and not invocation.output.wants_json:
                invocation.output.line()
            shown = trace.dot
            _watch(invocation, trace)
        time.sleep(REFRESH_SECONDS)


def _watch(invocation: Invocation, trace: traces.Trace) -> None:
    """Look on until it has converged, live on a terminal."""
    if invocation.output.rich and not invocation.output.wants_json:
        from gossipctl.live import show_convergence

        with show_convergence(trace) as update:
            _until_converged(invocation, trace, update)
    else:
        _until_converged(invocation, trace, lambda: None)
        _print(invocation, trace)


def _print(invocation: Invocation, trace: traces.Trace) -> None:
    out, write = invocation.output, trace.convergence
    if out.wants_json:
        (out.compact if invocation.flags.follow else out.json)(write)
        return
    where = f"written at {trace.agent.name} ({trace.agent.region})"
    out.line(f"{write['key']}  {where}  {write['started_at']}\n\n{rounds.text(write)}")


def _until_converged(
    invocation: Invocation, trace: traces.Trace, update: Callable[[], None]
) -> None:
    """Refresh until every agent has it, or those that are left take too long, or the time is over."""
    deadline = time.monotonic() + invocation.flags.timeout / 1_000
    lingering = False
    while not trace.complete and time.monotonic() < deadline:
        if trace.convergence["converged"] and not lingering:
            deadline = min(deadline, time.monotonic() + COMPLETION_SECONDS)
            lingering = True
        time.sleep(REFRESH_SECONDS)
        trace.refresh()
        update()


def _who_is_missing(trace: traces.Trace) -> str | None:
    missing = trace.convergence.get("missing") or []
    if not missing:
        return None
    more = trace.convergence["agents"] - trace.convergence["received"] - len(missing)
    return f"missing: {', '.join(missing)}" + (f" and {more} more" if more > 0 else "")


COMMANDS = {
    "convergence": Command(
        _convergence,
        _arguments,
        """Show how the newest traced write reached the agents, round by round: a round is one more hop from
        the agent where it was written. Every agent that has it has said so by a receipt.

        --watch shows it live and ends when it has converged; with 3 if it does not in time.""",
        ("gossip convergence --watch", "gossip convergence --agent gossip-us-east-1 -o json"),
    ),
}

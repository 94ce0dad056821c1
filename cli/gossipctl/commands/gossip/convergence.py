"""gossipctl gossip convergence."""

from __future__ import annotations

import time

from gossipctl import durations, rounds, traces
from gossipctl.command import Command, Invocation
from gossipctl.failures import NotConverged
from gossipctl.parser import Parser, duration

REFRESH_SECONDS = 0.1
COMPLETION_SECONDS = 2.0
"""How long to look on for the last few agents once the threshold is reached."""


def _arguments(parser: Parser) -> None:
    parser.switch("--watch", "-w", help="look on until it has converged")
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
    trace = traces.required(invocation.swarm, flags.agent, flags.dot)
    out = invocation.output
    if flags.watch:
        _watch(invocation, trace)
    if out.wants_json:
        out.json(trace.convergence)
        return
    if not (flags.watch and out.terminal):
        _heading(invocation, trace)
        out.line(rounds.text(trace.convergence))
    if flags.watch and not trace.convergence["converged"]:
        raise NotConverged(
            f"{trace.convergence['key']} has not converged within {durations.show(flags.timeout)}",
            _who_is_missing(trace),
        )


def _heading(invocation: Invocation, trace: traces.Trace) -> None:
    write = trace.convergence
    invocation.output.line(
        f"{write['key']}  written at {trace.agent.name} ({trace.agent.region})  {write['started_at']}\n"
    )


def _watch(invocation: Invocation, trace: traces.Trace) -> None:
    if invocation.output.terminal and not invocation.output.wants_json:
        from gossipctl.live import show_convergence

        with show_convergence(trace) as update:
            _follow(invocation, trace, update)
    else:
        _follow(invocation, trace, lambda: None)


def _follow(invocation: Invocation, trace: traces.Trace, update: object) -> None:
    assert callable(update)
    deadline = time.monotonic() + invocation.flags.timeout / 1_000
    grace = None
    while not trace.complete and time.monotonic() < deadline:
        if trace.convergence["converged"]:
            grace = grace or time.monotonic() + COMPLETION_SECONDS
            if time.monotonic() > grace:
                break
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

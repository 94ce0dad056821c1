"""gossipctl gossip conflicts."""

from __future__ import annotations

import time
from typing import Any

from gossipctl import output
from gossipctl.backend import Swarm
from gossipctl.command import Command, Invocation
from gossipctl.failures import NotConverged
from gossipctl.parser import Parser, duration

REFRESH_SECONDS = 0.2
MEMBERS = (
    "conflict_detected",
    "resolution_strategy",
    "winning_value",
    "winning_timestamp",
    "losing_value",
    "losing_timestamp",
    "affected_agents",
)
"""The documented members, in their order; the others follow them."""


def _arguments(parser: Parser) -> None:
    parser.switch(
        "--watch", "-w", help="print conflicts as they show up, until the agents agree again"
    )
    parser.switch("--follow", help="like --watch, but go on for ever")
    parser.switch("--history", help="also those that were overwritten since")
    parser.flag("--key", metavar="KEY", help="only conflicts of this key and below it")
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")
    parser.flag(
        "--timeout",
        type=duration,
        default=60_000,
        metavar="DURATION",
        help="how long to watch (default 1m)",
    )


def _conflicts(invocation: Invocation) -> None:
    flags = invocation.flags
    if flags.watch or flags.follow:
        _watch(invocation)
        return
    found = _found(invocation, past=flags.history)
    if not found:
        output.note(
            "no conflict" if flags.history else "no conflict is open; --history shows past ones"
        )
    if invocation.output.format is None:
        for conflict in found:
            invocation.output.json(conflict)
        return
    invocation.output.records(
        found,
        {
            "key": "key",
            "winning_value": "won",
            "winning_origin": "by",
            "losing_value": "lost",
            "losing_origin": "by ",
        },
        {
            "winning_timestamp": "won at",
            "losing_timestamp": "lost at",
            "resolution_strategy": "strategy",
        },
    )


def _found(invocation: Invocation, *, past: bool) -> list[dict[str, Any]]:
    """Open conflicts, and with ``past`` all that are remembered."""
    answer = invocation.swarm.agent(invocation.flags.agent).conflicts().raw
    conflicts = [*answer["open"], *(answer["history"] if past else [])]
    unique = {
        _identity(conflict): conflict for conflict in conflicts if _wanted(invocation, conflict)
    }
    return [_ordered(conflict) for conflict in unique.values()]


def _identity(conflict: dict[str, Any]) -> tuple[str, str, str]:
    return conflict["key"], conflict["losing_origin"], conflict["losing_timestamp"]


def _wanted(invocation: Invocation, conflict: dict[str, Any]) -> bool:
    key = invocation.flags.key
    return key is None or conflict["key"] == key or conflict["key"].startswith(f"{key}.")


def _ordered(conflict: dict[str, Any]) -> dict[str, Any]:
    return {name: conflict[name] for name in MEMBERS if name in conflict} | conflict


def _watch(invocation: Invocation) -> None:
    flags = invocation.flags
    if invocation.output.terminal:
        until = "" if flags.follow else " until the agents agree"
        output.note(f"watching{until}; Ctrl-C ends")
    deadline = time.monotonic() + flags.timeout / 1_000
    shown: dict[tuple[str, str, str], dict[str, Any]] = {}
    over = _over(invocation)
    while True:
        settled = not flags.follow and agree(invocation.swarm)
        for conflict in _found(invocation, past=True):
            if _identity(conflict) in over:
                continue
            if shown.get(_identity(conflict)) != conflict:
                # Raised again when a still later write beats it: what is said last is what holds.
                shown[_identity(conflict)] = conflict
                _print(invocation, conflict)
        if settled:
            break
        if not flags.follow and time.monotonic() > deadline:
            raise NotConverged(
                "the agents do not agree yet", "see why with: gossipctl network partition-status"
            )
        time.sleep(REFRESH_SECONDS)
    output.note(
        f"the agents agree; {len(shown) or 'no'} conflict{'s' * (len(shown) != 1)} resolved"
    )


def _over(invocation: Invocation) -> set[tuple[str, str, str]]:
    """Conflicts of the past that are no news; none of them is over where the history was asked for."""
    if invocation.flags.history:
        return set()
    still_open = set(map(_identity, _found(invocation, past=False)))
    return set(map(_identity, _found(invocation, past=True))) - still_open


def _print(invocation: Invocation, conflict: dict[str, Any]) -> None:
    if invocation.output.wants_json:
        invocation.output.compact(conflict)
    else:
        invocation.output.json(conflict)


def agree(swarm: Swarm) -> bool:
    """Whether every agent holds the same state and the same conflict history, in one group."""
    agents = swarm.stats()
    return len({(each["state_hash"], each["losses_hash"]) for each in agents}) <= 1 and all(
        len(each["groups"]) <= 1 for each in agents
    )


COMMANDS = {
    "conflicts": Command(
        _conflicts,
        _arguments,
        """Show concurrent writes to one key: what won, what lost and why. Nothing that was acknowledged is lost
        without a record here.

        --watch prints them as they show up and ends once the agents agree on everything.""",
        ("gossip conflicts --watch", "gossip conflicts --history -o table"),
    ),
}

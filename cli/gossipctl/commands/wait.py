"""gossipctl wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from gossipctl import durations, progress
from gossipctl.command import Command, Invocation
from gossipctl.failures import NotConverged, UsageError
from gossipctl.parser import Parser, choice, count, duration, share

REFRESH_SECONDS = 0.1

Verdict = tuple[bool, str]
"""Whether it is so, and how it stands."""


def _arguments(parser: Parser) -> None:
    parser.flag(
        "--for",
        dest="what",
        required=True,
        type=choice(*CHECKS),
        metavar="|".join(CHECKS),
        help="what to wait for",
    )
    parser.flag(
        "--threshold",
        type=share,
        metavar="SHARE",
        help="share of the agents (default: the swarm's, 1 for ready)",
    )
    parser.flag(
        "--agents",
        type=count,
        metavar="N",
        help="ready: this many agents, rather than all that there are or ought to be",
    )
    parser.flag(
        "--timeout",
        type=duration,
        default=60_000,
        metavar="DURATION",
        help="how long to wait (default 1m)",
    )


def _wait(invocation: Invocation) -> None:
    flags = invocation.flags
    if flags.agents and flags.what != "ready":
        raise UsageError("--agents goes with --for ready")
    check = CHECKS[flags.what]
    started = time.monotonic()
    deadline = started + flags.timeout / 1_000
    with progress.Waiting(f"waiting: {flags.what}") as waiting:
        while True:
            met, text = check(invocation)
            waiting.text = f"waiting: {text}"
            if met or time.monotonic() > deadline:
                break
            time.sleep(REFRESH_SECONDS)
    if not met:
        raise NotConverged(
            f"not {WORDS[flags.what]} within {durations.show(flags.timeout)}: {text}",
            "see how it is with: gossipctl swarm status --verbose",
        )
    took = durations.show((time.monotonic() - started) * 1_000)
    if invocation.output.wants_json:
        invocation.output.json({"condition": flags.what, "met": True, "detail": text})
    else:
        invocation.output.line(f"{invocation.swarm.name} {WORDS[flags.what]} after {took}: {text}")


def _converged(invocation: Invocation) -> Verdict:
    threshold = invocation.flags.threshold
    if threshold is None:
        threshold = invocation.swarm.request("config", changes={})["settings"][
            "convergence_threshold"
        ]
        invocation.flags.threshold = threshold
    found = invocation.swarm.request("converged", threshold=threshold)
    text = f"{found['agreeing']} of {found['agents']} agents hold the same state"
    return found["converged"], text


def _ready(invocation: Invocation) -> Verdict:
    agents = invocation.swarm.stats()
    ready = sum(bool(each["ready"]) for each in agents)
    wanted = invocation.flags.agents or invocation.swarm.expected() or max(len(agents), 1)
    needed = wanted * (invocation.flags.threshold or 1.0)
    return ready >= needed, f"{ready} of {wanted} agents are ready"


def _healed(invocation: Invocation) -> Verdict:
    if invocation.swarm.request("partition-status")["cuts"]:
        return False, "a partition is in force"
    agents = invocation.swarm.stats()
    groups = max((len(each["groups"]) for each in agents), default=1)
    if groups > 1:
        return False, f"agents see {groups} groups of regions"
    hashes = {(each["state_hash"], each["losses_hash"]) for each in agents}
    if len(hashes) > 1:
        return False, f"{len(hashes)} different states among {len(agents)} agents"
    return True, f"{len(agents)} agents in one group with one state"


def _enforced(invocation: Invocation) -> Verdict:
    status = invocation.swarm.request("partition-status")
    split = [each for each in invocation.swarm.stats() if len(each["groups"]) > 1]
    if status["status"] != "partitioned":
        return False, "no partition is in force"
    return bool(split), f"{len(split)} agents have noticed the cut"


CHECKS: dict[str, Callable[[Invocation], Verdict]] = {
    "convergence": _converged,
    "ready": _ready,
    "healed": _healed,
    "enforced": _enforced,
}
WORDS = {
    "convergence": "converged",
    "ready": "ready",
    "healed": "healed",
    "enforced": "partitioned",
}

COMMANDS = {
    "wait": Command(
        _wait,
        _arguments,
        """Wait until something is so: a share of the agents holds the same state (convergence), agents have
        joined and caught up (ready), no cut is left and all agree (healed), or a partition is in force and
        noticed (enforced). Exits with 3 when it is not so in time.""",
        (
            "wait --for convergence --threshold 0.95 --timeout 30s",
            "wait --for ready --agents 150",
            "wait --for healed",
        ),
    )
}

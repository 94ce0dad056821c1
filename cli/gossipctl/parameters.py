"""The parameters of ``gossip config``, as flags. Ranges are checked by the agents; a test keeps the two in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gossipctl import durations
from gossipctl.parser import Parser, boolean, choice, count, duration, share
from gossipctl.suggest import listing

POLICIES = ("vector-clock", "last-write-wins", "max", "min", "union", "manual")


class Parameter(NamedTuple):
    """One live-changeable parameter."""

    convert: Callable[[str], Any]
    placeholder: str
    default: Any
    explained: str
    unit: str = ""


def _policies_by_prefix(text: str) -> dict[str, str]:
    policies = {}
    for pair in text.split(",") if text else []:
        prefix, _, policy = pair.rpartition("=")
        if not prefix:
            from argparse import ArgumentTypeError

            raise ArgumentTypeError(f"{pair!r} is not PREFIX=POLICY, such as counters=max")
        policies[prefix.strip()] = choice(*POLICIES)(policy.strip())
    return policies


def _one_of(placeholder: str, default: str, explained: str, *words: str) -> Parameter:
    return Parameter(
        choice(*words), placeholder, default, f"{explained}: {listing(words, last='or')}"
    )


PARAMETERS: dict[str, Parameter] = {
    "fanout": Parameter(count, "N", 3, "peers contacted a round, and arity of the spread trees"),
    "interval": Parameter(duration, "DURATION", 100, "length of a gossip round", "ms"),
    "mode": _one_of(
        "MODE", "push-pull", "direction of the random exchange", "push", "pull", "push-pull"
    ),
    "eager": Parameter(
        boolean, "true|false", True, "forward on receipt; false is the textbook mode, on rounds"
    ),
    "redundancy": Parameter(count, "N", 2, "spread trees an origin"),
    "convergence-threshold": Parameter(
        share, "SHARE", 0.95, "share of the agents that counts as converged"
    ),
    "anti-entropy": Parameter(boolean, "true|false", True, "periodic full comparison"),
    "anti-entropy-interval": Parameter(
        duration, "DURATION", 10_000, "time between full comparisons", "ms"
    ),
    "partition-detection": Parameter(
        boolean, "true|false", True, "declare regions cut off from each other"
    ),
    "partition-timeout": Parameter(
        duration, "DURATION", 300, "silence between regions before a cut is declared", "ms"
    ),
    "healing-strategy": _one_of(
        "STRATEGY",
        "merge-last-write-wins",
        "what regions do when they meet again",
        "merge-last-write-wins",
        "merge",
        "manual",
    ),
    "conflict-resolution": _one_of(
        "POLICY", "vector-clock", "how concurrent writes are decided", *POLICIES
    ),
    "conflict-resolution-prefixes": Parameter(
        _policies_by_prefix, "PREFIX=POLICY,...", {}, "exceptions to it below some keys"
    ),
    "compression": _one_of(
        "KIND", "delta", "how much less than everything travels", "none", "delta", "zstd"
    ),
    "region-affinity": Parameter(
        share, "SHARE", 0.7, "share of random exchanges kept in the own region"
    ),
    "cross-region-fanout": Parameter(
        count, "N", 1, "spread edges that enter a region from another"
    ),
    "max-clock-skew": Parameter(
        duration, "DURATION", 500, "how far ahead a clock may run before its writes are held", "ms"
    ),
    "degraded-mode": Parameter(boolean, "true|false", False, "refuse writes, serve reads"),
    "durability": _one_of(
        "WHEN", "fsync", "where a write must be to be acknowledged", "fsync", "memory"
    ),
    "probe-interval": Parameter(
        duration, "DURATION", 500, "time between failure probes of one agent", "ms"
    ),
    "suspicion-timeout": Parameter(
        duration, "DURATION", 850, "time a confirmed suspect has to refute", "ms"
    ),
    "max-agents": Parameter(count, "N", 1_000, "agents that the swarm admits"),
}


def add_flags(parser: Parser) -> None:
    """One flag a parameter."""
    for name, parameter in PARAMETERS.items():
        default = parameter.default
        shown = durations.show(default) if parameter.unit else str(default).lower()
        parser.flag(
            f"--{name}",
            type=parameter.convert,
            metavar=parameter.placeholder,
            help=f"{parameter.explained} (default {shown if default != {} else 'none'})",
        )

"""A call may cost 120 ms of CPU: the walkthrough makes 150 of them at once, on the machine of the swarm.

That is what twelve starts of the bare interpreter cost, and how it is put here: a machine that is slow, or busy, is so for both.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from command_line import GOSSIPCTL, CommandLine

LIMIT_STARTS = 12
HEAVY = ("asyncio", "aiohttp", "msgspec", "yaml", "rich", "http.client", "dataclasses", "inspect")


def cpu_seconds(environment: Mapping[str, str], *command: str | Path) -> float:
    """User and system time of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(gossipctl: CommandLine, *arguments: str) -> float:
    """The cheapest of a few calls, in starts of the interpreter: what else runs only ever adds to both."""
    calls, bare = [], []
    for _ in range(7):
        calls.append(cpu_seconds(gossipctl.environment, GOSSIPCTL, *arguments))
        bare.append(cpu_seconds(gossipctl.environment, sys.executable, "-c", "pass"))
    return min(calls) / min(bare)


@pytest.mark.parametrize(
    "arguments",
    [
        ("agent", "spawn", "--name", "a", "--region", "us-east"),
        ("gossip", "state-update", "--key", "a", "--value", "1"),
        ("gossip", "config", "--fanout", "3"),
        ("__complete", "gossip", "con"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_a_call_is_cheap(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert starts(CommandLine(tmp_path), *arguments) < LIMIT_STARTS


@pytest.mark.parametrize(
    "arguments",
    [
        ("agent", "spawn", "--name", "a"),
        ("agent", "list"),
        ("gossip", "state-update", "--key", "a", "--value", "1"),
        ("gossip", "query-state", "--key", "a"),
        ("gossip", "convergence"),
        ("gossip", "config"),
        ("memory", "store", "--key", "a", "--value", "1"),
        ("network", "partition-status"),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_on_the_way(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    script = (
        "import sys; from gossipctl.main import run; run(sys.argv[1:]);"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **CommandLine(tmp_path).environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""

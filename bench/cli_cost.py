"""What one call of ``gossipctl`` costs the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.report import Result, Table, ms, percentile
from bench.swarms import command, evenly, swarm

COMMANDS: dict[str, tuple[str, ...]] = {
    "version": ("version",),
    "--help": ("--help",),
    "swarm status": ("swarm", "status"),
    "agent list": ("agent", "list"),
    "gossip config": ("gossip", "config"),
    "gossip state-update": ("gossip", "state-update", "--key", "bench.cli", "--value", "1"),
    "gossip query-state": ("gossip", "query-state", "--key", "bench.cli"),
    "gossip metrics": ("gossip", "metrics", "--metric", "convergence-rate"),
    "network partition-status": ("network", "partition-status"),
    "memory retrieve": ("memory", "retrieve", "--key", "bench"),
}


def run(*, quick: bool) -> Result:
    """Processor and wall time of a call, median of ten."""
    calls = 2 if quick else 10
    figures = {}
    with swarm(evenly(12)):
        _cost(("memory", "store", "--key", "bench", "--value", "1"))
        _cost(("gossip", "state-update", "--key", "bench.cli", "--value", "0"))
        for name, arguments in COMMANDS.items():
            costs = [_cost(arguments) for _ in range(calls)]
            figures[name] = {
                "cpu_ms": round(percentile([cpu for cpu, _ in costs], 0.5), 1),
                "wall_ms": round(percentile([wall for _, wall in costs], 0.5), 1),
            }
    baseline = _interpreter(calls)
    rows = [
        (f"`gossipctl {name}`", ms(each["cpu_ms"]), ms(each["wall_ms"]))
        for name, each in figures.items()
    ]
    rows.append(("`python -c pass`", ms(baseline["cpu_ms"]), ms(baseline["wall_ms"])))
    return Result(
        name="cli_cost",
        title="The cost of a command",
        method=f"""
Each command {calls} times against a swarm of 12 agents; medians. Processor time is what the kernel charged the
command's process, so it does not include the supervisor's and the agents' share. The last row is the interpreter
alone.""",
        tables=[Table(("command", "processor time", "wall time"), rows)],
        figures={**figures, "python -c pass": baseline},
    )


def _interpreter(calls: int) -> dict[str, float]:
    costs = [_measure([sys.executable, "-c", "pass"]) for _ in range(calls)]
    return {
        "cpu_ms": round(percentile([cpu for cpu, _ in costs], 0.5), 1),
        "wall_ms": round(percentile([wall for _, wall in costs], 0.5), 1),
    }


def _cost(arguments: tuple[str, ...]) -> tuple[float, float]:
    return _measure(command(*arguments))


def _measure(line: list[str]) -> tuple[float, float]:
    """Milliseconds of processor time and of wall time of one process."""
    begun = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"{' '.join(line[1:])}: {complaint.decode().strip()}")
    return (usage.ru_utime + usage.ru_stime) * 1000, wall * 1000

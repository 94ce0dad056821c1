"""How long one write takes to every agent, when nothing else happens."""

from __future__ import annotations

import random
import time

from bench.report import Result, Table, ms, percentile
from bench.swarms import Measured, convergence, evenly, swarm

SHARES = (0.95, 0.99, 1.0)
PAUSE = 0.1
"""Seconds between two writes: above some tens a second agents would take the path for busy times."""


def run(*, quick: bool) -> Result:
    """200 traced writes at random agents of 211."""
    agents, writes = (12, 10) if quick else (211, 200)
    with swarm(evenly(agents), max_agents=agents) as measured:
        acknowledged, reached = write(measured, writes)
    rows = [_row("acknowledged to the writer", acknowledged)]
    rows += [_row(f"{share:.0%} of the agents hold it", reached[share]) for share in SHARES]
    return Result(
        name="write_latency",
        title=f"One write, {agents} agents",
        method=f"""
{agents} agents in three regions on one machine, default parameters, encryption on, journals fsynced. {writes}
writes, one after another, each at a random agent over its HTTP API, each awaited everywhere, and {PAUSE * 1000:.0f} ms of quiet before the next. The
times are those of the agents' own receipts, which carry the clock of the receiver: here all have the same.""",
        tables=[Table(("until", "p50", "p95", "p99", "max"), rows)],
        figures={
            "agents": agents,
            "writes": writes,
            "acknowledged_ms": _figures(acknowledged),
            **{f"share_{share:g}_ms": _figures(reached[share]) for share in SHARES},
        },
    )


def write(measured: Measured, writes: int) -> tuple[list[float], dict[float, list[float]]]:
    """Write so often, one after another: milliseconds until acknowledged, and until each share had it."""
    rng = random.Random(1)
    addresses = measured.agents()
    acknowledged: list[float] = []
    reached: dict[float, list[float]] = {share: [] for share in SHARES}
    for number in range(writes):
        agent = rng.choice(addresses)
        begun = time.perf_counter()
        written = agent.set(f"bench.{number % 20}", number, trace=True)
        acknowledged.append((time.perf_counter() - begun) * 1000)
        for share in reversed(SHARES):
            reached[share].append(convergence(agent, written.dot, share)["duration_ms"])
        time.sleep(PAUSE)
    return acknowledged, reached


def _figures(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(percentile(values, 0.50), 2),
        "p95": round(percentile(values, 0.95), 2),
        "p99": round(percentile(values, 0.99), 2),
        "max": round(max(values), 2),
    }


def _row(what: str, values: list[float]) -> tuple[str, ...]:
    return (what, *(ms(value) for value in _figures(values).values()))

"""How many updates a second reach every agent."""

from __future__ import annotations

from typing import Any

from bench.machine import cpu_seconds, resident_bytes
from bench.report import Result, Table, mib, ms
from bench.swarms import REGIONS, Measured, evenly, gossipctl, swarm, until


def run(*, quick: bool) -> Result:
    """10,000 updates by 50 writers over 150 agents, as the walkthrough has it, three times."""
    agents, updates, concurrency, runs = (12, 500, 5, 1) if quick else (150, 10_000, 50, 3)
    with swarm(evenly(agents), max_agents=agents) as measured:
        found = [measure(measured, updates, concurrency) for _ in range(runs)]
    rows = [
        (
            str(number),
            f"{each['duration_sec']:.2f} s",
            f"{each['throughput_ops_sec']:,.0f}",
            ms(each["avg_convergence_ms"]),
            ms(each["p95_convergence_ms"]),
            ms(each["p99_convergence_ms"]),
            f"{each['settled_s']:.2f} s",
            f"{each['cpu_us_per_delivery']:.2f} us",
            str(each["held_for_dead"]),
            mib(each["resident_bytes"]),
        )
        for number, each in enumerate(found, 1)
    ]
    return Result(
        name="throughput",
        title=f"{updates:,} updates, {concurrency} writers, {agents} agents",
        method=f"""
`gossipctl gossip benchmark --updates {updates} --concurrency {concurrency}` against {agents} agents in three
regions on one machine, encryption on, journals fsynced; the load generator shares the processors with the agents.
The duration ends when every update is on every agent, by their number and by equal state hashes. Then the benchmark
deletes what it wrote; *all equal* is the time until that is everywhere too. Convergence is that of single traced
updates among them, to 95 % of the agents. Processor time is that of the agents' processes over the number of
deliveries (updates and deletions, times agents); memory is that of all of them.""",
        tables=[
            Table(
                (
                    "run", "duration", "updates/s", "avg", "p95", "p99", "all equal",
                    "processor time a delivery", "held for dead", "memory",
                ),
                rows,
            )
        ],
        figures={"agents": agents, "updates": updates, "concurrency": concurrency, "runs": found},
    )  # fmt: skip


def measure(measured: Measured, updates: int, concurrency: int) -> dict[str, Any]:
    """One benchmark by the command line, and what it cost."""
    pids = measured.worker_pids()
    before = sum(map(cpu_seconds, pids))
    figures: dict[str, Any] = gossipctl(
        *("gossip", "benchmark", "--updates", str(updates), "--concurrency", str(concurrency))
    )
    used = sum(map(cpu_seconds, pids)) - before
    figures["settled_s"] = round(until(measured.agree, 60.0, "all agents hold the same"), 3)
    agents = len(measured.stats())
    figures["cpu_us_per_delivery"] = round(used * 1e6 / (2 * updates * agents), 3)
    figures["held_for_dead"] = max(
        sum(member.status == "dead" for member in measured.agent(f"{region}-1").members())
        for region in REGIONS
    )
    figures["resident_bytes"] = sum(map(resident_bytes, pids))
    return figures

"""What agents cost when nothing happens."""

from __future__ import annotations

import time

from bench.machine import cpu_seconds, resident_bytes
from bench.report import Result, Table, mib
from bench.swarms import Measured, evenly, swarm


def run(*, quick: bool) -> Result:
    """Processor time of 150 idle agents over 30 s; memory of one agent, and of one more in its process."""
    agents, settle, seconds = (12, 1.0, 2.0) if quick else (150, 15.0, 30.0)
    with swarm(evenly(agents), max_agents=agents) as measured:
        time.sleep(settle)
        share = _cpu_share(measured, seconds)
        swarm_bytes = sum(map(resident_bytes, measured.worker_pids()))
    first, further = _memory(4 if quick else 40)
    figures = {
        "agents": agents,
        "cpu_share_of_a_core": round(share, 4),
        "cpu_us_per_agent_second": round(share * 1e6 / agents, 1),
        "swarm_resident_bytes": swarm_bytes,
        "one_agent_process_bytes": first,
        "further_agent_bytes": further,
    }
    rows = [
        (f"processor, {agents} agents", f"{share:.1%} of one core"),
        ("processor, each agent", f"{share * 1000 / agents:.2f} ms a second"),
        (f"memory, all processes of {agents} agents", mib(swarm_bytes)),
        ("memory, a process with one agent", mib(first)),
        ("memory, each further agent in that process", mib(further)),
    ]
    return Result(
        name="idle",
        title="The cost of doing nothing",
        method=f"""
{agents} agents in three regions that have settled: heartbeats between regions, failure probes, digests and periodic
full comparisons go on. Processor time of the agents' processes over {seconds:g} s. Memory is the resident set; the last
two rows are from one process, first with one agent and then with {4 if quick else 40} more.""",
        tables=[Table(("what", "cost"), rows)],
        figures=figures,
    )


def _cpu_share(measured: Measured, seconds: float) -> float:
    pids = measured.worker_pids()
    before, begun = sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - begun)


def _memory(more: int) -> tuple[int, float]:
    with swarm({"us-east": 1}, workers=1) as measured:
        time.sleep(1.0)
        (pid,) = measured.worker_pids()
        first = resident_bytes(pid)
        measured.spawn({"us-east": more})
        time.sleep(2.0)
        return first, (resident_bytes(pid) - first) / more

"""gossipctl gossip benchmark."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from gossipctl import durations, output, progress
from gossipctl.backend import Agent
from gossipctl.command import Command, Invocation
from gossipctl.failures import NotConverged, UsageError
from gossipctl.load_generator import Load, Plan, writer_key
from gossipctl.parser import Parser, count, duration
from gossipswarm_client.calls import Line

REFRESH_SECONDS = 0.02
TRACED = 64
"""Traced updates of one run: enough for percentiles, few enough that their receipts do not count."""
IN_ONE_REQUEST = 10
"""Updates of a request in a cluster, where nobody says."""
SETTLING_REFRESH_SECONDS = 0.1
SETTLING_SECONDS = 5.0
"""How long to wait for earlier deletions; with an agent down they are not collected at all."""
CLEARING_SECONDS = 120.0
"""How long to wait for the deletions of this run, which cost a swarm about as much as the updates did."""
RECEIPT_SECONDS = 5.0
"""How long to wait for the receipts of traced updates once every agent has them."""


def _arguments(parser: Parser) -> None:
    parser.flag("--updates", type=count, default=10_000, metavar="N", help="updates to write")
    parser.flag(
        "--concurrency",
        type=count,
        default=50,
        metavar="N",
        help="updates outstanding at any time, in all",
    )
    parser.flag(
        "--agents",
        type=count,
        metavar="N",
        help="write at so many agents (default: as many as there are writers)",
    )
    parser.flag(
        "--batch",
        type=count,
        metavar="N",
        help="updates outstanding of one writer; fewer writers then (default 1; 10 in a cluster)",
    )
    parser.flag("--key-prefix", default="benchmark", metavar="KEY", help="where to write")
    parser.switch("--keep", help="leave what was written")
    parser.flag(
        "--timeout",
        type=duration,
        default=600_000,
        metavar="DURATION",
        help="how long all may take (default 10m)",
    )


def _benchmark(invocation: Invocation) -> None:
    flags = invocation.flags
    agents = _spread_over_regions(invocation.swarm.agents())
    if flags.agents and flags.agents > len(agents):
        raise UsageError(
            f"--agents {flags.agents}: {invocation.swarm.name} has {len(agents)} agents"
        )
    batch = _batch(invocation, flags.agents or len(agents))
    writers = max(1, min(flags.concurrency // batch, flags.updates))
    agents = agents[: flags.agents or writers]
    for agent in agents:
        # A swarm at its limit answers late; that is a result, not a failure.
        agent.timeout = flags.timeout / 1_000
    plan = Plan(
        flags.updates,
        writers,
        min(batch, flags.concurrency),
        f"{flags.key_prefix}.r{secrets.token_hex(3)}",
        max(1, flags.updates // TRACED),
    )
    observer = agents[0]
    leaves = {each["name"]: each["leaves"] for each in _settled(invocation)}
    before = _events(observer)
    try:
        load, delivered = _measure(invocation, agents, plan, leaves)
        result = _result(plan, agents, load, delivered, observer, before)
    finally:
        if not flags.keep:
            _clean_up(agents[0], plan)
    if not flags.keep:
        _cleared(invocation)
    _report(invocation, result)


def _batch(invocation: Invocation, agents: int) -> int:
    """Updates that one writer has outstanding; in a cluster there is no more than one writer an agent, and a request
    through the API server costs more than the updates in it.
    """
    flags = invocation.flags
    if invocation.backend.kind == "local":
        return int(flags.batch or 1)
    return max(int(flags.batch or IN_ONE_REQUEST), -(-int(flags.concurrency) // agents))


def _spread_over_regions(agents: Sequence[Agent]) -> list[Agent]:
    """The same agents, one of each region in turn."""
    regions: dict[str, list[Agent]] = {}
    for agent in agents:
        regions.setdefault(agent.region, []).append(agent)
    longest = max(map(len, regions.values()))
    return [
        members[index]
        for index in range(longest)
        for members in regions.values()
        if index < len(members)
    ]


def _settled(invocation: Invocation) -> list[dict[str, Any]]:
    """The agents' figures once earlier deletions are collected: until then their hashes differ for a while,
    which would be taken for updates that are still on their way.
    """
    deadline = time.monotonic() + SETTLING_SECONDS
    with progress.Waiting("waiting for the swarm to settle"):
        while True:
            stats = invocation.swarm.stats()
            same = len({each["state_hash"] for each in stats}) == 1
            if (same and not any(each["tombstones"] for each in stats)) or (
                time.monotonic() > deadline
            ):
                return stats
            time.sleep(SETTLING_REFRESH_SECONDS)


def _measure(
    invocation: Invocation, agents: Sequence[Agent], plan: Plan, leaves: dict[str, int]
) -> tuple[Load, float]:
    """The load, and the seconds until every agent held all of it."""
    deadline = time.monotonic() + invocation.flags.timeout / 1_000
    with progress.Progress(f"writing at {len(agents)} agents", plan.updates) as bar:
        load = _writing(invocation)(agents, plan, bar.advance)
    with progress.Waiting("spreading to all agents") as waiting:
        while True:
            # Hashes alone cost the swarm little; the rest is asked once they are equal.
            found = invocation.swarm.request("converged", threshold=1.0)
            now = time.monotonic()
            waiting.text = f"spreading: {found['agreeing']} of {found['agents']} agents agree"
            if found["converged"] and _lacking(invocation, plan, leaves) <= 0:
                return load, now - load.started
            if now > deadline:
                raise NotConverged(
                    f"after {durations.show(invocation.flags.timeout)} only {found['agreeing']} of "
                    f"{found['agents']} agents agree",
                    "see how it is with: gossipctl swarm status --verbose",
                )
            time.sleep(REFRESH_SECONDS)


def _writing(
    invocation: Invocation,
) -> Callable[[Sequence[Agent], Plan, Callable[[int], None]], Load]:
    if invocation.backend.kind == "local":
        from gossipctl.load_generator import run
    else:
        from gossipctl.kubernetes.load import run
    return run


def _lacking(invocation: Invocation, plan: Plan, leaves: dict[str, int]) -> int:
    """Updates that the agent with the fewest has not got."""
    gained: list[int] = [
        each["leaves"] - leaves.get(each["name"], 0) for each in invocation.swarm.stats()
    ]
    return plan.updates - min(gained)


def _events(agent: Agent) -> tuple[int, int]:
    """Partitions and conflicts so far."""
    return len(agent.partition().history), len(agent.conflicts().history)


def _result(
    plan: Plan,
    agents: Sequence[Agent],
    load: Load,
    delivered: float,
    observer: Agent,
    before: tuple[int, int],
) -> dict[str, Any]:
    spread = _convergence_times(load)
    acknowledged = sorted(seconds * 1_000 for seconds in load.latencies)
    partitions, conflicts = _events(observer)
    return {
        "total_updates": plan.updates,
        "duration_sec": round(delivered, 3),
        "throughput_ops_sec": round(plan.updates / delivered),
        "avg_convergence_ms": _average(spread),
        "p95_convergence_ms": _percentile(spread, 0.95),
        "p99_convergence_ms": _percentile(spread, 0.99),
        "partition_events": max(0, partitions - before[0]),
        "conflicts_resolved": max(0, conflicts - before[1]),
        "acknowledged": {
            "duration_sec": round(load.seconds, 3),
            "throughput_ops_sec": round(plan.updates / load.seconds),
            "avg_ms": _average(acknowledged),
            "p95_ms": _percentile(acknowledged, 0.95),
            "p99_ms": _percentile(acknowledged, 0.99),
        },
        "writers": plan.writers,
        "agents_written_at": len(agents),
        "convergence_samples": len(spread),
    }


def _convergence_times(load: Load) -> list[float]:
    """Milliseconds until each traced update had reached the threshold, in order."""
    times = []
    deadline = time.monotonic() + RECEIPT_SECONDS
    for agent, dot in load.traced:
        while True:
            took = agent.convergence(dot).duration_ms
            if took is not None or time.monotonic() > deadline:
                break
            time.sleep(REFRESH_SECONDS)
        if took is not None:
            times.append(took)
    return sorted(times)


def _average(ordered: Sequence[float]) -> float | None:
    return round(sum(ordered) / len(ordered), 1) if ordered else None


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def _clean_up(agent: Agent, plan: Plan) -> None:
    """Delete what was written, a writer at a time: one delete of it all would be one huge update."""
    keys = [writer_key(plan, writer) for writer in range(plan.writers)]
    refused = [ack for ack in agent.batch(Line(key, op="delete") for key in keys) if not ack.ok]
    if refused:
        output.warn(f"{len(refused)} of {len(keys)} keys below {plan.prefix} could not be deleted")


def _cleared(invocation: Invocation) -> None:
    """Wait until the deletions have reached all agents: whoever comes next finds a swarm that has nothing to do."""
    deadline = time.monotonic() + CLEARING_SECONDS
    with progress.Waiting("clearing up") as waiting:
        while time.monotonic() < deadline:
            found = invocation.swarm.request("converged", threshold=1.0)
            if found["converged"]:
                return
            waiting.text = f"clearing up: {found['agreeing']} of {found['agents']} agents agree"
            time.sleep(SETTLING_REFRESH_SECONDS)


def _report(invocation: Invocation, result: dict[str, Any]) -> None:
    if invocation.output.format in ("table", "wide"):
        flat = {name: value for name, value in result.items() if name != "acknowledged"}
        flat |= {f"acknowledged_{name}": value for name, value in result["acknowledged"].items()}
        invocation.output.document(flat)
    else:
        invocation.output.json(result)


COMMANDS = {
    "benchmark": Command(
        _benchmark,
        _arguments,
        """Write many updates at many agents at once and measure. A writer sends its next update when its last
        one is acknowledged; the clock stops when every agent holds every update, checked by their number and by
        equal state hashes. Convergence is measured on a sample of traced updates. What was written is deleted
        afterwards, and the command ends when every agent has heard of that.""",
        (
            "gossip benchmark --updates 10000 --concurrency 50",
            "gossip benchmark --updates 1000 --concurrency 10 --keep",
        ),
    ),
}

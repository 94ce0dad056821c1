"""How long things take, and what they cost, with as many pods as one machine bears: written to docs/results."""

from __future__ import annotations

import os

from bench.report import Result, Table, mib, ms, percentile

from e2e import figures, usage
from e2e.cluster import ROOT, Cluster
from e2e.installation import SYSTEM
from e2e.swarm import REGIONS, Swarm, bound

AGENTS = 60
METHOD = f"""
{AGENTS} agents in pods of their own, each with a volume and encryption, in three regions on three worker nodes of a kind cluster, all on
one machine. {figures.WRITES} writes, each at an agent chosen at random, with {figures.PAUSE * 1000:.0f} ms of quiet before the next, timed by the agents' own receipts,
which all carry the same machine's clock. A SwarmConfig is changed {figures.CONFIGS} times, each time until a watch shows it Converged. One region is
cut off by a SwarmPartition, written to on both sides, and healed by deleting the object. Processor time and memory are the kubelets' figures over
{usage.SPAN:.0f} s in which nobody does anything."""


def test_figures_of_a_large_swarm(cluster: Cluster, swarm: Swarm) -> None:
    load = os.getloadavg()
    swarm.apply(regions=bound(), replicasPerRegion=AGENTS // 3)
    ready = figures.timed(
        lambda: cluster.wait(swarm.namespace, f"gossipswarm/{swarm.name}", "Ready", 600)
    )
    converged = ready + figures.timed(lambda: swarm.settled(AGENTS))
    agents, operator = usage.measure(
        cluster, (swarm.namespace, swarm.name), (SYSTEM, "gossipswarm-operator")
    )
    spread = figures.writes(swarm)
    configs = figures.configurations(swarm)
    drill = figures.drill(swarm, REGIONS[0], REGIONS[1:])
    rows = [
        ("from apply of the swarm to Ready", f"{ready:.1f} s"),
        ("to Converged", f"{converged:.1f} s"),
        ("cut ordered, until probes have shown it", f"{drill.enforced:.2f} s"),
        ("until the object says Detected", f"{drill.detected:.2f} s"),
        ("an agent notices, by its own clock, p50", ms(percentile(drill.noticed_ms, 0.5))),
        ("the last one", ms(max(drill.noticed_ms))),
        ("cut deleted, until it is gone", f"{drill.gone:.2f} s"),
        ("until all agents agree again", f"{drill.agreed:.2f} s"),
    ]
    costs = [
        _cost("one agent, idle", agents),
        _cost("one replica of the operator, idle", operator),
    ]
    result = Result(
        name="kubernetes-e2e",
        title=f"{AGENTS} agents on Kubernetes",
        method=METHOD,
        tables=[
            Table(
                ("from, to", "p50", "p99", "max"),
                [
                    _times("a write, to 95% of the agents", spread.threshold),
                    _times("a write, to every agent", spread.everybody),
                    _times("SwarmConfig applied, to Converged", [1000 * each for each in configs]),
                ],
            ),
            Table(("what", "time"), rows),
            Table(("cost", "cores", "memory", "largest"), costs),
        ],
        figures={
            "agents": AGENTS,
            "ready_s": ready,
            "converged_s": converged,
            "write_threshold_ms": spread.threshold,
            "write_everybody_ms": spread.everybody,
            "swarmconfig_s": configs,
            "drill": drill._asdict(),
            "agent_cores": [each.cores for each in agents],
            "agent_bytes": [each.bytes for each in agents],
            "operator_cores": [each.cores for each in operator],
            "operator_bytes": [each.bytes for each in operator],
            "load_average": {"before": load, "after": os.getloadavg()},
        },
        notes=(
            f"The load average over 15 minutes was {load[2]:.1f} before and {os.getloadavg()[2]:.1f} after: "
            "whatever else the machine does is in these figures."
        ),
        repeat="make e2e",
    )
    result.write(ROOT / "docs" / "results")

    assert len(agents) > AGENTS * 0.8


def _times(what: str, values: list[float]) -> tuple[str, ...]:
    return (what, ms(percentile(values, 0.5)), ms(percentile(values, 0.99)), ms(max(values)))


def _cost(what: str, found: list[usage.Usage]) -> tuple[str, ...]:
    cores = sum(each.cores for each in found) / len(found)
    average = sum(each.bytes for each in found) / len(found)
    return (what, f"{cores:.3f}", mib(average), mib(max(each.bytes for each in found)))

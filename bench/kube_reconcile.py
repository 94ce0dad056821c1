"""What 200 swarms cost an API server: until they are there, and when nothing changes.

The operator is the real program behind a real API server; ``KUBEBUILDER_ASSETS`` must name the folder with its programs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.machine import cpu_seconds
from bench.report import Result, Table, mib

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from gossipswarm_operator.client import KubeClient, load_configuration
from kube import Cluster, assets
from kube_operator_program import Program, program
from kube_operator_runs import make_account, until
from kube_operator_scale import Spent, are_made, at_rest, create_swarms

SWARMS, SWARMS_QUICK = 200, 10
RESYNC_SECONDS = 30
"""As shipped."""
MADE_SECONDS = 600.0


def run(*, quick: bool) -> Result:
    """Create swarms, wait, and count. Raises RuntimeError where there are no programs of an API server."""
    try:
        assets()
    except LookupError as missing:
        raise RuntimeError(f"a real API server is needed: {missing}") from None
    count, resync = (SWARMS_QUICK, 3) if quick else (SWARMS, RESYNC_SECONDS)
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory) / "kube")
        try:
            cluster.start()
            figures = asyncio.run(_measure(cluster, Path(directory), count, resync))
        finally:
            cluster.stop()
    return _result(figures)


async def _measure(cluster: Cluster, directory: Path, count: int, resync: int) -> dict[str, Any]:
    configuration = await load_configuration(str(cluster.kubeconfig))
    async with KubeClient(configuration) as admin:
        with cluster.namespace("bench") as namespace:
            account = make_account(cluster, namespace)
            settings = {"resync_seconds": resync, "lease_seconds": 15}
            async with program(account, namespace, directory, **settings) as running:
                await until(running.leads)
                return await _count(admin, namespace, running, count, resync)


async def _count(
    admin: KubeClient, namespace: str, running: Program, count: int, resync: int
) -> dict[str, Any]:
    start = await Spent.by(running)
    memory = {"before": running.resident_bytes}
    begun, used = time.perf_counter(), cpu_seconds(running.process.pid)
    await create_swarms(admin, namespace, count)
    created = time.perf_counter() - begun
    await until(lambda: are_made(admin, namespace, count), MADE_SECONDS)
    made_seconds = time.perf_counter() - begun
    made_cpu = cpu_seconds(running.process.pid) - used
    made = (await Spent.by(running)).since(start)
    memory["made"] = running.resident_bytes
    await at_rest(running, count, MADE_SECONDS)
    rest, rest_seconds, rest_cpu = await _steady(running, count, resync)
    memory["rest"] = running.resident_bytes
    return {
        "swarms": count,
        "resync_seconds": resync,
        "created_seconds": round(created, 2),
        "made_seconds": round(made_seconds, 2),
        "made_cpu_seconds": round(made_cpu, 2),
        "made_reconciles_per_swarm": round(made.reconciles / count, 2),
        "made_calls_per_swarm": _each(made.calls, count),
        "rest_seconds": round(rest_seconds, 1),
        "rest_reconciles": rest.reconciles,
        "rest_writes": sum(rest.writes.values()),
        "rest_reads_per_reconcile": round(rest.reads / rest.reconciles, 2),
        "rest_reads_per_second": round(rest.reads / rest_seconds, 1),
        "rest_calls_per_reconcile": _each(rest.calls, rest.reconciles),
        "rest_cpu_share": round(rest_cpu / rest_seconds, 3),
        "resident_bytes": memory,
    }


async def _steady(running: Program, count: int, resync: int) -> tuple[Spent, float, float]:
    """What is spent in two rounds of looks by the clock, how many seconds they took, and how many of processor time."""
    while True:
        before, begun = await Spent.by(running), time.perf_counter()
        used = cpu_seconds(running.process.pid)
        await asyncio.sleep(2 * resync)
        spent = (await Spent.by(running)).since(before)
        # Swarms of which no agent answers are looked at less and less often, and at last as rarely as any.
        if spent.reconciles <= 2.2 * count:
            return spent, time.perf_counter() - begun, cpu_seconds(running.process.pid) - used


def _each(calls: Counter[tuple[str, str]], count: int) -> dict[str, float]:
    ordered = sorted(calls.items())
    return {f"{verb} {resource}": round(n / count, 2) for (verb, resource), n in ordered}


def _result(figures: dict[str, Any]) -> Result:
    made, rest = figures["made_calls_per_swarm"], figures["rest_calls_per_reconcile"]
    memory = figures["resident_bytes"]
    count = figures["swarms"]
    facts = [
        ("until the API server had taken all swarms", f"{figures['created_seconds']:.1f} s"),
        ("until all their objects were there", f"{figures['made_seconds']:.1f} s"),
        ("the operator's processor time for it", f"{figures['made_cpu_seconds']:.1f} s"),
        ("looks at a swarm until then", f"{figures['made_reconciles_per_swarm']:.1f}"),
        ("writes when nothing changes", str(figures["rest_writes"])),
        ("reads a look when nothing changes", f"{figures['rest_reads_per_reconcile']:.1f}"),
        ("reads a second, all swarms", f"{figures['rest_reads_per_second']:.1f}"),
        ("processor time when nothing changes", f"{figures['rest_cpu_share']:.1%} of a core"),
        ("memory before there were swarms", mib(memory["before"])),
        ("memory when they were made", mib(memory["made"])),
        ("memory when nothing changed any more", mib(memory["rest"])),
    ]
    calls = [
        (f"`{call}`", f"{made.get(call, 0.0):g}", f"{rest.get(call, 0.0):g}")
        for call in sorted(made.keys() | rest.keys())
    ]
    return Result(
        name="kube_reconcile",
        title="What swarms cost the API server",
        method=f"""
{count} GossipSwarms of one region and one agent each are created as fast as the API server takes them, in one namespace of a
real API server (kube-apiserver, etcd, kube-controller-manager) without nodes: no pod ever runs. The operator is the real
program with its own rights and looks at each swarm every {figures["resync_seconds"]} s at the latest. Calls are those that it
counts itself, without those for its Lease; watches, of which there is one for each kind, are not calls. All of it shares
the machine's cores.""",
        tables=[
            Table(("", ""), facts),
            Table(("call", "per swarm, until made", "per look, nothing changes"), calls),
        ],
        figures=figures,
    )

"""The same work beside hashicorp/memberlist, in one run: one write on all nodes, and many writes at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.report import Result, Table, mib, ms, percentile
from bench.swarms import evenly, swarm
from bench.throughput import measure
from bench.write_latency import write

SOURCE: Final = Path(__file__).with_name("memberlist_swarm")
TUNED: Final = ("-gossip-interval", "20ms", "-gossip-nodes", "6")
"""The quickest of those tried on two cores: every 10, 20 and 50 ms, to 3, 4, 6 and 10 nodes."""
LIMIT_SECONDS: Final = 120
LIMIT_MIB: Final = 6144


def run(*, quick: bool) -> Result:
    """One write on 211, 100 times; and 10,000 writes by 50 writers over 150."""
    nodes, writes = (12, 5) if quick else (211, 100)
    crowd, updates, writers = (12, 500, 5) if quick else (150, 10_000, 50)
    with tempfile.TemporaryDirectory() as directory:
        program = _build(Path(directory))
        theirs = {
            name: _run(program, "-nodes", str(nodes), "-writes", str(writes), *tuning)
            for name, tuning in (("by default", ()), ("tuned", TUNED))
        }
        burst = _run(
            program,
            *("-nodes", str(crowd), "-writes", str(updates), "-writers", str(writers)),
            *("-limit", f"{LIMIT_SECONDS}s", "-memory", str(LIMIT_MIB)),
        )
    with swarm(evenly(nodes), max_agents=nodes) as measured:
        reached = write(measured, writes)[1][1.0]
    with swarm(evenly(crowd), max_agents=crowd) as measured:
        ours = measure(measured, updates, writers)
    own = percentile(reached, 0.5)
    rows = [("GossipSwarm", ms(own), ms(percentile(reached, 0.99)), "1")]
    for name, found in theirs.items():
        took = [each if each >= 0 else float("inf") for each in found["took_ms"]]
        middle = percentile(took, 0.5)
        rows.append(
            (f"memberlist, {name}", ms(middle), ms(percentile(took, 0.99)), f"{middle / own:.1f}")
        )
    return Result(
        name="memberlist",
        title="Beside memberlist",
        method=f"""
Both on the same machine in one run, one after the other, encryption on, every node on loopback. memberlist's nodes are goroutines of one
process (`bench/memberlist_swarm`) that spread each write as a user broadcast, pass on what is news, and exchange what they hold in
push/pull; by default as `DefaultLANConfig` has it, and with `{" ".join(TUNED)}`. GossipSwarm's agents are those of a local swarm,
which also sync each write to disk and take it by HTTP; memberlist's keep theirs in memory and are called directly.

First one write at a time, {writes} of them, until {nodes} nodes hold it. Then {updates:,} writes by {writers} writers over {crowd} nodes,
until all are everywhere, or {LIMIT_SECONDS} s or {LIMIT_MIB // 1024} GiB are over.""",
        tables=[
            Table((f"one write on all of {nodes}", "p50", "p99", "p50 over ours"), rows),
            Table(
                (f"{updates:,} writes over {crowd}", "everywhere", "held for dead", "memory"),
                [
                    (
                        "GossipSwarm",
                        f"after {ours['duration_sec']:.1f} s",
                        str(ours["held_for_dead"]),
                        mib(ours["resident_bytes"]),
                    ),
                    (
                        "memberlist, by default",
                        _outcome(burst),
                        f"{burst['false_deaths']:,}",
                        mib(burst["resident_bytes"]),
                    ),
                ],
            ),
        ],
        figures={
            "one_write_ms": {
                "gossipswarm": reached,
                **{n: f["took_ms"] for n, f in theirs.items()},
            },
            "burst": {"gossipswarm": ours, "memberlist": burst},
        },
    )


def _build(directory: Path) -> Path:
    if shutil.which("go") is None:
        raise RuntimeError("this takes Go, to build memberlist with")
    program = directory / "memberlist_swarm"
    done = subprocess.run(
        ["go", "build", "-o", program, "."], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"memberlist_swarm does not build: {done.stderr.strip()}")
    return program


def _run(program: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=1200, check=False
    )
    if done.returncode:
        raise RuntimeError(f"memberlist_swarm {' '.join(arguments)}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _outcome(burst: dict[str, Any]) -> str:
    if not burst["given_up_for"]:
        return f"after {burst['duration_sec']:.1f} s"
    limit = {"time": f"{LIMIT_SECONDS} s", "memory": f"{LIMIT_MIB // 1024} GiB"}
    return f"not after {limit[burst['given_up_for']]}: {burst['share']:.1%} were"

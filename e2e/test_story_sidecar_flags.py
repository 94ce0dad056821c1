"""A flag is flipped, and twenty pods that only read a file have it: sooner than by the volume of a ConfigMap, in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.report import Result, Table

from e2e.cluster import ROOT, Cluster, Failed, program
from e2e.settings import Settings
from e2e.swarm import Swarm, plain

EXAMPLE = ROOT / "examples" / "sidecar"
PODS, FLIPS = 20, 2
"""A flip by a ConfigMap takes more than a minute."""
METHOD = f"""
The example in [`examples/sidecar`](../../examples/sidecar/README.md): {PODS} pods, in each an application that knows nothing of GossipSwarm and reads
its flags from files, beside a sidecar that writes them; nine agents in three regions; everything on one machine. A flag is
flipped {FLIPS} times each way: by a write on the loopback of another pod's sidecar, by a SwarmConfig, and by a ConfigMap that the same pods
mount as a volume. Every application looks at its files every 20 ms, and is told by HTTP of those that the sidecar writes. For the ConfigMap the
clock starts when the API server has acknowledged the change, for the others before the write is sent."""


def test_a_flag_reaches_twenty_pods_sooner_than_by_a_configmap(
    cluster: Cluster, swarm: Swarm, settings: Settings, tmp_path: Path
) -> None:
    swarm.apply(regions=plain(), replicasPerRegion=3)
    swarm.settled(9)
    load = os.getloadavg()
    file = tmp_path / "figures.json"
    path = f"{Path(program('kubectl')).parent}{os.pathsep}{os.environ['PATH']}"
    command = [
        sys.executable, str(EXAMPLE / "measure.py"), "--context", cluster.context, "--namespace", swarm.namespace,
        "--swarm", swarm.name, "--image", settings.agent_image, "--flips", str(FLIPS), "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    if done.returncode:
        raise Failed(f"{done.stdout}{done.stderr}")
    print(done.stdout)
    figures = json.loads(file.read_text())
    rows = [
        (way, *(f"{found[name]:.3f} s" for name in ("p50", "p99", "last_max")))
        for way, found in figures.items()
    ]
    Result(
        name="sidecar",
        title=f"A flag in {PODS} pods",
        method=METHOD,
        tables=[Table(("by", "p50", "p99", "the last pod of the slowest flip"), rows)],
        figures={**figures, "load_average": {"before": load, "after": os.getloadavg()}},
        notes=(
            f"The load average over 15 minutes was {load[2]:.1f} before and {os.getloadavg()[2]:.1f} after: "
            "whatever else the machine does is in these figures."
        ),
        repeat="python examples/sidecar/measure.py",
    ).write(ROOT / "docs" / "results")

    beside, volume = figures["a write beside a sidecar"], figures["ConfigMap, as a volume"]
    assert beside["p99"] < 2.0
    assert beside["last_max"] < volume["p50"]

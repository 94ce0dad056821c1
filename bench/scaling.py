"""How the protocol scales, in virtual time: the agents' own core, and no machine to run out of."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.report import Result, Table


def run(*, quick: bool) -> Result:
    """The simulator from 10 to 1,000 agents, without and with 5 % of the datagrams lost."""
    sizes = "10,50" if quick else "10,50,150,211,500,1000"
    writes = "2" if quick else "5"
    variants = {"no loss": [], "5 % of the datagrams lost": ["--loss", "0.05"]}
    figures: dict[str, Any] = {}
    tables = []
    for variant, options in variants.items():
        rows = _simulate("--agents", sizes, "--writes", writes, "--partition", *options)
        figures[variant] = rows
        tables.append(
            Table(
                (
                    "agents", "rounds", "95 % hold it", "all hold it", "messages an agent",
                    "cut known to all", "healed and equal",
                ),
                [_row(row) for row in rows],
                f"## {variant[0].upper()}{variant[1:]}",
            )
        )  # fmt: skip
    return Result(
        name="scaling",
        title="Scaling, simulated",
        method=f"""
`gossipctl simulate --agents {sizes} --writes {writes} --partition`: the same core that runs in the agents, driven
by virtual time, 0.3 ms between any two agents, three regions. What it leaves out is the time that processors take;
what it shows is how hops and messages grow. Medians of {writes} writes; the same seed gives the same figures.""",
        tables=tables,
        figures=figures,
    )


def _simulate(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "gossipswarm_simulator", *arguments, "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=1800,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['agents']:,}",
        str(row["rounds"]),
        f"{row['threshold_ms']:.1f} ms",
        f"{row['full_ms']:.1f} ms",
        f"{row['messages'] / row['agents']:.1f}",
        f"{row['detection_ms']:.0f} ms",
        f"{row['heal_ms']:.0f} ms",
    )

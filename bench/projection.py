"""How long a write takes to be in the files beside applications."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.inotify import Renames
from bench.report import Result, Table, ms, percentile
from bench.swarms import REGIONS, Measured, evenly, swarm, until
from gossipctl.backend import Agent

SMALL, LARGE = "bench.small", "bench.large"
SMALL_LEAVES = 10
PAUSE, LARGE_PAUSE = 0.15, 2.5
"""Seconds between two writes: each finds the files at rest."""


def run(*, quick: bool) -> Result:
    """Writes at random agents of nine, and files beside twenty edges."""
    edges, writes, leaves, large_writes = (3, 5, 200, 2) if quick else (20, 200, 5000, 20)
    load = os.getloadavg()[0]
    with (
        swarm(evenly(9), max_agents=9) as measured,
        tempfile.TemporaryDirectory(prefix="gossipswarm-files-") as place,
        _files(measured, Path(place), edges, leaves) as (files, large),
    ):
        taken = _write(measured, files, f"{SMALL}.leaf0", writes, PAUSE)
        taken_large = _write(measured, [large], f"{LARGE}.leaf0", large_writes, LARGE_PAUSE)
    rows = [_row("acknowledged to the writer", [each.acknowledged for each in taken])]
    figures: dict[str, Any] = {"edges": edges, "writes": writes, "large_leaves": leaves}
    for name, said in (
        ("app.json", f"JSON of {SMALL_LEAVES} leaves"),
        ("..data", f"directory of {SMALL_LEAVES} files"),
    ):
        every = [at for each in taken for (_, file), at in each.seen.items() if file == name]
        last = [max(at for (_, file), at in each.seen.items() if file == name) for each in taken]
        rows += [
            _row(f"{said}, each of {edges}", every),
            _row(f"{said}, the last of {edges}", last),
        ]
        key = "json" if name == "app.json" else "dir"
        figures |= {f"{key}_ms": _figures(every), f"{key}_last_ms": _figures(last)}
    of_large = [at for each in taken_large for at in each.seen.values()]
    rows.append(_row(f"directory of {leaves:,} files, of which one changes", of_large))
    figures["large_dir_ms"] = _figures(of_large)
    return Result(
        name="projection",
        title="From a write to a file",
        method=f"""
Nine agents in three regions, and {edges} edges, a process each, that keep a file of JSON and a directory of files of {SMALL_LEAVES}
leaves; one of them also keeps {leaves:,} leaves as files. All on one machine, encryption on, everything synced. {writes} writes of one leaf, one after
another, each at a random agent over its HTTP API; {large_writes} of the large directory. The clock starts before a write is sent, and stops when
the kernel says that the file, or the link to the directory's version, was renamed into its place.""",
        tables=[Table(("until", "p50", "p95", "p99", "max"), rows)],
        figures={**figures, "load_average_before": round(load, 2)},
        notes=(
            f"The load average over the minute before was {load:.1f}: what else the machine and its disk did is in these "
            "figures. Every file is synced before it is renamed, and its directory after it."
        ),
    )


class Taken:
    """One write: milliseconds until it was acknowledged, and until each file had it."""

    def __init__(self, acknowledged: float, seen: Mapping[tuple[Path, str], float]) -> None:
        self.acknowledged = acknowledged
        self.seen = seen


def _write(
    measured: Measured, files: Sequence[tuple[Path, str]], key: str, writes: int, pause: float
) -> list[Taken]:
    rng = random.Random(1)
    agents = measured.agents()
    taken = []
    with Renames({directory for directory, _ in files}) as renames:
        for number in range(writes):
            time.sleep(pause)
            renames.clear()
            begun = time.monotonic()
            rng.choice(agents).set(key, f"write {number}")
            acknowledged = time.monotonic() - begun
            seen = renames.wait(files, 30.0)
            taken.append(
                Taken(
                    acknowledged * 1000,
                    {file: (seen[file] - begun) * 1000 for file in files},
                )
            )
    return taken


@contextmanager
def _files(
    measured: Measured, place: Path, edges: int, leaves: int
) -> Iterator[tuple[list[tuple[Path, str]], tuple[Path, str]]]:
    """Edges and their files: (directory, name that is renamed) of the small ones, and of the large one."""
    agents = measured.agents()
    agents[0].set(SMALL, {f"leaf{number}": "x" * 20 for number in range(SMALL_LEAVES)})
    agents[0].set(LARGE, {f"leaf{number}": number for number in range(leaves)})
    files: list[tuple[Path, str]] = []
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(edges):
            directory = place / f"edge-{number}"
            directory.mkdir()
            running.append(_start(agents, directory, number))
            files += [(directory, "app.json"), (directory / "small", "..data")]
        large = place / "edge-0" / "large"
        until(
            lambda: all(
                (directory / name).exists() for directory, name in [*files, (large, "..data")]
            ),
            120.0,
            "every file is there",
        )
        time.sleep(2.0)
        yield files, (large, "..data")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


def _start(agents: Sequence[Agent], directory: Path, number: int) -> subprocess.Popen[bytes]:
    region = REGIONS[number % len(REGIONS)]
    own = [agent for agent in agents if agent.region == region]
    (directory / "token").write_text(own[0].token or "")
    project = [
        {"prefix": SMALL, "path": str(directory / "app.json")},
        {"prefix": SMALL, "path": str(directory / "small"), "format": "dir"},
    ]
    if number == 0:
        project.append({"prefix": LARGE, "path": str(directory / "large"), "format": "dir"})
    prefixes = SMALL if number else f"{SMALL},{LARGE}"
    told = {
        "ROLE": "edge",
        "NAME": directory.name,
        "REGION": region,
        "SWARM": str(own[0].request("GET", "/v1/agent")["swarm"]),
        "UPSTREAM": ",".join(agent.url.removeprefix("http://") for agent in own),
        "UPSTREAM_TOKEN_FILE": str(directory / "token"),
        "PREFIXES": prefixes,
        "API_PORT": "0",
        "PROJECT": json.dumps(project),
    }
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith("GOSSIPSWARM_")
    }
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            ["gossipswarm-agent"],
            env={**plain, **{f"GOSSIPSWARM_{name}": value for name, value in told.items()}},
            stderr=log,
        )


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(percentile(values, 0.50), 2),
        "p95": round(percentile(values, 0.95), 2),
        "p99": round(percentile(values, 0.99), 2),
        "max": round(max(values), 2),
    }


def _row(what: str, values: Sequence[float]) -> tuple[str, ...]:
    return (what, *(ms(value) for value in _figures(values).values()))

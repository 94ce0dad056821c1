"""What the smoke test measured, as a page and as figures."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.machine import facts
from bench.report import MACHINE_NAMES, Table

_METHOD = """\
The chart is installed into an empty cluster, a swarm of nine agents is made of `examples/quickstart.yaml`, and what a
user does next is done and timed: `helm test`, a SwarmConfig that is read in every region, scaling, an upgrade of the agents while a
client reads and writes without a pause, an upgrade and a rollback of the operator, and removal until nothing is left. Between, one region
is cut off by NetworkPolicies, written to on both sides, and healed.
Times are those of whoever waits with `kubectl`, whose own start is in them."""


class Report:
    """Steps with their times, and what else was found."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, Any] = {}
        self.rows: list[tuple[str, str]] = []
        """What was seen of the upgrade."""
        self.cluster: list[tuple[str, str]] = []
        self._load = os.getloadavg()[2]

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Times a step and says so."""
        print(f"{what} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        yield
        self.seconds[what] = round(time.monotonic() - began, 2)
        print(f"{what}: {self.seconds[what]:.1f} s", file=sys.stderr, flush=True)

    def markdown(self) -> str:
        """The page."""
        steps = [(what, f"{seconds:.1f} s") for what, seconds in self.seconds.items()]
        steps.append(("all of it", f"{sum(self.seconds.values()):.1f} s"))
        machine = [(MACHINE_NAMES[name], value) for name, value in facts().items()]
        machine.append(
            ("load average", f"{self._load:.1f} at the start, {os.getloadavg()[2]:.1f} at the end")
        )
        parts = [
            "# A smoke test on Kubernetes",
            _METHOD,
            Table(("step", "time"), steps).markdown(),
            Table(("during the upgrades", ""), self.rows).markdown(),
            Table(("cluster", ""), [*self.cluster, *machine]).markdown(),
            "Repeat it with `make e2e-smoke E2E_RESULTS=docs/results`.",
        ]
        return "\n\n".join(parts) + "\n"

    def write(self, directory: Path) -> None:
        """``kubernetes-smoke.md`` and ``kubernetes-smoke.json``."""
        (directory / "kubernetes-smoke.md").write_text(self.markdown(), encoding="utf-8")
        document = {
            "name": "kubernetes-smoke",
            "figures": {"seconds": self.seconds, **self.figures},
            "cluster": dict(self.cluster),
            "machine": facts(),
        }
        text = json.dumps(document, indent=2) + "\n"
        (directory / "kubernetes-smoke.json").write_text(text, encoding="utf-8")

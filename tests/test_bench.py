"""The benchmarks run; what they measure is judged by those who read docs/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.report import Result, Table, percentile

ROOT = Path(__file__).parent.parent


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.swarm
def test_a_quick_benchmark_measures_a_swarm_and_leaves_no_results(tmp_path: Path) -> None:
    done = bench("write_latency", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "100% of the agents hold it" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_benchmark_is_refused_with_the_names_of_all() -> None:
    done = bench("latency")
    assert done.returncode == 2
    assert "write_latency" in done.stderr


def test_a_result_is_a_page_and_its_figures(tmp_path: Path) -> None:
    table = Table(("what", "value"), [("speed", "9")])
    Result("speed", "Speed", "Measured.", [table], {"speed": 9}).write(tmp_path)
    page = (tmp_path / "speed.md").read_text()
    assert "| speed | 9     |" in page
    assert "| cores " in page
    assert '"speed": 9' in (tmp_path / "speed.json").read_text()


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 1.0) == 4
    assert percentile([7], 0.99) == 7

"""What needs a cluster in ``.ci/run`` gets one where there can be one, and what was made for it is taken down again.

The programs that make clusters are pretended: each writes down that it was called.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TELL = 'echo "runs on ${E2E_CONTEXT:-nothing}, images from ${E2E_BASE_IMAGE:-nowhere}"'


@dataclass
class Machine:
    """A machine with a checkout, and as much beside it as a test has put there."""

    root: Path

    def put(self, name: str, script: str = "") -> None:
        """A program ``bin/...`` on the path, or ``shared/cluster/...`` beside the checkout."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        called = (
            f'echo "$(basename "$0") $*" | tr -d "\\n" | sed "s/ *$/\\n/" >> "{self.root}/calls"'
        )
        file.write_text(f"#!/bin/bash\n{called}\n{script}\n", "utf-8")
        file.chmod(0o755)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "main" / ".ci" / "cluster", "bash", "-c", script],
            capture_output=True,
            text=True,
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", **environment},
        )

    def calls(self, *programs: str) -> list[str]:
        file = self.root / "calls"
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        return [line for line in lines if line.split()[0] in programs]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that has neither an engine nor anything beside the checkout."""
    script = tmp_path / "main" / ".ci" / "cluster"
    script.parent.mkdir(parents=True)
    script.write_bytes((ROOT / ".ci" / "cluster").read_bytes())
    script.chmod(0o755)
    made = Machine(tmp_path)
    for program in ("docker", "kind", "kubectl", "helm"):
        made.put(f"bin/{program}", "exit 1")
    made.put("bin/id", "echo 0")
    made.put("bin/uname", "echo Linux")
    return made


@pytest.fixture
def beside(machine: Machine) -> Machine:
    """The same with what makes a cluster beside the checkout."""
    machine.put("shared/cluster/assets", f"echo {machine.root}/bin")
    machine.put("shared/cluster/up", "echo '[up] cluster swarm is up' >&2")
    machine.put("shared/cluster/down", "echo '[down] deleting cluster swarm' >&2")
    return machine


def test_a_cluster_that_is_named_is_used_and_left(beside: Machine):
    done = beside.run(TELL, E2E_CONTEXT="kind-mine")
    assert (done.returncode, done.stdout) == (0, "runs on kind-mine, images from nowhere\n")
    assert beside.calls("up", "down") == []


@pytest.mark.parametrize("code", [0, 2])
def test_a_cluster_made_for_it_is_taken_down_with_its_engine_whatever_came_of_it(
    beside: Machine, code
):
    done = beside.run(f"{TELL}; exit {code}")
    assert done.returncode == code
    assert done.stdout == "runs on kind-swarm, images from swarm-python:3.11\n"
    assert beside.calls("up", "down") == ["up", "down --engine"]
    assert "[down]" not in done.stderr  # the command's own last line stays the last


def test_an_engine_that_was_there_is_left_running(beside: Machine):
    beside.put("bin/docker")
    beside.put("bin/kind", "echo another")
    assert beside.run(TELL).returncode == 0
    assert beside.calls("up", "down") == ["up", "down"]


def test_a_cluster_that_was_there_is_left(beside: Machine):
    beside.put("bin/docker")
    beside.put("bin/kind", "echo another; echo swarm")
    done = beside.run(TELL)
    assert done.stdout == "runs on kind-swarm, images from swarm-python:3.11\n"
    assert beside.calls("up", "down") == ["up"]


def test_where_none_can_be_made_it_is_said_why_and_nothing_fails(beside: Machine):
    beside.put("shared/cluster/up", "echo '[engine] iptables: not permitted' >&2; exit 1")
    done = beside.run(TELL)
    assert (done.returncode, done.stdout) == (0, "")
    assert "WARNING: no cluster, so this was skipped: bash -c" in done.stderr
    assert done.stderr.count("iptables: not permitted") == 2
    assert beside.calls("down") == ["down --engine"]


def test_who_is_not_root_is_not_asked_for_a_cluster_from_beside(beside: Machine):
    beside.put("bin/id", "echo 1000")
    done = beside.run(TELL)
    assert done.returncode == 0
    assert "no container engine answers" in done.stderr
    assert beside.calls("up", "down") == []


def test_with_an_engine_and_kind_the_command_makes_its_own(machine: Machine):
    machine.put("bin/docker")
    done = machine.run(f"{TELL}; exit 3")
    assert (done.returncode, done.stdout) == (3, "runs on nothing, images from nowhere\n")


def test_without_a_program_that_it_takes_it_is_said_which(machine: Machine):
    (machine.root / "bin" / "kind").unlink()
    for program in ("bash", "mktemp", "rm", "dirname", "basename", "tr", "sed"):
        (machine.root / "bin" / program).symlink_to(f"/usr/bin/{program}")
    done = machine.run(TELL, PATH=f"{machine.root}/bin")
    assert done.returncode == 0
    assert "there is no kind" in done.stderr

"""What whoever hosts the project runs on each change and for a release: that it calls what there is, and no more than it may."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.settings import from_environment

from rendered_chart import needs_helm

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FOLDER.glob("*.yaml")}
TARGETS = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8")))
READ_ONLY = {"contents": "read"}
Json = dict[str, Any]


def jobs() -> Iterator[tuple[str, Json]]:
    for workflow, found in WORKFLOWS.items():
        for name, job in found["jobs"].items():
            yield f"{workflow}.{name}", job


def steps() -> Iterator[tuple[str, Json]]:
    for name, job in jobs():
        for step in job.get("steps", ()):
            yield name, step


SCRIPTS = [(name, step["run"]) for name, step in steps() if "run" in step]
ACTIONS = [(name, step["uses"]) for name, step in steps() if "uses" in step]


def test_there_are_those_that_the_project_promises():
    assert WORKFLOWS.keys() == {"lint", "test", "e2e", "release"}
    assert len(SCRIPTS) > 10


@pytest.mark.parametrize(("job", "script"), SCRIPTS)
def test_every_target_and_script_that_is_called_exists_and_every_script_is_sound(job, script):
    for target in re.findall(r"\bmake ([a-z0-9 -]+)", script):
        assert set(target.split()) <= TARGETS
    for called in re.findall(r"(?<![\w/])\.ci/[\w-]+", script):
        assert os.access(ROOT / called, os.X_OK), called
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("job", "script"), SCRIPTS)
def test_no_script_is_put_together_from_what_outsiders_say_or_sees_a_secret(job, script):
    # Expressions are replaced before the shell sees the script: a branch called $(...) would be run.
    assert "${{" not in script
    assert "secrets." not in script
    assert "set -x" not in script


def test_secrets_go_to_the_registry_login_alone():
    for job, step in steps():
        if "secrets." in yaml.safe_dump(step):
            assert step["uses"].startswith("docker/login-action@"), job
            assert step["with"]["password"] == "${{ secrets.GITHUB_TOKEN }}"


@pytest.mark.parametrize(("job", "action"), ACTIONS)
def test_every_action_is_pinned(job, action):
    assert re.fullmatch(r"[\w-]+/[\w/-]+@(v\d+|[0-9a-f]{40})", action), action


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_only_jobs_of_a_release_may_write(name):
    assert WORKFLOWS[name]["permissions"] == READ_ONLY
    for job in WORKFLOWS[name]["jobs"].values():
        allowed = job.get("permissions", READ_ONLY)
        assert isinstance(allowed, dict)
        if name != "release":
            assert allowed == READ_ONLY


def test_each_job_of_a_release_may_write_only_what_it_makes():
    found = {
        name: job.get("permissions", READ_ONLY)
        for name, job in WORKFLOWS["release"]["jobs"].items()
    }
    writes = {
        name: {what for what, may in each.items() if may == "write"} for name, each in found.items()
    }
    assert {name: each for name, each in writes.items() if each} == {
        "images": {"packages", "id-token", "attestations"},
        "chart": {"packages", "id-token"},
        "release": {"contents", "id-token", "attestations"},
    }


def test_nothing_is_released_that_was_not_linted_tested_and_run_in_a_cluster():
    found = WORKFLOWS["release"]["jobs"]
    assert set(found["images"]["needs"]) == {"version", "lint", "test", "e2e"}
    assert "images" in found["chart"]["needs"] and "chart" in found["release"]["needs"]
    # PyYAML reads the key "on" as the truth value.
    assert all("workflow_call" in WORKFLOWS[name][True] for name in ("lint", "test", "e2e"))
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    assert not any("pull_request_target" in found[True] for found in WORKFLOWS.values())


@pytest.mark.parametrize(("name", "job"), list(jobs()))
def test_every_job_has_a_limit_of_time(name, job):
    assert "uses" in job or 0 < job["timeout-minutes"] <= 75


def test_no_checkout_leaves_credentials_for_what_comes_after():
    checkouts = [
        step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_stories_have_the_history_with_the_release_to_upgrade_from():
    [checkout] = [
        step
        for step in WORKFLOWS["e2e"]["jobs"]["kind"]["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkout["with"]["fetch-depth"] == 0


def test_tests_run_on_every_python_that_the_package_says_it_takes():
    lowest = re.search(
        r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text("utf-8")
    )
    assert lowest is not None
    versions = WORKFLOWS["test"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == [f"3.{minor}" for minor in range(int(lowest[1]), 14)]


def test_the_cluster_of_tests_is_the_oldest_that_the_chart_takes_and_a_recent_one():
    chart = yaml.safe_load((ROOT / "charts" / "gossipswarm" / "Chart.yaml").read_text("utf-8"))
    oldest = re.match(r">=(\d+\.\d+)", chart["kubeVersion"])
    assert oldest is not None
    job = WORKFLOWS["e2e"]["jobs"]["kind"]
    nodes = job["strategy"]["matrix"]["node"]
    from_environment(job["env"])  # takes it, or raises
    assert nodes[0].startswith(f"kindest/node:v{oldest[1]}.")
    assert len(nodes) > 1


def test_dependencies_of_every_sort_are_followed():
    found = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))
    assert {each["package-ecosystem"] for each in found["updates"]} == {
        "github-actions",
        "pip",
        "docker",
    }


# --- scripts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_every_script_is_sound_and_stops_at_the_first_failure(script: Path):
    text = script.read_text("utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def version(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([root / ".ci" / "version", *arguments], capture_output=True, text=True)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """As much of the project as says its version, with a changelog that is closed."""
    for name in (".ci/version", "pyproject.toml", "charts/gossipswarm/Chart.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".ci" / "version").chmod(0o755)
    says = version(ROOT).stdout.strip()
    changes = f"# Changelog\n\n## {says}, 1 May 2026\n\n- It works.\n\n## 0.0.1\n\n- Nothing.\n"
    (tmp_path / "CHANGELOG.md").write_text(changes, "utf-8")
    return tmp_path


def test_a_tag_is_taken_if_everything_says_the_same_version(released: Path):
    says = version(released).stdout.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", says)
    assert version(released, f"v{says}").stdout.strip() == says
    assert version(released, "--changes").stdout.strip() == "- It works."


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        (
            "charts/gossipswarm/Chart.yaml",
            ("appVersion: ", "appVersion: 9."),
            "Chart.yaml (appVersion)",
        ),
        ("charts/gossipswarm/Chart.yaml", ("\nversion: ", "\nversion: 9."), "Chart.yaml (version)"),
        ("CHANGELOG.md", (", 1 May 2026", ", not released yet"), "has a date"),
        ("CHANGELOG.md", ("## ", "## 9."), "CHANGELOG.md"),
        ("pyproject.toml", ('version = "', 'version = "9.'), "the tag"),
    ],
)
def test_a_tag_is_refused_if_anything_says_otherwise(released: Path, file, change, says):
    tag = f"v{version(released).stdout.strip()}"
    path = released / file
    path.write_text(path.read_text("utf-8").replace(*change, 1), "utf-8")
    done = version(released, tag)
    assert done.returncode == 1
    assert says in done.stderr


@needs_helm
def test_the_chart_of_a_release_has_its_images_by_digest(tmp_path: Path):
    operator, agent = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    package = [ROOT / ".ci" / "package-chart", tmp_path, "registry.example/own", operator, agent]
    helm = os.environ.get("KUBEBUILDER_ASSETS", "")
    environment = {**os.environ, "PATH": f"{helm}:{os.environ['PATH']}"}
    subprocess.run(package, check=True, capture_output=True, env=environment)
    [archive] = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as opened:
        member = opened.extractfile("gossipswarm/values.yaml")
        assert member is not None
        values = yaml.safe_load(member.read())
    assert values["image"]["repository"] == "registry.example/own/gossipswarm-operator"
    assert (values["image"]["digest"], values["agentImage"]["digest"]) == (operator, agent)
    plain = (tmp_path / "gossipswarm.yaml").read_text("utf-8")
    assert f"registry.example/own/gossipswarm-operator@{operator}" in plain
    assert f"registry.example/own/gossipswarm-agent@{agent}" in plain
    assert not re.search(r"(?<!/)gossipswarm-(agent|operator):\d", plain)


def test_a_chart_is_not_packaged_with_a_tag_for_a_digest(tmp_path: Path):
    package = [ROOT / ".ci" / "package-chart", tmp_path, "registry.example/own", "1.0.0", "1.0.0"]
    done = subprocess.run(package, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1.0.0 is no digest" in done.stderr

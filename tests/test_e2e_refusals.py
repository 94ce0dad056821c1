"""The smoke test runs where it is told to, and nowhere else; and it sees whether an update goes region by region."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from e2e import previous
from e2e.own_cluster import provide
from e2e.rollout import Rollout
from e2e.settings import Refused, from_environment

IMAGES = {
    "E2E_OPERATOR_IMAGE": "example.com/operator:1",
    "E2E_AGENT_IMAGE": "example.com/agent:1",
    "E2E_NEXT_AGENT_IMAGE": "example.com/agent:2",
}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "E2E_CONTEXT"),
        ({"E2E_KIND": "test"}, "E2E_CONTEXT"),
        ({"E2E_CONTEXT": "production", "E2E_KIND": "test"}, "kind-test"),
        ({"E2E_CONTEXT": "somewhere"}, "E2E_NEXT_AGENT_IMAGE"),
        ({"E2E_CONTEXT": "somewhere", **IMAGES, "E2E_AGENT_IMAGE": "a:5000/agent"}, "no tag"),
        ({"E2E_CONTEXT": "somewhere", **IMAGES, "E2E_SEED": "lucky"}, "E2E_SEED=lucky"),
    ],
)
def test_a_cluster_that_is_not_named_is_left_alone(environment, named):
    with pytest.raises(Refused, match=named):
        from_environment(environment)


def test_a_kind_cluster_gets_images_that_are_built_here():
    settings = from_environment({"E2E_CONTEXT": "kind-test", "E2E_KIND": "test"})
    assert settings.agent_image != settings.next_agent_image
    assert from_environment({"E2E_CONTEXT": "somewhere", **IMAGES}).kind is None


def test_a_cluster_that_is_named_is_never_made(monkeypatch):
    monkeypatch.setenv("PATH", "")
    environment = {"E2E_CONTEXT": "kind-test", "E2E_KIND": "test"}
    assert provide(environment) == (from_environment(environment), False)


def test_a_cluster_of_the_suites_own_takes_kind(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(Refused, match="kind is neither in KUBEBUILDER_ASSETS nor on PATH"):
        provide({})


@pytest.mark.parametrize(("there", "made"), [("another", True), ("gossipswarm-e2e", False)])
def test_a_cluster_of_the_suites_own_is_of_the_given_image_and_no_current_context_changes(
    monkeypatch, tmp_path, there, made
):
    pretend(tmp_path, "kind", f'case "$*" in "get clusters") echo {there};; esac')
    pretend(tmp_path, "kubectl", 'case "$*" in "config view"*) echo -n mine;; esac')
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    settings, is_new = provide({"E2E_NODE_IMAGE": "node:1", "E2E_KIND_CONFIG": "kind.yaml"})

    assert (settings.context, settings.kind) == ("kind-gossipswarm-e2e", "gossipswarm-e2e")
    assert is_new is made
    calls = (tmp_path / "calls").read_text("utf-8").splitlines()
    created = [call for call in calls if call.startswith("kind create cluster")]
    assert len(created) == made
    assert all("--config kind.yaml --image node:1" in call for call in created)
    assert calls[-1] == "kubectl config use-context mine"


@pytest.fixture
def history(monkeypatch, tmp_path):
    """A repository of three commits, the second and the third released."""
    monkeypatch.setattr(previous, "ROOT", tmp_path)
    monkeypatch.setattr(previous, "STAND_IN", "v0.9.0")
    for number in range(3):
        (tmp_path / "file").write_text(str(number), "utf-8")
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "add", "file")
        git(tmp_path, "commit", "--quiet", "--message", str(number))
        if number:
            git(tmp_path, "tag", f"v1.{number}.0")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


NAMED = {"E2E_CONTEXT": "kind-test", "E2E_KIND": "test"}


def test_the_release_before_is_the_newest_that_is_not_this_commit(history, tmp_path_factory):
    commit = previous.ref(from_environment(NAMED))
    assert commit == git(history, "rev-parse", "v1.1.0")
    folder = tmp_path_factory.mktemp("unpacked")
    previous.unpack(commit, folder)
    assert [each.name for each in folder.iterdir()] == ["file"]
    assert (folder / "file").read_text("utf-8") == "1"


def test_another_release_before_may_be_named(history):
    settings = from_environment({**NAMED, "E2E_PREVIOUS": "HEAD~2"})
    assert previous.ref(settings) == git(history, "rev-parse", "HEAD~2")


def test_a_release_before_that_the_history_lacks_is_refused(history):
    git(history, "tag", "--delete", "v1.1.0", "v1.2.0")
    with pytest.raises(Refused, match=r"v0\.9\.0 is not in the history"):
        previous.ref(from_environment(NAMED))


def pretend(folder: Path, program: str, script: str) -> None:
    file = folder / program
    file.write_text(f'#!/bin/sh\necho "{program} $*" >> {folder}/calls\n{script}\n', "utf-8")
    file.chmod(0o755)


def _pods(**regions: str) -> list[dict]:
    """By region one letter a pod: o old, n new, s new and starting."""
    return [
        {
            "metadata": {"labels": {"gossipswarm.io/region": region}},
            "spec": {"containers": [{"image": "old" if letter == "o" else "new"}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "False" if letter == "s" else "True"}]
            },
        }
        for region, letters in regions.items()
        for letter in letters
    ]


def test_regions_that_are_updated_one_after_the_other_are_seen_so():
    rollout = Rollout("new")
    for elapsed, (east, west) in enumerate(
        [("oo", "oo"), ("os", "oo"), ("nn", "oo"), ("nn", "sn"), ("nn", "nn")]
    ):
        rollout.look(_pods(east=east, west=west), float(elapsed))
    assert rollout.together == 1
    assert rollout.finished == {"east": 2.0, "west": 4.0}


def test_regions_that_are_updated_together_are_seen_so():
    rollout = Rollout("new")
    rollout.look(_pods(east="os", west="so"), 0.0)
    assert rollout.together == 2
    assert not rollout.finished


def test_a_region_whose_pod_starts_again_is_not_finished():
    rollout = Rollout("new")
    for elapsed, east in enumerate(["on", "nn", "ns", "nn"]):
        rollout.look(_pods(east=east), float(elapsed))
    assert rollout.finished == {"east": 3.0}

"""The release before this one is upgraded to this one, definitions and all, and rolled back, while people read and write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from e2e import previous
from e2e.cluster import ROOT, Cluster, Object, until
from e2e.cut import Cut
from e2e.disturbances import agreed
from e2e.installation import OURS, SYSTEM, Installation
from e2e.ledger import Ledger
from e2e.rollout import observed
from e2e.settings import Refused, Settings
from e2e.swarm import Swarm, bound
from e2e.test_story_updates import CONFIG, check
from e2e.traffic import Traffic

UPDATE_SECONDS = 400


@dataclass
class Before:
    """The release before, installed in place of this one."""

    tree: Path
    settings: Settings


@pytest.fixture
def before(
    cluster: Cluster, installation: Installation, settings: Settings, tmp_path: Path
) -> Iterator[Before]:
    """It is alone on the cluster; afterwards this release is there again."""
    if settings.kind is None:
        pytest.skip("NOT TESTED: images of the release before are built and loaded on kind alone")
    try:
        commit = previous.ref(settings)
    except Refused as refused:
        pytest.skip(f"NOT TESTED: {refused}")
    previous.unpack(commit, tmp_path)
    was = previous.provide(settings, tmp_path)
    _only_the_system_is_left(cluster)
    installation.uninstall()
    first = Installation(cluster, was, str(tmp_path / "charts" / "gossipswarm"))
    first.namespace(SYSTEM)
    try:
        first.install()
        yield Before(tmp_path, was)
    finally:
        installation.namespace(SYSTEM)
        installation.install()


def _only_the_system_is_left(cluster: Cluster) -> None:
    """Uninstalling takes the definitions away, and so every swarm: those of other stories must be gone."""
    names = "jsonpath={.items[*].metadata.name}"

    def alone() -> bool | None:
        found = cluster.kubectl("get", "namespace", "-l", OURS, "-o", names).split()
        return found == [SYSTEM] or None

    until("namespaces of other stories are gone", alone, 180)


def test_an_upgrade_from_the_release_before_and_its_rollback_leave_nobody_without_an_answer(
    before: Before,
    cluster: Cluster,
    installation: Installation,
    settings: Settings,
    swarm: Swarm,
) -> None:
    old, new = before.settings.agent_image, settings.agent_image
    assert definitions(cluster) == definitions_of(before.tree)
    assert definitions_of(before.tree) != definitions_of(ROOT)
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6, image=old)
    swarm.write("app.config", CONFIG)
    traffic = Traffic(cluster, swarm.namespace, swarm.name, old, CONFIG)
    traffic.start()
    with observed(swarm, "Available") as lapses, Ledger(swarm) as ledger:
        installation.install()
        swarm.settled(6, image=new, seconds=UPDATE_SECONDS)
        assert definitions(cluster) == definitions_of(ROOT)
        _what_is_new_works(swarm)

        installation.rollback()
        swarm.settled(6, image=old, seconds=UPDATE_SECONDS)
        assert definitions(cluster) == definitions_of(before.tree)

        installation.install()
        swarm.settled(6, image=new, seconds=UPDATE_SECONDS)
    assert lapses == []
    check(traffic, swarm)
    assert len(ledger.lines) > 500
    ledger.check(agents=6)
    agreed(swarm, 6, 30)


def _what_is_new_works(swarm: Swarm) -> None:
    """A cut of agents whose journals the release before began."""
    cut = Cut(swarm)
    cut.make(["us-east"])
    cut.wait("Enforced")
    cut.delete()
    swarm.settled(6)


def definitions(cluster: Cluster) -> dict[str, Object]:
    """Schemas that the cluster holds objects to, by the kind's name."""
    found = json.loads(cluster.kubectl("get", "crd", "-o", "json"))["items"]
    return {
        each["metadata"]["name"]: each["spec"]["versions"][0]["schema"]
        for each in found
        if each["spec"]["group"] == "gossipswarm.io"
    }


def definitions_of(tree: Path) -> dict[str, Object]:
    """Schemas that a tree defines, by the kind's name."""
    files = (tree / "crds").glob("*.yaml")
    found = [yaml.safe_load(file.read_text("utf-8")) for file in files]
    return {each["metadata"]["name"]: each["spec"]["versions"][0]["schema"] for each in found}

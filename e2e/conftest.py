"""What every story may rely on: a cluster with GossipSwarm on it, and a namespace of its own.

Stories run in the order of their files; what removes the installation runs last. See ``settings`` for what the
environment says.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from e2e import evidence, images, own_cluster
from e2e.cluster import Cluster
from e2e.installation import SYSTEM, Installation
from e2e.settings import Refused, Settings
from e2e.swarm import Swarm

KEEPS = bool(os.environ.get("E2E_KEEP"))
"""Leave the cluster and the installation for the next run."""
_numbers = itertools.count(1)
_failures = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_story_uninstalling" in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when in ("setup", "call"):
        item.stash[_failures] = report.longreprtext
    return report


@pytest.fixture(scope="session")
def settings() -> Iterator[Settings]:
    """Which cluster. One that was not named is made, and removed at the end."""
    try:
        found, made = own_cluster.provide(os.environ)
    except Refused as refused:
        pytest.exit(f"refused: {refused}", returncode=2)
    yield found
    if made and not KEEPS:
        own_cluster.remove()


@pytest.fixture(scope="session")
def bare_cluster(settings: Settings) -> Cluster:
    """The cluster, with the images on its nodes."""
    evidence.forget()
    found = Cluster(settings.context)
    if settings.kind is not None:
        images.build(settings)
        images.load(settings)
    return found


@pytest.fixture(scope="session")
def installation(bare_cluster: Cluster, settings: Settings) -> Iterator[Installation]:
    """The chart, installed."""
    found = Installation(bare_cluster, settings)
    try:
        found.refuse_if_foreign()
    except Refused as refused:
        pytest.exit(f"refused: {refused}", returncode=2)
    found.namespace(SYSTEM)
    found.install()
    yield found
    if not KEEPS and found.left():
        found.uninstall()


@pytest.fixture(scope="session")
def cluster(bare_cluster: Cluster, installation: Installation) -> Cluster:
    """The cluster with GossipSwarm on it."""
    del installation
    return bare_cluster


@pytest.fixture
def make_namespace(
    cluster: Cluster, installation: Installation, request: pytest.FixtureRequest
) -> Iterator[Callable[[], str]]:
    """Makes namespaces of this story, where only restricted pods are admitted."""
    made: list[str] = []

    def make() -> str:
        name = f"story-{os.getpid() % 10_000}-{next(_numbers)}"
        installation.namespace(name)
        made.append(name)
        return name

    yield make
    failure = request.node.stash.get(_failures, None)
    for name in made:
        if failure is not None:
            folder = evidence.gather(cluster, name, request.node.name, failure)
            print(f"what there is to know about it: {folder}")
        cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def namespace(make_namespace: Callable[[], str]) -> str:
    """A namespace of this story alone, where only restricted pods are admitted."""
    return make_namespace()


@pytest.fixture
def swarm(cluster: Cluster, namespace: str) -> Swarm:
    """A handle of a swarm that is not made yet."""
    return Swarm(cluster, namespace, "gossip")

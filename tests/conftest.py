"""What every test may rely on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import kube
import podlet as podlets

# A shell ignores interrupts on behalf of its background jobs, and children would inherit that: what Ctrl-C
# does to the programs under test must not depend on how the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube.Cluster]:
    """A real API server with our CRDs, without nodes. Skips where its programs are not to be found."""
    try:
        kube.assets()
    except LookupError as missing:
        pytest.skip(f"NOT TESTED against a real API server: {missing}")
    running = kube.Cluster(tmp_path_factory.mktemp("kube"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def namespace(cluster: kube.Cluster) -> Iterator[str]:
    """A namespace of this test alone."""
    with cluster.namespace() as name:
        yield name


@pytest.fixture
def podlet(cluster: kube.Cluster, namespace: str, tmp_path: Path) -> Iterator[podlets.Podlet]:
    """Runs the agents of the namespace's pods. Skips where pods can have no addresses of their own."""
    try:
        podlets.need_addresses()
    except LookupError as missing:
        pytest.skip(f"NOT TESTED with running pods: {missing}")
    with podlets.Podlet(cluster, namespace, tmp_path / "podlet") as running:
        yield running

"""The API server of the tests: it can crash and come back, and nothing of it is left in the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kube

pytestmark = pytest.mark.kube


def running(directory: Path) -> list[str]:
    """Command lines of processes that were told about a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it ended meanwhile
            continue
        if str(directory) in " ".join(words) and int(process.name) != os.getpid():
            found.append(words[0])
    return found


def test_a_crashed_api_server_comes_back_with_what_it_had_and_all_ends_in_the_end(
    tmp_path: Path,
) -> None:
    try:
        cluster = kube.Cluster(tmp_path / "kube")
    except LookupError as missing:
        pytest.skip(f"NOT TESTED against a real API server: {missing}")
    try:
        cluster.start()
        with cluster.namespace() as name:
            cluster.stop_program("kube-apiserver", kill=True)
            with pytest.raises(OSError):
                cluster.request("GET", "/readyz")
            cluster.start_apiserver()
            assert cluster.request("GET", f"/api/v1/namespaces/{name}")["kind"] == "Namespace"
        assert len(running(tmp_path)) == 3
    finally:
        cluster.stop()
    assert running(tmp_path) == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(LookupError, match="KUBEBUILDER_ASSETS is not set"):
        kube.assets()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(LookupError, match="lacks etcd, kube-apiserver"):
        kube.assets()

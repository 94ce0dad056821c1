"""What a real API server takes, refuses, fills in and shows of our three kinds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd_cases import CHANGES, REFUSED, TAKEN, Case, Change, swarm
from kube import Cluster, Refused

pytestmark = pytest.mark.kube

ROOT = Path(__file__).parent.parent
API = "gossipswarm.io/v1alpha1"
PLURALS = {
    "GossipSwarm": "gossipswarms",
    "SwarmConfig": "swarmconfigs",
    "SwarmPartition": "swarmpartitions",
}
NUMBERS = itertools.count()


def path(namespace: str, kind: str, name: str = "", query: str = "") -> str:
    parts = ["/apis", API, "namespaces", namespace, PLURALS[kind], name]
    return "/".join(part for part in parts if part) + query


def manifest(kind: str, spec: dict[str, Any], name: str) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def create(cluster: Cluster, namespace: str, kind: str, spec: dict[str, Any], name: str) -> Any:
    query = "?fieldValidation=Strict"
    return cluster.request("POST", path(namespace, kind, query=query), manifest(kind, spec, name))


def try_out(cluster: Cluster, kind: str, spec: dict[str, Any], name: str) -> Any:
    """What the object would become: nothing is stored."""
    query = "?fieldValidation=Strict&dryRun=All"
    return cluster.request("POST", path("default", kind, query=query), manifest(kind, spec, name))


def merge(cluster: Cluster, where: str, patch: dict[str, Any]) -> Any:
    return cluster.request("PATCH", where, patch, "application/merge-patch+json")


def plain(refused: Refused) -> str:
    """The refusal without the API server's ``Invalid value: "string":`` that precedes each of our texts."""
    return re.sub(r'Invalid value: "(string|object|integer|)": ', "", refused.message)


def title(case: Case | Change) -> str:
    return f"{case.kind}: {case.title}".replace(" ", "_")


# --- what is taken and what is not ----------------------------------------------------------------


@pytest.mark.parametrize("case", TAKEN, ids=title)
def test_a_valid_object_is_taken(cluster: Cluster, case: Case) -> None:
    taken = try_out(cluster, case.kind, case.spec, case.name)
    assert taken["metadata"]["name"] == case.name


@pytest.mark.parametrize("case", REFUSED, ids=title)
def test_an_invalid_object_is_refused_with_a_reason(cluster: Cluster, case: Case) -> None:
    with pytest.raises(Refused) as refused:
        try_out(cluster, case.kind, case.spec, case.name)
    assert refused.value.status in (400, 422)
    assert case.says in plain(refused.value)


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Any:
    """A namespace for the objects of many tests, each with a name of its own."""
    with cluster.namespace() as name:
        yield name


@pytest.mark.parametrize("case", CHANGES, ids=title)
def test_an_object_that_exists_can_be_changed_only_so_far(
    cluster: Cluster, shared: str, case: Change
) -> None:
    name = f"demo{next(NUMBERS)}"
    create(cluster, shared, case.kind, case.before, name)
    where = path(shared, case.kind, name, "?dryRun=All")
    if not case.says:
        merge(cluster, where, {"spec": case.change})
        return
    with pytest.raises(Refused) as refused:
        merge(cluster, where, {"spec": case.change})
    assert refused.value.status in (403, 422)
    assert case.says in plain(refused.value)


def test_the_example_is_taken_by_kubectl(cluster: Cluster, namespace: str) -> None:
    example = ROOT / "examples" / "quickstart.yaml"
    done = cluster.kubectl("apply", f"--filename={example}", f"--namespace={namespace}")
    assert done.stdout == "gossipswarm.gossipswarm.io/quickstart created\n"
    assert done.stderr == ""
    again = cluster.kubectl("apply", f"--filename={example}", f"--namespace={namespace}")
    assert again.stdout == "gossipswarm.gossipswarm.io/quickstart unchanged\n"

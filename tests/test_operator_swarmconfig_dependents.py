"""Which SwarmConfigs are looked at when something changes."""

from __future__ import annotations

from typing import Any

import pytest

from gossipswarm_operator.swarmconfig.dependents import Dependents


def config(name: str, *, generation: int = 1, swarm: str = "demo", **more: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": name, "uid": name, "generation": generation}
    sources = [{"configMapRef": {"name": "base"}}, {"secretRef": {"name": "db"}}]
    return {
        "metadata": metadata | more,
        "spec": {"swarmRef": {"name": swarm}, "prefix": name, "valuesFrom": sources},
    }


def config_map(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)}}


def swarm(name: str = "demo", **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": name, "uid": "1", "generation": 1}
    return {"metadata": metadata, "status": status}


A, B = ("shop", "a"), ("shop", "b")


@pytest.fixture
def dependents() -> Dependents:
    made = Dependents()
    assert made.config(config("a"), gone=False) == {A}
    return made


def test_a_new_or_departed_neighbour_concerns_all_of_the_swarm(dependents: Dependents) -> None:
    assert dependents.config(config("b"), gone=False) == {A, B}
    assert dependents.config(config("c", swarm="other"), gone=False) == {("shop", "c")}
    assert dependents.config(config("b"), gone=True) == {A, B}


def test_an_edit_or_a_deletion_concerns_the_object_and_its_status_nobody(
    dependents: Dependents,
) -> None:
    dependents.config(config("b"), gone=False)
    assert dependents.config(config("a") | {"status": {"keys": 1}}, gone=False) == set()
    assert dependents.config(config("a", generation=2), gone=False) == {A}
    going = config("a", generation=2, deletionTimestamp="2024-05-01T12:00:00Z")
    assert dependents.config(going, gone=False) == {A}
    assert dependents.config(going, gone=False) == set()


def test_a_config_map_concerns_those_that_refer_to_it(dependents: Dependents) -> None:
    assert dependents.config_map(config_map("base"), gone=False) == {A}
    assert dependents.config_map(config_map("base"), gone=False) == set()
    assert dependents.config_map(config_map("base", 2), gone=False) == {A}
    assert dependents.config_map(config_map("other"), gone=False) == set()
    assert dependents.config_map(config_map("base", 3), gone=True) == {A}
    assert dependents.config_map(config_map("base", 4), gone=False) == {A}


def test_a_swarm_concerns_its_configs_when_its_agents_change(dependents: Dependents) -> None:
    assert dependents.swarm(swarm(readyReplicas=2), gone=False) == {A}
    assert dependents.swarm(swarm(readyReplicas=2, conditions=[1]), gone=False) == set()
    assert dependents.swarm(swarm(readyReplicas=3), gone=False) == {A}
    assert dependents.swarm(swarm("other"), gone=False) == set()
    assert dependents.swarm(swarm(), gone=True) == {A}

"""Every field that the operator writes into a status is in the definition: the API server drops others without a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipswarm_operator import conditions, status
from gossipswarm_operator.agent_documents import Cut, Partition
from gossipswarm_operator.failures import Failure
from gossipswarm_operator.partition import model as partition_model
from gossipswarm_operator.partition import planning
from gossipswarm_operator.partition import status as partition_status
from gossipswarm_operator.partition.observed import Memory
from gossipswarm_operator.partition.observed import Observed as PartitionObserved
from gossipswarm_operator.swarmconfig import status as config_status
from gossipswarm_operator.swarmconfig import trial
from gossipswarm_operator.swarmconfig.status import Drift, Spread
from gossipswarm_operator.swarmconfig.trial import CanaryAgent, RolloutPolicy
from operator_world import START, World, ready_world, swarm_source

ROOT = Path(__file__).parent.parent
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": float,
}
Json = dict[str, Any]


def schema(kind: str) -> Json:
    text = (ROOT / "crds" / f"gossipswarm.io_{kind}.yaml").read_text("utf-8")
    (version,) = yaml.safe_load(text)["spec"]["versions"]
    found: Json = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    return found


def wrong(value: Any, node: Json, path: str = "status") -> Iterator[str]:
    """What the API server would drop or refuse of a value."""
    if not isinstance(value, TYPES[node["type"]]) or (
        isinstance(value, bool) and node["type"] != "boolean"
    ):
        yield f"{path}: {value!r} is no {node['type']}"
        return
    if "enum" in node and value not in node["enum"]:
        yield f"{path}: {value!r} is none of {node['enum']}"
    if isinstance(value, dict):
        known = node.get("properties", {})
        yield from (
            f"{path}: {name} is missing" for name in node.get("required", ()) if name not in value
        )
        for name, below in value.items():
            if name in known:
                yield from wrong(below, known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is not in the definition"
    elif isinstance(value, list):
        if len(value) > node.get("maxItems", len(value)):
            yield f"{path}: {len(value)} entries"
        for below in value:
            yield from wrong(below, node["items"], f"{path}[]")
    elif isinstance(value, str) and not (
        node.get("minLength", 0) <= len(value) <= node.get("maxLength", len(value))
    ):
        yield f"{path}: {len(value)} characters"


def written(value: Any, path: str = "status") -> Iterator[str]:
    """Every field there is in a value."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{path}.{name}"
            yield from written(below, f"{path}.{name}")
    elif isinstance(value, list):
        for below in value:
            yield from written(below, f"{path}[]")


def defined(node: Json, path: str = "status") -> Iterator[str]:
    """Every field there may be."""
    for name, below in node.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from defined(below, f"{path}.{name}")
    if "items" in node:
        yield from defined(node["items"], f"{path}[]")


def present(value: Any) -> Any:
    """A merge patch as it is stored: null takes a field away."""
    if isinstance(value, dict):
        return {name: present(below) for name, below in value.items() if below is not None}
    return [present(below) for below in value] if isinstance(value, list) else value


# --- GossipSwarm ----------------------------------------------------------------------------------


def lived(world: World, rounds: int) -> Iterator[Json]:
    for _ in range(rounds):
        world.reconcile()
        yield world.source["status"]


def cut_apart(world: World) -> None:
    world.groups = [["eu-west"], ["us-east"]]


def swarm_statuses() -> Iterator[Json]:
    """What is said of swarms through their lives."""
    yield from lived(World(swarm_source()), 8)
    for change in (
        {"replicasPerRegion": 1},
        {"regions": [{"name": "us-east"}]},
        {"image": {"tag": "2.0.0"}},
        {"encryption": {"rotation": {"generation": 1}}},
        {"reconciliation": "Paused"},
        {"networkPolicy": {"mode": "Disabled"}},
        {"gossip": {"fanout": 5}},
    ):
        world = ready_world()
        world.change(**change)
        yield from lived(world, 8)
    for harm in (
        lambda world: setattr(world, "unequal", True),
        lambda world: next(iter(world.agents.values())).__setattr__("broken", True),
        cut_apart,
        lambda world: world.objects.pop(("Secret", "demo-keyring")),
    ):
        world = ready_world()
        harm(world)
        yield from lived(world, 3)
    yield from lived(World(swarm_source(encryption={"mode": "Disabled"})), 3)
    world = ready_world()
    failure = Failure("QuotaExceeded", "no more services", "refused")
    yield status.status(world.swarm, world.observe(), world.plan(), [failure], world.now)
    yield status.refused(world.source, "spec.regions: none", world.now)


# --- SwarmConfig ----------------------------------------------------------------------------------


def config_statuses() -> Iterator[Json]:
    """What is said of SwarmConfigs."""
    outcomes = [config_status.blocked("SwarmNotFound", "no", None, agents_asked=False)]
    for spread in (Spread(9, 9), Spread(9, 7, ("a",), ("b",))):
        for drift in (Drift(), Drift(("a", "b")), Drift(("a",), ("a",))):
            said = config_status.drift_of(drift, {}, "v1", START, repaired=True)
            owned = {"a": ("1", "2"), "b": ("3",)}
            outcomes.append(
                config_status.delivered("v1", 3, spread, said, {}, ahead=owned, after={"a": ("2",)})
            )
    policy = RolloutPolicy(regions=("us-east",), soak=60.0, timeout=600.0)
    current = None
    for seconds, rejected in ((0, {}), (1, {}), (2, {}), (3, {"us-east": "it crashes"})):
        agents = [CanaryAgent("a", "us-east", ready=True, holds=seconds > 1)]
        now = START + timedelta(seconds=seconds)
        current = trial.step(policy, current, "v2", 1, agents, rejected, now).trial
        outcomes.append(config_status.blocked(trial.IN_PROGRESS, "goes on", current))
    for outcome in outcomes:
        yield config_status.patch({}, outcome, generation=3, now=START)


# --- SwarmPartition -------------------------------------------------------------------------------


def partition_statuses() -> Iterator[Json]:
    """What is said of SwarmPartitions, from one that cannot be read to one that is over."""
    world = ready_world()
    source: Json = {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "SwarmPartition",
        "metadata": {"name": "cut", "namespace": "prod", "uid": "uid-cut", "generation": 1},
        "spec": {"swarmRef": {"name": "demo"}, "groups": [["us-east"]], "duration": "5m"},
    }

    def look(**more: Any) -> PartitionObserved:
        seen = world.observe()
        found = partition_model.parse(source)
        return PartitionObserved(
            "demo", (found,), swarm=world.swarm, pods=seen.pods, agents=seen.agents, **more
        )

    def said(seen: PartitionObserved, *failures: Failure) -> Json:
        made = planning.plan(seen, Memory(), START)
        return partition_status.status(seen.partitions[0], seen, made, failures, START)

    def stored(one: Json) -> Json:
        source["status"] = {**source.get("status", {}), **one}
        return one

    yield partition_status.invalid(source, "spec.groups: none", START)
    unknown = PartitionObserved("demo", (partition_model.parse(source),))
    yield said(unknown)
    yield stored(partition_status.begun(look().partitions[0], START, START))
    yield stored(said(look()))
    yield said(look(), Failure("Forbidden", "may not", "refused"))
    cut = Cut("eu-west", "us-east", "", 300.0)
    views = {
        name: Partition("partitioned", [["eu-west"], ["us-east"]], [cut]) for name in world.agents
    }
    yield said(look(views=views))
    yield partition_status.given_up(look().partitions[0], "NotEnforced", "it is open", START)
    yield stored(partition_status.handed_over(look().partitions[0], "it is open", START))
    yield stored(said(look()))
    over = START + timedelta(minutes=5)
    yield stored(partition_status.finished(look().partitions[0], "Expired", "it ended", over, over))
    for seen in (look(views=views), look()):
        made = planning.plan(seen, Memory(), over)
        yield partition_status.merging(seen.partitions[0], seen, made, over)


@pytest.mark.parametrize(
    ("kind", "statuses", "types"),
    [
        ("gossipswarms", swarm_statuses, conditions.SWARM_CONDITIONS),
        ("swarmconfigs", config_statuses, conditions.CONFIG_CONDITIONS),
        ("swarmpartitions", partition_statuses, conditions.PARTITION_CONDITIONS),
    ],
)
def test_what_is_written_is_defined_and_what_is_defined_is_written(
    kind: str, statuses: Any, types: Iterable[str]
):
    found = [present(one) for one in statuses()]
    assert len(found) > 5
    for one in found:
        assert list(wrong(one, schema(kind))) == []
        assert [condition["type"] for condition in one["conditions"]] == list(types)
    everything = {field for one in found for field in written(one)}
    assert everything == set(defined(schema(kind)))


def test_a_field_that_is_not_defined_would_be_found():
    body = {
        "observedGeneration": "1",
        "surprise": 1,
        "conditions": [{"type": "Ready", "status": "Yes"}],
    }
    found = list(wrong(body, schema("gossipswarms")))
    assert "status.surprise is not in the definition" in found
    assert "status.observedGeneration: '1' is no integer" in found
    assert any("'Yes' is none of" in line for line in found)
    assert any("lastTransitionTime is missing" in line for line in found)

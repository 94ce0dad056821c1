"""What the operator decides to do, in a cluster in miniature."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_operator import names
from gossipswarm_operator.actions import Apply, ChangeSettings, Delete, Drain, ResizeClaim
from gossipswarm_operator.builders import HOLD
from operator_world import OperatorStopped, World, ready_world, swarm_source

ONE_OF_EACH = ["ServiceAccount", "Secret", "ConfigMap", "Service"]


def applied(world: World) -> list[str]:
    return [
        f"{action.why} {action.body['kind']} {action.body['metadata']['name']}"
        for action in world.actions
        if isinstance(action, Apply)
    ]


def stateful_set(world: World, region: str) -> dict[str, Any]:
    return world.objects["StatefulSet", f"demo-{region}"]


def pods_of(world: World, region: str) -> list[str]:
    return sorted(name for name in world.agents if name.startswith(f"demo-{region}-"))


def condition(world: World, kind: str) -> tuple[str, str]:
    found = next(c for c in world.source["status"]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def test_a_swarm_of_two_lines_becomes_everything_it_needs():
    world = World(swarm_source())
    world.settle()
    kinds = sorted(kind for kind, _ in world.objects)
    per_region = ["NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"]
    assert kinds == sorted([*ONE_OF_EACH, "Secret", *per_region, *per_region])
    assert len(world.agents) == 6
    assert condition(world, "Ready") == ("True", "AgentsReady")
    assert condition(world, "Converged") == ("True", "StatesEqual")
    assert condition(world, "Progressing") == ("False", "UpToDate")
    assert condition(world, "KeyringInSync") == ("True", "InSync")


def test_a_swarm_as_wanted_is_left_alone():
    world = ready_world()
    assert world.plan().settled
    assert world.plan().actions == ()


@pytest.mark.parametrize("identity", sorted(ready_world().objects))
def test_an_object_that_was_deleted_is_made_again(identity):
    world = ready_world()
    del world.objects[identity]
    world.settle()
    assert identity in world.objects
    assert f"Created {identity[0]} {identity[1]}" in applied(world) or identity[0] == "Secret"


def test_somebody_elses_change_of_our_field_is_undone_and_named():
    world = ready_world()
    stateful_set(world, "us-east")["spec"]["replicas"] = 7
    actions = world.plan().actions
    # More than wanted, so they hand over first: nobody is simply cut off.
    assert [type(action) for action in actions] == [Apply]
    world.objects["Service", "demo"]["spec"]["ports"][0]["port"] = 80
    action = next(a for a in world.plan().actions if a.body["kind"] == "Service")
    assert (action.why, action.field) == ("Repaired", "spec.ports[7601,TCP]")


def test_fields_that_others_add_are_theirs():
    world = ready_world()
    service = world.objects["Service", "demo"]
    service["metadata"]["annotations"]["example.com/mine"] = "yes"
    service["spec"]["sessionAffinity"] = "None"
    assert world.plan().settled


def test_an_object_of_somebody_else_is_refused_and_the_rest_goes_on():
    world = World(swarm_source())
    world.objects["StatefulSet", "demo-us-east"] = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "demo-us-east",
            "uid": "theirs",
            "annotations": {"meta.helm.sh/release-name": "database"},
            "generation": 1,
        },
        "spec": {"replicas": 9, "template": {"metadata": {"labels": {}}}},
        "status": {},
    }
    before = copy.deepcopy(world.objects["StatefulSet", "demo-us-east"])
    world.controllers = lambda: None  # type: ignore[method-assign]
    for _ in range(3):
        made = world.reconcile()
    assert world.objects["StatefulSet", "demo-us-east"] == before
    assert ("StatefulSet", "demo-eu-west") in world.objects
    (wait,) = (wait for wait in made.waits if wait.reason == "NameTaken")
    assert wait.blocked
    assert "Helm release database" in wait.message
    assert condition(world, "Progressing") == ("False", "NameTaken")


def test_parameters_of_the_spec_reach_running_agents_without_a_restart():
    world = ready_world()
    revision = {a.pod.revision for a in world.agents.values()}
    world.change(gossip={"fanout": 5, "antiEntropyInterval": "30s"})
    world.settle()
    assert world.settings == {"fanout": 5, "anti_entropy_interval": 30_000}
    assert {a.pod.revision for a in world.agents.values()} == revision
    assert [a.why for a in world.actions if isinstance(a, Apply)] == ["Updated"]


def test_a_parameter_taken_out_of_the_spec_goes_back_to_its_default():
    world = ready_world(gossip={"fanout": 5})
    world.change(gossip={})
    world.settle()
    assert world.settings == {"fanout": 3}


def test_a_parameter_that_the_spec_never_named_may_be_changed_live():
    world = ready_world()
    world.settings["degraded_mode"] = True
    assert world.plan().settled


def test_a_parameter_of_the_spec_that_was_changed_live_is_set_again():
    world = ready_world(gossip={"fanout": 5})
    world.settings["fanout"] = 2
    world.settle()
    assert world.settings["fanout"] == 5
    assert [type(a) for a in world.actions] == [ChangeSettings]


def test_more_agents_are_declared_before_they_are_there():
    world = ready_world()
    world.change(replicasPerRegion=5)
    world.settle()
    assert len(world.agents) == 10
    assert "Updated ConfigMap demo-config" in applied(world)
    kinds = [a.body["kind"] for a in world.actions if isinstance(a, Apply)]
    assert kinds.index("ConfigMap") < kinds.index("StatefulSet")


def test_fewer_agents_only_after_they_handed_over():
    world = ready_world()
    world.change(replicasPerRegion=1)
    world.settle()
    assert len(world.agents) == 2
    drained = {action.agent for action in world.actions if isinstance(action, Drain)}
    assert drained == {f"demo-{r}-{n}" for r in ("us-east", "eu-west") for n in (1, 2)}
    config = world.objects["ConfigMap", "demo-config"]["data"]["agent.yaml"]
    assert "demo-us-east-1" not in config


def test_a_smaller_swarm_is_not_done_before_its_agents_are_told_to_go(monkeypatch):
    world = ready_world(replicasPerRegion=2)
    world.change(replicasPerRegion=1)
    with monkeypatch.context() as late:
        late.setattr(world, "controllers", lambda: None)
        for _ in range(3):
            made = world.reconcile()
        assert made.actions == ()
        assert [wait.reason for wait in made.waits] == ["Leaving", "Leaving"]
        assert "demo-us-east-1" in made.waits[0].message
    world.settle()
    assert sorted(world.agents) == ["demo-eu-west-0", "demo-us-east-0"]


def test_a_region_is_removed_after_its_agents_handed_over():
    world = ready_world()
    world.change(regions=[{"name": "us-east"}])
    world.settle()
    assert not pods_of(world, "eu-west")
    assert not [name for _, name in world.objects if "eu-west" in name]
    assert sum(isinstance(action, Drain) for action in world.actions) == 3
    order = [a.kind for a in world.actions if isinstance(a, Delete)]
    assert order[0] == "StatefulSet"


def test_to_no_agents_at_all_and_back():
    world = ready_world()
    world.change(replicasPerRegion=0)
    world.settle()
    assert world.agents == {}
    assert condition(world, "Available") == ("False", "NoAgents")
    world.change(replicasPerRegion=1)
    world.settle()
    assert condition(world, "Ready") == ("True", "AgentsReady")


def test_a_swarm_of_one_agent_waits_for_nobody():
    world = ready_world(regions=[{"name": "us-east", "replicas": 1}])
    assert "seeds: []" in world.objects["ConfigMap", "demo-config"]["data"]["agent.yaml"]


def test_a_paused_swarm_is_only_looked_at():
    world = ready_world()
    world.change(reconciliation="Paused", replicasPerRegion=1)
    stateful_set(world, "us-east")["spec"]["replicas"] = 3
    del world.objects["Service", "demo"]
    for _ in range(3):
        world.reconcile()
    assert world.actions == []
    assert condition(world, "Paused")[0] == "True"
    assert condition(world, "Progressing") == ("False", "Paused")
    world.change(reconciliation="Active")
    world.settle()
    assert len(world.agents) == 2
    assert ("Service", "demo") in world.objects


def test_volumes_grow_first_and_then_the_stateful_set_is_exchanged_under_its_pods():
    world = ready_world()
    before = {name: agent.pod.uid for name, agent in world.agents.items()}
    world.change(storage={"size": "2Gi"})
    world.settle()
    assert {c["spec"]["resources"]["requests"]["storage"] for c in world.claims.values()} == {"2Gi"}
    deleted = [a for a in world.actions if isinstance(a, Delete)]
    assert {(a.kind, a.propagation) for a in deleted} == {("StatefulSet", "Orphan")}
    assert len(deleted) == 2
    assert sum(isinstance(a, ResizeClaim) for a in world.actions) == 6
    assert {name: agent.pod.uid for name, agent in world.agents.items()} == before


def test_volumes_that_would_shrink_are_refused_with_a_reason():
    world = ready_world(storage={"size": "2Gi"})
    world.change(storage={"size": "1Gi"})
    world.reconcile()
    world.reconcile()
    assert condition(world, "Progressing") == ("False", "StorageCannotShrink")
    assert world.actions == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"conditions": [{"type": "NodeResizeError", "status": "True", "message": "no room"}]},
            "no room",
        ),
        (
            {"allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}},
            "ControllerResizeInfeasible",
        ),
    ],
)
def test_a_driver_that_cannot_give_the_size_is_quoted_until_it_can(status, said):
    world = ready_world()
    world.change(storage={"size": "2Gi"})
    world.settle()
    claim = world.claims["data-demo-us-east-1"]
    claim["status"] = {**claim.get("status", {}), **status}
    for _ in range(2):
        world.reconcile()
    assert condition(world, "Progressing") == ("False", "VolumeNotGrown")
    told = next(c for c in world.source["status"]["conditions"] if c["type"] == "Progressing")
    assert told["message"] == f"volume claim data-demo-us-east-1: {said}"
    assert condition(world, "Ready")[0] == "True"
    claim["status"] = {}
    world.reconcile()
    assert condition(world, "Progressing") == ("False", "UpToDate")


def test_budgets_and_policies_go_when_they_are_switched_off():
    world = ready_world()
    world.change(pdb={"mode": "Disabled"}, networkPolicy={"mode": "Disabled"})
    world.settle()
    assert not {"PodDisruptionBudget", "NetworkPolicy"} & {kind for kind, _ in world.objects}


SCENARIOS: dict[str, dict[str, Any]] = {
    "more": {"replicasPerRegion": 4},
    "fewer": {"replicasPerRegion": 1},
    "without a region": {"regions": [{"name": "us-east"}]},
    "another image": {"image": {"tag": "2.0.0"}},
    "larger volumes": {"storage": {"size": "2Gi"}},
    "another key": {"encryption": {"rotation": {"generation": 1}}},
    "parameters": {"gossip": {"fanout": 4}},
    "everything": {
        "replicasPerRegion": 2,
        "image": {"tag": "2.0.0"},
        "storage": {"size": "2Gi"},
        "encryption": {"rotation": {"generation": 1}},
        "gossip": {"fanout": 4},
        "regions": [{"name": "eu-west"}, {"name": "ap-south"}],
    },
}


def outcome(world: World) -> dict[str, Any]:
    """What must be the same, however often the operator stopped on the way."""
    ring = len(world.objects["Secret", "demo-keyring"]["data"])
    return {
        "objects": sorted(world.objects),
        "agents": sorted((n, a.pod.image) for n, a in world.agents.items()),
        "settings": world.settings,
        "keys": ring,
        "partitions": {
            name: found["spec"]["updateStrategy"]["rollingUpdate"]["partition"]
            for (kind, name), found in world.objects.items()
            if kind == "StatefulSet"
        },
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_operator_that_stops_after_any_action_is_continued(scenario):
    world = ready_world()
    world.change(**SCENARIOS[scenario])
    world.settle()
    expected, total = outcome(world), len(world.actions)
    assert total > 0
    for steps in range(1, total + 1):
        other = ready_world()
        other.change(**SCENARIOS[scenario])
        other.stop_after = steps
        with pytest.raises(OperatorStopped):
            other.settle()
        other.stop_after = None
        other.settle()
        assert outcome(other) == expected, f"stopped after {steps} of {total}"


@settings(max_examples=60)
@given(st.data())
def test_any_sequence_of_changes_settles_and_nobody_goes_with_what_only_it_held(data):
    world = World(swarm_source())
    regions = ["us-east", "eu-west", "ap-south"]
    for _ in range(data.draw(st.integers(1, 4))):
        for _ in range(data.draw(st.integers(0, 6))):
            world.reconcile()
        chosen = data.draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))
        sizes = {name: data.draw(st.integers(1, 3)) for name in chosen}
        spec = {
            "regions": [{"name": name, "replicas": count} for name, count in sizes.items()],
            "image": {"tag": data.draw(st.sampled_from(["1.0.0", "2.0.0"]))},
            "encryption": {
                "rotation": {"generation": data.draw(st.integers(0, 3))},
            },
        }
        world.change(**spec)
    world.settle(400)
    wanted = {f"demo-{name}-{n}" for name, count in sizes.items() for n in range(count)}
    assert set(world.agents) == wanted
    assert {a.pod.image for a in world.agents.values()} == {
        f"registry.example/gossipswarm-agent:{spec['image']['tag']}"
    }
    assert len(world.objects["Secret", "demo-keyring"]["data"]) == 1
    for (kind, _), found in world.objects.items():
        if kind == "StatefulSet":
            assert found["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": HOLD}
    assert names.config_map("demo") == "demo-config"

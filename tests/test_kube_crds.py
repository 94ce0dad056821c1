"""What a real API server takes, refuses, fills in and shows of our three kinds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from crd_changes import CHANGES
from crd_refused import REFUSED
from crd_specs import Case, Change, config, cut, swarm
from crd_taken import TAKEN
from kube import Cluster, Refused, wait_until

pytestmark = pytest.mark.kube

ROOT = Path(__file__).parent.parent
API = "gossipswarm.io/v1alpha1"
PLURALS = {
    "GossipSwarm": "gossipswarms",
    "SwarmConfig": "swarmconfigs",
    "SwarmPartition": "swarmpartitions",
}
Json = dict[str, Any]
NUMBERS = itertools.count()


def path(namespace: str, kind: str, name: str = "", query: str = "") -> str:
    parts = ["/apis", API, "namespaces", namespace, PLURALS[kind], name]
    return "/".join(part for part in parts if part) + query


def manifest(kind: str, spec: Json, name: str) -> Json:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def create(cluster: Cluster, namespace: str, kind: str, spec: Json, name: str) -> Any:
    query = "?fieldValidation=Strict"
    return cluster.request("POST", path(namespace, kind, query=query), manifest(kind, spec, name))


def try_out(cluster: Cluster, kind: str, spec: Json, name: str) -> Any:
    """What the object would become: nothing is stored."""
    query = "?fieldValidation=Strict&dryRun=All"
    return cluster.request("POST", path("default", kind, query=query), manifest(kind, spec, name))


def merge(cluster: Cluster, where: str, patch: Json) -> Any:
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


def test_two_lines_make_a_swarm_with_everything_filled_in(cluster: Cluster) -> None:
    taken = try_out(cluster, "GossipSwarm", swarm(), "demo")
    assert taken["spec"] == {
        "regions": [{"name": "us-east"}],
        "replicasPerRegion": 3,
        "image": {"pullPolicy": "IfNotPresent"},
        "api": {"service": {"type": "ClusterIP"}},
        "storage": {"type": "Persistent", "size": "1Gi", "retention": "Retain"},
        "update": {"strategy": "RegionByRegion", "timeout": "10m"},
        "encryption": {"mode": "Enabled", "rotation": {"generation": 0}},
        "pdb": {"mode": "Enabled", "maxUnavailable": 1},
        "networkPolicy": {"mode": "Enabled"},
        "podTemplate": {"terminationGracePeriodSeconds": 30},
        "reconciliation": "Active",
    }


def test_parameters_that_are_left_out_stay_out(cluster: Cluster) -> None:
    """What the spec says is kept so by the operator; a default would take away the live change of the rest."""
    taken = try_out(cluster, "GossipSwarm", swarm(gossip={"fanout": 4}), "demo")
    assert taken["spec"]["gossip"] == {"fanout": 4}
    assert {"maxAgents", "durability"}.isdisjoint(taken["spec"])


def test_defaults_of_the_other_kinds(cluster: Cluster) -> None:
    taken = try_out(cluster, "SwarmConfig", config(), "demo")["spec"]
    assert taken["conflictPolicy"] == "Override"
    assert taken["prune"] == "Enabled"
    assert taken["rollout"] == {"timeout": "5m", "soak": "30s"}
    taken = try_out(cluster, "SwarmPartition", cut(), "demo")["spec"]
    assert (taken["transit"], taken["mechanism"], taken["onUnenforced"]) == (
        "Disabled",
        "Auto",
        "Fallback",
    )


def test_values_of_any_shape_come_back_as_they_were(cluster: Cluster) -> None:
    values = {"a": {"b.c": [1, "x", None, {"d": True}], "e": 0.5}, "f": {}}
    taken = try_out(cluster, "SwarmConfig", config(data=values), "demo")
    assert taken["spec"]["data"] == values


# --- what people see ------------------------------------------------------------------------------

CONVERGED = {
    "type": "Converged",
    "status": "True",
    "reason": "SameState",
    "message": "all agents hold the same state",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def set_status(cluster: Cluster, namespace: str, kind: str, name: str, status: Json) -> Any:
    where = path(namespace, kind, name) + "/status"
    return merge(cluster, where, {"status": status})


def table(text: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_kubectl_get_shows_how_a_swarm_is(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, "GossipSwarm", swarm(), "demo")
    status = {
        "regionCount": 3,
        "ready": "9/9",
        "partition": "us-east | us-west,eu-central",
        "version": "1.4.0",
        "convergedAgents": "9/9",
        "settingsVersion": 7,
        "conditions": [CONVERGED],
    }
    set_status(cluster, namespace, "GossipSwarm", "demo", status)
    shown = table(cluster.kubectl("get", "gswarm", "-n", namespace, "-o", "wide").stdout)
    assert shown[0] == [
        *("NAME", "REGIONS", "READY", "CONVERGED", "PARTITION", "VERSION", "AGE"),
        *("AGENTS", "SETTINGS"),
    ]
    assert shown[1][:6] == ["demo", "3", "9/9", "True", "us-east | us-west,eu-central", "1.4.0"]
    assert shown[1][7:] == ["9/9", "7"]
    done = cluster.kubectl(
        "wait", "--for=condition=Converged", "gswarm/demo", "-n", namespace, "--timeout=5s"
    )
    assert "condition met" in done.stdout


def test_kubectl_get_shows_how_configuration_and_cuts_are(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, "SwarmConfig", config(), "app")
    status = {"keys": 12, "convergedAgents": "9/9", "conditions": [CONVERGED]}
    set_status(cluster, namespace, "SwarmConfig", "app", status)
    create(cluster, namespace, "SwarmPartition", cut(duration="5m"), "split")
    status = {
        "groups": "us-east | us-west",
        "remaining": "4m30s",
        "conditions": [{**CONVERGED, "type": "Enforced"}],
    }
    set_status(cluster, namespace, "SwarmPartition", "split", status)
    shown = table(cluster.kubectl("get", "gossip", "-n", namespace).stdout)
    assert shown[0] == ["NAME", "SWARM", "CONVERGED", "KEYS", "AGE"]
    assert shown[1][:4] == ["swarmconfig.gossipswarm.io/app", "demo", "True", "12"]
    assert shown[3] == ["NAME", "SWARM", "GROUPS", "ENFORCED", "REMAINING"]
    assert shown[4][1:] == ["demo", "us-east | us-west", "True", "4m30s"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("gossipswarm.spec.gossip.fanout", "Peers that an agent contacts in a round"),
        ("gossipswarm.spec.regions", "A region that is removed from the list is drained first"),
        ("swarmconfig", "Converged is the receipt"),
        ("swarmpartition.spec.mechanism", "NetworkPolicy if the network enforces it"),
    ],
)
def test_kubectl_explain_says_what_a_field_means(cluster: Cluster, field: str, words: str) -> None:
    assert words in " ".join(cluster.kubectl("explain", field).stdout.split())


# --- subresources and owners of fields ------------------------------------------------------------


def test_kubectl_scale_changes_the_replicas_of_every_region(
    cluster: Cluster, namespace: str
) -> None:
    create(cluster, namespace, "GossipSwarm", swarm(), "demo")
    selector = "gossipswarm.io/swarm=demo,gossipswarm.io/role=agent"
    status = {"replicas": 3, "selector": selector}
    set_status(cluster, namespace, "GossipSwarm", "demo", status)
    cluster.kubectl("scale", "gswarm/demo", "--replicas=5", "-n", namespace)
    scale = cluster.request("GET", path(namespace, "GossipSwarm", "demo") + "/scale")
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == {"replicas": 3, "selector": selector}
    swarm_now = cluster.request("GET", path(namespace, "GossipSwarm", "demo"))
    assert swarm_now["spec"]["replicasPerRegion"] == 5
    refused = cluster.kubectl(
        "scale", "gswarm/demo", "--replicas=2000", "-n", namespace, code=1
    ).stderr
    assert "should be less than or equal to 1000" in refused


def test_status_and_spec_are_written_apart(cluster: Cluster, namespace: str) -> None:
    made = create(cluster, namespace, "GossipSwarm", swarm(), "demo")
    where = path(namespace, "GossipSwarm", "demo")
    patch = {"spec": {"replicasPerRegion": 9}, "status": {"replicas": 9}}
    by_status = merge(cluster, where + "/status", patch)
    assert by_status["status"] == {"replicas": 9}
    assert by_status["spec"]["replicasPerRegion"] == 3
    assert by_status["metadata"]["generation"] == made["metadata"]["generation"] == 1
    by_spec = merge(cluster, where, {**patch, "status": {"replicas": 1}})
    assert by_spec["status"] == {"replicas": 9}
    assert by_spec["metadata"]["generation"] == 2


def test_a_condition_must_be_whole(cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, "GossipSwarm", swarm(), "demo")
    for broken in ({**CONVERGED, "status": "Yes"}, {"type": "Ready", "status": "True"}):
        with pytest.raises(Refused):
            set_status(cluster, namespace, "GossipSwarm", "demo", {"conditions": [broken]})


def test_two_appliers_share_the_regions_of_a_swarm(cluster: Cluster, namespace: str) -> None:
    """Regions are a map by name: a team may own the one that it applies, and no other."""
    for manager, region in (("east", "us-east"), ("west", "us-west")):
        body = manifest("GossipSwarm", {"regions": [{"name": region, "replicas": 2}]}, "demo")
        cluster.request(
            "PATCH",
            path(namespace, "GossipSwarm", "demo", f"?fieldManager={manager}"),
            body,
            "application/apply-patch+yaml",
        )
    swarm_now = cluster.request("GET", path(namespace, "GossipSwarm", "demo"))
    assert [region["name"] for region in swarm_now["spec"]["regions"]] == ["us-east", "us-west"]


def test_the_definitions_are_structural_and_applied_again_without_a_change(
    cluster: Cluster,
) -> None:
    done = cluster.kubectl("diff", "--server-side", f"--filename={ROOT / 'crds'}")
    assert done.stdout == ""
    for name in PLURALS.values():
        crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.gossipswarm.io"
        conditions = cluster.request("GET", crd)["status"]["conditions"]
        states = {condition["type"]: condition["status"] for condition in conditions}
        assert states == {"NamesAccepted": "True", "Established": "True"}


# --- the API server of the tests itself -----------------------------------------------------------


def test_a_service_account_may_do_only_what_it_was_given(cluster: Cluster, namespace: str) -> None:
    account = cluster.as_service_account(namespace, "default")
    may = ("auth", "can-i", "list", "gossipswarms", "-n", namespace)
    assert cluster.kubectl(*may, kubeconfig=account, code=1).stdout == "no\n"
    cluster.kubectl(
        "create", "rolebinding", "view", "--clusterrole=admin", "-n", namespace,
        f"--serviceaccount={namespace}:default",
    )  # fmt: skip
    may = ("auth", "can-i", "list", "secrets", "-n", namespace)
    wait_until(
        lambda: cluster.kubectl(*may, kubeconfig=account, code=None).stdout == "yes\n",
        60,
        "the account's rights count",
    )
    who = cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=account).stdout
    assert f"system:serviceaccount:{namespace}:default" in who


def test_children_of_a_swarm_go_with_it(cluster: Cluster, namespace: str) -> None:
    made = create(cluster, namespace, "GossipSwarm", swarm(), "demo")
    owner = {
        "apiVersion": API,
        "kind": "GossipSwarm",
        "name": "demo",
        "uid": made["metadata"]["uid"],
    }
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "demo-config", "ownerReferences": [owner]},
    }
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.request("POST", maps, child)
    cluster.request("DELETE", path(namespace, "GossipSwarm", "demo"))

    def gone() -> bool:
        found = cluster.request("GET", maps)["items"]
        return "demo-config" not in {item["metadata"]["name"] for item in found}

    wait_until(gone, 180, "the ConfigMap of a deleted swarm is gone")

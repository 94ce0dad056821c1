"""What the chart makes of its values."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml
from charts import generate

from rendered_chart import needs_helm, objects, of_kind, only

CARRIED = generate.copies()
SECRET_VERBS = {"get", "create", "patch", "delete", "update"}
"""What may be done to Secrets: nothing that lists what is there."""


@pytest.mark.parametrize("path", sorted(CARRIED), ids=lambda path: path.name)
def test_what_the_chart_carries_is_what_the_project_has(path):
    assert path.exists(), "run `make manifests`"
    assert path.read_text("utf-8") == CARRIED[path], "run `make manifests`"


def test_the_chart_carries_no_definition_that_the_project_has_not():
    assert not generate.strays(), "run `make manifests`"


def test_the_table_of_values_is_current():
    page = generate.CHART / "README.md"
    assert page.read_text("utf-8") == generate.readme(page.read_text("utf-8")), (
        "run `make manifests`"
    )


@needs_helm
def test_rendered_files_are_current():
    for path, text in generate.rendered_files().items():
        assert path.exists(), f"{path}: run `make manifests`"
        assert path.read_text("utf-8") == text, f"{path}: run `make manifests`"


@needs_helm
@pytest.mark.parametrize(
    "path", sorted(generate.GOLDEN.glob("*.values.yaml")), ids=lambda path: path.name.split(".")[0]
)
def test_lint_finds_nothing(path):
    command = [generate.helm_path(), "lint", "--strict", generate.CHART, "--values", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def told(values: dict[str, Any]) -> dict[str, str]:
    """What the operator is told of ports."""
    (container,) = only(objects(values), "Deployment")["spec"]["template"]["spec"]["containers"]
    prefix = "GOSSIPSWARM_OPERATOR_POLICY_"
    return {
        variable["name"].removeprefix(prefix): variable["value"]
        for variable in container["env"]
        if variable["name"].startswith(prefix)
    }


@needs_helm
def test_ports_are_listed_where_the_network_is_said_not_to_know_ranges():
    assert told({}) == {}
    explicit = {"networkPolicies": {"ports": "Explicit"}}
    assert told(explicit) == {
        "PORTS": "explicit",
        "EXPLICIT_PORTS": "53/UDP,53/TCP,80/TCP,443/TCP",
    }
    explicit["networkPolicies"]["explicit"] = []
    assert told(explicit)["EXPLICIT_PORTS"] == ""


@needs_helm
@pytest.mark.parametrize("keep", [True, False])
def test_definitions_come_out_as_they_went_in(keep):
    rendered = {
        each["metadata"]["name"]: each
        for each in of_kind(objects({"crds": {"keep": keep}}), "CustomResourceDefinition")
    }
    sources = [
        yaml.safe_load(path.read_text("utf-8")) for path in (generate.ROOT / "crds").glob("*.yaml")
    ]
    assert rendered.keys() == {each["metadata"]["name"] for each in sources}
    for source in sources:
        found = rendered[source["metadata"]["name"]]
        assert found["spec"] == source["spec"]
        annotations = dict(found["metadata"].get("annotations", {}))
        assert annotations.pop("helm.sh/resource-policy", None) == ("keep" if keep else None)
        assert annotations == source["metadata"].get("annotations", {})


@needs_helm
def test_definitions_can_be_left_to_somebody_else():
    assert not of_kind(objects({"crds": {"enabled": False}}), "CustomResourceDefinition")


def _rules(role):
    for rule in role["rules"]:
        for resource in rule["resources"]:
            yield resource, set(rule["verbs"])


@needs_helm
def test_a_cluster_wide_install_touches_secrets_only_where_swarms_live():
    found = objects({"swarmNamespaces": ["team-a"]})
    cluster = only(found, "ClusterRole", "gossipswarm-operator")
    assert "secrets" not in dict(_rules(cluster))
    secrets = only(found, "ClusterRole", "gossipswarm-operator-secrets")
    assert {resource for resource, _ in _rules(secrets)} == {"secrets"}
    assert all(verbs <= SECRET_VERBS for _, verbs in _rules(secrets))
    bound = [each for each in found if each.get("roleRef", {}).get("name", "").endswith("-secrets")]
    assert {(each["kind"], each["metadata"]["namespace"]) for each in bound} == {
        ("RoleBinding", "team-a"),
        ("RoleBinding", "gossipswarm-system"),
    }


@needs_helm
def test_every_namespace_may_be_meant_on_purpose():
    found = objects({"swarmNamespaces": ["*"]})
    assert only(found, "ClusterRoleBinding", "gossipswarm-operator-secrets")


@needs_helm
def test_a_namespaced_install_has_no_permission_elsewhere():
    found = objects({"watchNamespaces": ["team-a", "team-b"]})
    assert not of_kind(found, "ClusterRole")
    assert not of_kind(found, "ClusterRoleBinding")
    places = {each["metadata"]["namespace"] for each in of_kind(found, "RoleBinding")}
    assert places == {"team-a", "team-b", "gossipswarm-system"}
    own = [
        each
        for each in of_kind(found, "Role")
        if each["metadata"]["namespace"] == "gossipswarm-system"
    ]
    assert {resource for role in own for resource, _ in _rules(role)} <= {"leases", "events"}


@needs_helm
def test_no_rule_is_a_wildcard():
    for role in of_kind(objects(), "ClusterRole") + of_kind(objects(), "Role"):
        if role["metadata"]["name"].endswith("-view"):
            continue  # whoever may view a namespace may view all our kinds in it, the coming ones too
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], role[
                "metadata"
            ]


@needs_helm
def test_what_runs_in_the_cluster_is_locked_down():
    found = objects({"swarm": {"create": True}})
    pods = [each["spec"] for each in of_kind(found, "Pod")]
    pods += [
        each["spec"]["template"]["spec"] for each in found if each["kind"] in ("Deployment", "Job")
    ]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


@needs_helm
@pytest.mark.parametrize("replicas", [0, 1])
def test_one_replica_has_no_budget_that_would_hold_up_a_drain(replicas):
    assert not of_kind(objects({"replicas": replicas}), "PodDisruptionBudget")


@needs_helm
def test_the_first_swarm_is_applied_by_a_job_and_is_no_object_of_the_release():
    found = objects({"swarm": {"create": True, "name": "first"}})
    assert not of_kind(found, "GossipSwarm")
    (container,) = only(found, "Job")["spec"]["template"]["spec"]["containers"]
    swarm = json.loads(container["env"][0]["value"])
    assert swarm["metadata"] == {"name": "first", "namespace": "gossipswarm-system"}
    assert [region["name"] for region in swarm["spec"]["regions"]] == [
        "us-east",
        "us-west",
        "eu-central",
    ]
    verbs = [
        (rule.get("resourceNames"), rule["verbs"])
        for rule in only(found, "Role", "gossipswarm-swarm")["rules"]
    ]
    assert verbs == [(None, ["create"]), (["first"], ["get", "patch"])]


@needs_helm
def test_a_swarm_is_tested_where_it_lives_and_with_its_own_token():
    found = objects({"test": {"swarm": {"namespace": "team-a", "name": "prod"}}})
    pod = only(found, "Pod", "gossipswarm-test-swarm")
    assert pod["metadata"]["namespace"] == "team-a"
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == "prod-tokens"
    assert [each["metadata"]["name"] for each in of_kind(objects(), "Pod")] == [
        "gossipswarm-test-operator"
    ]


@needs_helm
def test_a_monitor_reads_metrics_with_the_swarm_s_read_token():
    swarms = [{"namespace": "team-a", "name": "prod"}]
    found = objects({"metrics": {"podMonitor": {"enabled": True, "swarms": swarms}}})
    monitor = only(found, "PodMonitor")
    assert monitor["metadata"]["namespace"] == "team-a"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "prod-tokens", "key": "read"}
    assert monitor["spec"]["selector"]["matchLabels"] == {
        "gossipswarm.io/swarm": "prod",
        "gossipswarm.io/role": "agent",
    }


@needs_helm
def test_plain_manifests_do_not_speak_of_helm():
    text = generate.plain_manifests()
    kinds = [each["kind"] for each in yaml.safe_load_all(text)]
    assert kinds[0] == "Namespace"
    assert "Pod" not in kinds
    assert "helm.sh" not in text

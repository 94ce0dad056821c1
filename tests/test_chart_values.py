"""Values are checked: what is misspelt or out of range is refused, and the reason names it."""

from __future__ import annotations

import json

import pytest
import yaml
from charts import generate

from rendered_chart import needs_helm, objects, only, refusal

SCHEMA = json.loads((generate.CHART / "values.schema.json").read_text("utf-8"))
VALUES = yaml.safe_load((generate.CHART / "values.yaml").read_text("utf-8"))


@needs_helm
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"metrics": {"podMonitor": {"swarm": []}}}, "swarm"),
        ({"replicas": "2"}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"image": {"repository": "registry/operator:1.0@sha256"}}, "repository"),
        ({"watchNamespaces": ["Team"]}, "watchNamespaces"),
        ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
        ({"swarmNamespaces": ["team-*"]}, "swarmNamespaces"),
        ({"log": {"level": "loud"}}, "level"),
        ({"networkPolicies": {"ports": "Some"}}, "ports"),
        ({"networkPolicies": {"explicit": ["dns"]}}, "explicit"),
        ({"networkPolicies": {"explicit": [f"{n}" for n in range(1, 34)]}}, "explicit"),
        ({"swarm": {"name": "Not A Name"}}, "name"),
        ({"metrics": {"prometheusRule": {"runbookUrl": "runbooks"}}}, "runbookUrl"),
        ({"test": {"swarm": {"namespace": "a"}}}, "name"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values, named):
    assert named in refusal(values)


@needs_helm
def test_a_service_account_that_is_not_made_must_be_named():
    assert "serviceAccount.name" in refusal({"serviceAccount": {"create": False}})


@needs_helm
@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "gossipswarm-operator:0.1.0"),
        ({"tag": "2.0"}, "gossipswarm-operator:2.0"),
        ({"repository": "example.com:5000/a/b", "tag": "1"}, "example.com:5000/a/b:1"),
        ({"tag": "2.0", "digest": f"sha256:{'a' * 64}"}, f"gossipswarm-operator@sha256:{'a' * 64}"),
    ],
)
def test_a_digest_wins_over_a_tag_and_a_tag_over_the_chart_s_version(image, reference):
    deployment = only(objects({"image": image}), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == reference


@needs_helm
@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("gossipswarm", "gossipswarm-operator"),
        ("my-gossipswarm", "my-gossipswarm-operator"),
        ("blue", "blue-gossipswarm-operator"),
    ],
)
def test_names_begin_with_the_release(release, name):
    assert only(objects(release=release), "Deployment")["metadata"]["name"] == name


def _undescribed(schema, where=""):
    for name, described in schema.get("properties", {}).items():
        if not described.get("description"):
            yield f"{where}{name}"
        yield from _undescribed(described, f"{where}{name}.")


def _loose(schema, where="values"):
    if "properties" in schema and schema.get("additionalProperties") is not False:
        yield where
    for name, described in schema.get("properties", {}).items():
        yield from _loose(described, f"{where}.{name}")
        yield from _loose(described.get("items", {}), f"{where}.{name}[]")


def test_every_value_is_described_and_nothing_else_is_allowed():
    assert not list(_undescribed(SCHEMA))
    assert not list(_loose(SCHEMA))


def test_the_schema_and_the_defaults_name_the_same_values():
    assert set(SCHEMA["properties"]) - set(VALUES) == {"global"}
    assert set(VALUES) <= set(SCHEMA["properties"])


def test_the_versions_of_the_chart_and_of_the_program_are_one():
    chart = yaml.safe_load((generate.CHART / "Chart.yaml").read_text("utf-8"))
    project = (generate.ROOT / "pyproject.toml").read_text("utf-8")
    assert chart["version"] == chart["appVersion"]
    assert f'version = "{chart["version"]}"' in project

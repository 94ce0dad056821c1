"""Whether an object is as we want it: our fields, whatever defaults and other people add."""

from __future__ import annotations

from typing import Any

import pytest

from gossipswarm_operator.drift import difference, stamped, template_changes

CONTAINER = {"name": "agent", "image": "a:1", "env": [{"name": "A", "value": "1"}]}


def pod(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{**CONTAINER, **container}]}}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"spec": {"replicas": 3}}, {"spec": {"replicas": 3, "default": True}}),
        (pod(), {"spec": {"containers": [{"name": "sidecar"}, {**CONTAINER, "tty": False}]}}),
        (pod(env=[]), pod()),
        (
            {"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}}},
            {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        ),
        ({"annotations": {}}, {}),
        ({"value": ""}, {}),
        (
            {"ports": [{"port": 1, "protocol": "TCP", "targetPort": "a"}]},
            {"ports": [{"port": 1, "protocol": "TCP", "targetPort": "a", "nodePort": 30000}]},
        ),
    ],
)
def test_as_wanted(wanted, found):
    assert difference(wanted, found) is None


@pytest.mark.parametrize(
    ("wanted", "found", "field"),
    [
        ({"spec": {"replicas": 3}}, {"spec": {"replicas": 4}}, "spec.replicas"),
        ({"spec": {"replicas": 3}}, {}, "spec"),
        (pod(), pod(image="a:2"), "spec.containers[agent].image"),
        (pod(), {"spec": {"containers": []}}, "spec.containers[agent]"),
        (pod(), pod(env=[{"name": "A", "value": "2"}]), "spec.containers[agent].env[A].value"),
        ({"ingress": [{"ports": [1]}]}, {"ingress": [{"ports": [1]}, {}]}, "ingress"),
        ({"drop": ["ALL"]}, {"drop": ["ALL", "X"]}, "drop"),
        ({"automount": False}, {"automount": 0}, "automount"),
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "c": "d"}}, "selector.c"),
        (
            {"ingress": [{"ports": [{"port": 1}]}]},
            {"ingress": [{"ports": [{"port": 1}], "from": []}]},
            "ingress[0].from",
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 1, "protocol": "TCP"}] * 2},
            "ports",
        ),
        (
            {"metadata": {"labels": {"hash": "a"}}, "spec": {"a": 1}},
            {"metadata": {"labels": {"hash": "b"}}, "spec": {"a": 2}},
            "spec.a",
        ),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1"}, "x": 1}, None),
    ],
)
def test_otherwise(wanted, found, field):
    assert difference(wanted, found) == field


def test_the_hash_tells_a_field_that_is_not_wanted_any_more():
    before = stamped({"kind": "Service", "metadata": {"name": "a"}, "spec": {"a": 1, "b": 2}})
    after = stamped({"kind": "Service", "metadata": {"name": "a"}, "spec": {"a": 1}})
    assert difference(after["spec"], before["spec"]) is None
    assert difference(after, before) is not None


def test_a_template_changes_also_when_it_only_loses_a_field():
    def stateful_set(template: dict[str, Any]) -> dict[str, Any]:
        body = {"kind": "StatefulSet", "metadata": {"name": "a"}, "spec": {"template": template}}
        return stamped(body)

    assert not template_changes(stateful_set({"a": 1}), stateful_set({"a": 1}))
    assert template_changes(stateful_set({"a": 1}), stateful_set({"a": 1, "b": 2}))

"""Alerts and the dashboard ask for metrics that exist, and every alert has a runbook."""

from __future__ import annotations

import json
import re

import promql_parser as promql
import pytest
import yaml
from charts import generate

import metric_names
from rendered_chart import needs_helm, objects, only

ALERTS = [
    rule
    for group in yaml.safe_load((generate.CHART / "files" / "alerts.yaml").read_text("utf-8"))[
        "groups"
    ]
    for rule in group["rules"]
]
DASHBOARD = json.loads((generate.CHART / "files" / "dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOKS = generate.ROOT / "docs" / "runbooks"
SECTIONS = ["## What it means", "## What to look at", "## What to do"]
TARGET_LABELS = {"namespace", "pod", "container", "job", "instance", "swarm", "agent_region", "le"}
"""Labels that come with the scrape (see the monitors) or with a histogram."""


def _parse(expression: str):
    return promql.parse(expression.replace("$__rate_interval", "5m"))


def _nodes(node):
    yield node
    for attribute in ("lhs", "rhs", "expr", "vector_selector", "args"):
        child = getattr(node, attribute, None)
        for each in child if isinstance(child, list) else [child]:
            if each is not None:
                yield from _nodes(each)


def _selectors(node):
    return [each for each in _nodes(node) if isinstance(each, promql.VectorSelector)]


def _groupings(node):
    """Labels that each aggregation keeps, and what it aggregates."""
    return [
        (set(each.modifier.labels), _selectors(each.expr))
        for each in _nodes(node)
        if isinstance(each, promql.AggregateExpr) and each.modifier is not None
    ]


def _faults(expression: str) -> list[str]:
    """What is wrong with an expression."""
    known = {**metric_names.collected(), "up": frozenset()}
    parsed = _parse(expression)
    selectors = _selectors(parsed)
    assert selectors, f"{expression} asks for nothing"
    faults = [f"no metric is called {each.name}" for each in selectors if each.name not in known]
    if faults:
        return faults
    for selector in selectors:
        faults += [
            f"{selector.name} has no label {matcher.name}"
            for matcher in selector.matchers.matchers
            if matcher.name not in known[selector.name] | TARGET_LABELS
        ]
    for labels, inner in _groupings(parsed):
        allowed = TARGET_LABELS.union(*(known[each.name] for each in inner))
        faults += [f"nothing in {expression} has a label {label}" for label in labels - allowed]
    return faults


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_exist(rule):
    assert not _faults(rule["expr"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_only_what_its_expression_keeps(rule):
    text = json.dumps(rule["annotations"])
    used = set(re.findall(r"\$labels\.(\w+)", text))
    kept = [labels for labels, _ in _groupings(_parse(rule["expr"]))]
    if kept:
        assert used <= set.intersection(*kept)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook(rule):
    page = (RUNBOOKS / f"{rule['alert']}.md").read_text("utf-8")
    assert page.startswith(f"# {rule['alert']}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_runbook_is_that_of_an_alert_and_is_listed():
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {rule["alert"] for rule in ALERTS}
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", index, re.MULTILINE)
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}
    assert {name: severity for name, _, severity in listed} == severities
    assert all(name == page for name, page, _ in listed)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_metrics_that_exist(panel):
    for target in panel["targets"]:
        assert not _faults(target["expr"])
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        for labels, _ in _groupings(_parse(target["expr"])):
            assert shown <= labels


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@needs_helm
def test_rendered_alerts_link_to_their_runbooks_and_can_be_left_out():
    values = {
        "metrics": {
            "prometheusRule": {
                "enabled": True,
                "runbookUrl": "https://example.com/runbooks/",
                "disabledAlerts": ["GossipSwarmDegraded"],
            },
            "dashboard": {"enabled": True},
        }
    }
    found = objects(values)
    rules = [
        rule for group in only(found, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]
    ]
    assert [each["alert"] for each in rules] == [
        each["alert"] for each in ALERTS if each["alert"] != "GossipSwarmDegraded"
    ]
    for rendered, source in zip(
        rules, (r for r in ALERTS if r["alert"] != "GossipSwarmDegraded"), strict=True
    ):
        annotations = rendered["annotations"]
        assert annotations.pop("runbook_url") == (
            f"https://example.com/runbooks/{source['alert']}.md"
        )
        assert rendered == source
    dashboard = only(found, "ConfigMap", "gossipswarm-dashboard")
    assert json.loads(dashboard["data"]["gossipswarm.json"]) == DASHBOARD

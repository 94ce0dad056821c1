"""The definitions of our kinds as files: complete, described, and in step with the agent's parameters."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from gossipswarm_agent.core.settings import DEFAULTS, Settings
from gossipswarm_operator import conditions, model
from gossipswarm_operator.builders import pod
from gossipswarm_operator.builders.facts import Facts, RegionFacts
from gossipswarm_operator.quantities import milliseconds

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "crds").glob("*.yaml"))
DEFINITIONS = {
    definition["spec"]["names"]["kind"]: definition
    for definition in (yaml.safe_load(path.read_text("utf-8")) for path in FILES)
}
KINDS = sorted(DEFINITIONS)
ALIASES = {"conflict_resolution_prefixes": "conflictPolicies"}
TOP_LEVEL = {"max_agents", "durability"}
PARAMETERS = {each.encode_name: each for each in msgspec.structs.fields(Settings)}
Json = dict[str, Any]


def version(kind: str) -> Json:
    (only,) = DEFINITIONS[kind]["spec"]["versions"]
    return only


def schema(kind: str) -> Json:
    return version(kind)["schema"]["openAPIV3Schema"]


def spec(kind: str) -> Json:
    return schema(kind)["properties"]["spec"]["properties"]


def nodes(node: Json, where: str) -> Iterator[tuple[str, Json]]:
    """Every schema below ``node``, with its path."""
    yield where, node
    for name, below in node.get("properties", {}).items():
        yield from nodes(below, f"{where}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{where}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{where}{{}}")


EVERYTHING = [
    (f"{kind}{where}", node)
    for kind in KINDS
    for where, node in nodes(schema(kind), "")
    if where != ".metadata"
]
SPECS = [(where, node) for where, node in EVERYTHING if ".spec" in where]


# --- conventions ----------------------------------------------------------------------------------


def test_the_kinds_are_those_of_the_files() -> None:
    assert KINDS == ["GossipSwarm", "SwarmConfig", "SwarmPartition"]
    for path in FILES:
        name = yaml.safe_load(path.read_text("utf-8"))["metadata"]["name"]
        plural, _, group = name.partition(".")
        assert path.name == f"{group}_{plural}.yaml"


@pytest.mark.parametrize(
    ("kind", "short"),
    [("GossipSwarm", "gswarm"), ("SwarmConfig", "scfg"), ("SwarmPartition", "spart")],
)
def test_names_and_subresources(kind: str, short: str) -> None:
    definition = DEFINITIONS[kind]["spec"]
    assert definition["names"]["shortNames"] == [short]
    assert definition["names"]["categories"] == ["gossip"]
    assert definition["scope"] == "Namespaced"
    assert version(kind)["name"] == "v1alpha1"
    assert version(kind)["subresources"]["status"] == {}


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("GossipSwarm", ["Regions", "Ready", "Converged", "Partition", "Version", "Age"]),
        ("SwarmConfig", ["Swarm", "Converged", "Keys", "Age"]),
        ("SwarmPartition", ["Swarm", "Groups", "Enforced", "Remaining"]),
    ],
)
def test_columns_are_few_and_lead_to_fields_that_exist(kind: str, columns: list[str]) -> None:
    shown = version(kind)["additionalPrinterColumns"]
    assert [each["name"] for each in shown if not each.get("priority")] == columns
    for column in shown:
        found = schema(kind)["properties"]
        path = re.sub(r"\[\?.*?\]\.", "[].", column["jsonPath"]).strip(".")
        if path.startswith("metadata"):
            continue
        for part in path.split("."):
            node = found[part.removesuffix("[]")]
            found = node.get("items", node).get("properties", {})


def test_every_field_says_what_it_means() -> None:
    mute = [where for where, node in EVERYTHING if not node.get("description")]
    assert mute == []
    endless = [
        where for where, node in EVERYTHING if not node["description"].endswith((".", "..."))
    ]
    assert endless == []


def test_no_field_is_a_float_and_booleans_are_those_of_kubernetes() -> None:
    assert [where for where, node in EVERYTHING if node.get("type") == "number"] == []
    booleans = {where for where, node in EVERYTHING if node.get("type") == "boolean"}
    assert all(
        where.startswith("GossipSwarm.spec.podTemplate.env[].valueFrom") for where in booleans
    )


def test_whatever_a_user_writes_is_bounded() -> None:
    """Also what keeps the estimated cost of the CEL rules inside its budget."""
    unbounded = [
        where
        for where, node in SPECS
        if (node.get("type") == "string" and "enum" not in node and "maxLength" not in node)
        or (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert unbounded == []


def test_every_list_says_how_it_is_merged() -> None:
    for where, node in EVERYTHING:
        if node.get("type") == "array":
            assert node.get("x-kubernetes-list-type") in ("map", "set", "atomic"), where
        if node.get("x-kubernetes-list-type") == "map":
            keys = node["x-kubernetes-list-map-keys"]
            assert set(keys) <= set(node["items"].get("required", [])), where


def test_every_rule_has_words_for_people() -> None:
    """Kubernetes falls back to ``message`` where a value has a line break."""
    for where, node in EVERYTHING:
        for rule in node.get("x-kubernetes-validations", []):
            assert rule.get("message"), (where, rule["rule"])


def test_words_are_pascal_case() -> None:
    words = {word for _, node in SPECS for word in node.get("enum", ())}
    assert {
        word for word in words if not re.fullmatch(r"([A-Z][a-z0-9]*)+|ClusterIP", word)
    } == set()


def test_defaults_are_among_the_words() -> None:
    for where, node in EVERYTHING:
        if "enum" in node and "default" in node:
            assert node["default"] in node["enum"], where


def test_rows_of_conditions_are_the_same_in_all_kinds() -> None:
    rows = [schema(kind)["properties"]["status"]["properties"]["conditions"] for kind in KINDS]
    assert rows[0] == rows[1] == rows[2]
    assert len(conditions.SWARM_CONDITIONS) <= rows[0]["maxItems"]
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    (written,) = conditions.merge(("Ready",), None, [], generation=1, now=now)
    assert set(written) == set(rows[0]["items"]["properties"])


# --- in step with the agent -----------------------------------------------------------------------


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def pascal(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("-"))


def field(name: str) -> Json:
    """The schema of a parameter."""
    if name in TOP_LEVEL:
        return spec("GossipSwarm")[camel(name)]
    return spec("GossipSwarm")["gossip"]["properties"][ALIASES.get(name, camel(name))]


def test_every_parameter_has_its_field_and_every_field_its_parameter() -> None:
    fields = set(spec("GossipSwarm")["gossip"]["properties"])
    assert fields == {
        ALIASES.get(name, camel(name)) for name in PARAMETERS if name not in TOP_LEVEL
    }
    assert {camel(name) for name in TOP_LEVEL} <= set(spec("GossipSwarm"))


def described(name: str) -> Json:
    """A parameter as the agent's model describes it."""
    (reference,), components = msgspec.json.schema_components([Settings])
    return components[reference["$ref"].rpartition("/")[2]]["properties"][name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_field_has_the_range_or_the_words_of_its_parameter(name: str) -> None:
    agent, ours = described(name), field(name)
    match agent.get("type"):
        case "integer" if ours["type"] == "integer":
            assert (ours["minimum"], ours["maximum"]) == (agent["minimum"], agent["maximum"])
        case "integer":
            low, high = limits(ours)
            assert milliseconds(low) == agent["minimum"]
            assert milliseconds(high) == agent["maximum"]
            assert f"from {low} to {high}" in ours["description"]
        case "number":
            low, high = limits(ours)
            assert (float(low), float(high)) == (agent["minimum"], agent["maximum"])
            assert f"from {agent['minimum']:g} to {agent['maximum']:g}" in ours["description"]
        case "boolean":
            assert ours["enum"] == ["Enabled", "Disabled"]
        case "object":
            ours = ours["items"]["properties"]["resolution"]
            assert set(ours["enum"]) == set(map(pascal, agent["additionalProperties"]["enum"]))
        case _:
            assert set(ours["enum"]) == set(map(pascal, agent["enum"]))


def limits(ours: Json) -> list[str]:
    """Least and greatest value that the rule of a field lets pass, as it is written there."""
    (rule,) = ours["x-kubernetes-validations"]
    return re.findall(r"(?:duration|double)\(self\) [<>]= (?:duration\(')?([\w.]+)", rule["rule"])


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_field_says_the_default_of_its_parameter(name: str) -> None:
    """In words only: what a spec leaves out may be changed live."""
    ours, default = field(name), getattr(DEFAULTS, name)
    assert "default" not in ours
    text = ours["description"]
    if name in TOP_LEVEL:
        said = re.search(r"Where it is absent, (\w+), or what was set live\.$", text)
    else:
        said = re.search(r"Default: ([\w.]+)\.$", text)
    assert said, text
    if isinstance(default, bool):
        assert said[1] == ("Enabled" if default else "Disabled")
    elif default == {}:
        assert said[1] == "none"
    elif isinstance(default, str):
        assert said[1] == pascal(default)
    elif isinstance(default, float):
        assert float(said[1]) == default
    elif ours["type"] == "integer":
        assert int(said[1]) == default
    else:
        assert milliseconds(said[1]) == default


def test_the_longest_names_of_a_swarm_fit_into_a_stateful_set() -> None:
    """The name of a StatefulSet, with eleven characters of a revision, becomes a label of its pods."""
    (rule,) = (
        rule["rule"]
        for rule in schema("GossipSwarm")["x-kubernetes-validations"]
        if "size(region.name)" in rule["rule"]
    )
    limit = int(re.search(r"<= (\d+)", rule)[1])
    replicas = spec("GossipSwarm")["replicasPerRegion"]["maximum"]
    assert limit + len("-") + len(f"-{replicas - 1}") <= 52


# --- in step with the operator --------------------------------------------------------------------


def filled_in(node: Json, value: Any) -> Any:
    """What the API server makes of a value: defaults of everything that is left out."""
    if isinstance(value, list):
        return [filled_in(node["items"], each) for each in value]
    if not isinstance(value, dict):
        return value
    fields = node.get("properties", {})
    whole = {name: each["default"] for name, each in fields.items() if "default" in each} | value
    return {name: filled_in(fields.get(name, {}), each) for name, each in whole.items()}


def swarm(spec: Json) -> model.Swarm:
    metadata = {"name": "demo", "namespace": "default", "uid": "1"}
    return model.parse({"metadata": metadata, "spec": spec})


def test_the_operator_knows_the_same_defaults() -> None:
    bare = {"regions": [{"name": "us-east"}]}
    whole = filled_in(schema("GossipSwarm")["properties"]["spec"], bare)
    assert whole["storage"]["size"] == "1Gi"
    assert swarm(whole).spec == swarm(bare).spec


def test_variables_of_the_operator_cannot_be_given() -> None:
    spec_of_all = {
        "regions": [{"name": "us-east"}],
        "hooks": {"configMapName": "hooks"},
        "api": {"tls": {"secretName": "tls"}},
    }
    facts = Facts(
        default_image="agent:1",
        regions={"us-east": RegionFacts(3)},
        declared={},
        settings={},
        keys={},
        key_annotations={},
        read_token="r",
        write_token="w",
    )
    own = set()
    for mode in ("Enabled", "Disabled"):
        found = swarm({**spec_of_all, "encryption": {"mode": mode}})
        (container,) = pod.template(found, found.spec.regions[0], facts)["spec"]["containers"]
        own |= {entry["name"] for entry in container["env"]}
    environment = spec("GossipSwarm")["podTemplate"]["properties"]["env"]["items"]
    refused = environment["properties"]["name"]["x-kubernetes-validations"][1]["rule"]
    assert own
    assert own <= set(re.findall(r"'(\w+)'", refused))

"""Parameters as manifests write them: held against the CRD and against the agents' names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gossipctl import spelling
from gossipswarm_agent.core.settings import DEFAULTS, NAMES

CRD = Path(__file__).parents[1] / "crds" / "gossipswarm.io_gossipswarms.yaml"
SPEC = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"][
    "properties"
]["spec"]["properties"]
SCHEMA = SPEC["gossip"]["properties"] | {name: SPEC[name] for name in ("durability", "maxAgents")}


def test_the_crd_has_a_field_for_every_parameter_and_no_other():
    assert set(SCHEMA) == set(spelling.FIELDS)
    assert set(spelling.FIELDS.values()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_for_a_cluster_is_read_back(name):
    value = getattr(DEFAULTS, name)
    field = spelling.camel(name)
    written = spelling.write(name, value)
    spec = {field: written} if name in spelling.TOP_LEVEL else {"gossip": {field: written}}

    assert spelling.read(spec) == {name: value}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_fits_the_crd(name):
    schema = SCHEMA[spelling.camel(name)]
    written = spelling.write(name, getattr(DEFAULTS, name))

    kinds = {"string": str, "integer": int, "array": list}
    assert isinstance(written, kinds[schema["type"]])
    if "enum" in schema:
        assert written in schema["enum"]
    if "pattern" in schema:
        assert re.fullmatch(schema["pattern"], written)


@pytest.mark.parametrize("field", [name for name, schema in SCHEMA.items() if "enum" in schema])
def test_every_word_of_the_crd_is_understood_and_written_back(field):
    for word in SCHEMA[field]["enum"]:
        spec = {field: word} if field in SPEC else {"gossip": {field: word}}
        [(name, value)] = spelling.read(spec).items()
        assert spelling.write(name, value) == word


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("interval", 1500, "1500ms"),
        ("interval", 90_000, "90s"),
        ("region_affinity", 1.0, "1"),
        ("region_affinity", 0.00001, "0.00001"),
        ("region_affinity", 2 / 3, "0.666667"),
        (
            "conflict_resolution_prefixes",
            {"a": "last-write-wins"},
            [{"prefix": "a", "resolution": "LastWriteWins"}],
        ),
    ],
)
def test_values_are_written_as_a_cluster_takes_them(name, value, written):
    assert spelling.write(name, value) == written

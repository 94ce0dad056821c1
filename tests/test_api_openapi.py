"""The OpenAPI document says what the API does, and nothing else."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest

from gossipswarm_agent.api import types
from gossipswarm_agent.api.examples import EXAMPLES
from gossipswarm_agent.api.openapi import document
from gossipswarm_agent.api.operations import Operation
from gossipswarm_agent.api.table import TABLE
from served import one_agent

DOCUMENT: dict[str, Any] = document()


def _name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


async def test_the_document_is_served():
    async with one_agent() as agent:
        answer = await agent.ask("GET", "/openapi.json")

        assert answer.document == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
        assert answer.document["openapi"] == "3.1.0"


@pytest.mark.parametrize("operation", TABLE.operations, ids=_name)
def test_every_operation_is_described(operation):
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]

    assert described["summary"]
    assert described["responses"]["200"]["content"]
    assert described["tags"][0] in [tag["name"] for tag in DOCUMENT["tags"]]
    parameters = {each["name"]: each for each in described.get("parameters", [])}
    for name in re.findall(r"\{(\w+)\}", operation.path):
        assert parameters[name]["required"] is True
    if operation.query is not None:
        assert set(operation.query.__struct_fields__) <= set(parameters)
    assert all(each["description"] for each in parameters.values() if each["in"] != "query")


@pytest.mark.parametrize("operation", TABLE.operations, ids=_name)
async def test_every_operation_is_served(operation):
    path = operation.path.replace("{key}", "a").replace("{dot}", "a:1")
    async with one_agent() as agent:
        answer = await agent.ask(operation.method, path, body=b"{}" if operation.body else None)

        assert answer.status not in (405, 500)
        if answer.status >= 400:
            assert answer.reason != "no-such-path"
            assert (
                str(answer.status)
                in DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
            ), answer


def test_operations_have_names_of_their_own():
    named = [
        operation["operationId"]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    ]

    assert len(named) == len(set(named)) == len(TABLE.operations)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_every_example_is_an_instance_of_its_type(kind):
    encoded = msgspec.json.encode(EXAMPLES[kind])

    decoded = msgspec.json.decode(encoded, type=kind)

    assert msgspec.json.decode(msgspec.json.encode(decoded)).items() >= EXAMPLES[kind].items()


def test_every_type_of_a_body_has_an_example():
    kinds = {
        each
        for operation in TABLE.operations
        for kind in (operation.body, *operation.answers.values())
        if kind not in (None, object, dict)
        for each in (get_args(kind) or (kind,))
    }

    assert kinds | {types.Problem} == set(EXAMPLES)


def test_every_reference_leads_somewhere():
    text = msgspec.json.encode(DOCUMENT).decode()

    references = set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', text))

    assert references <= set(DOCUMENT["components"]["schemas"])


def test_every_field_of_a_setting_says_what_it_is():
    settings = DOCUMENT["components"]["schemas"]["Settings"]["properties"]

    assert all(setting.get("description") for setting in settings.values())

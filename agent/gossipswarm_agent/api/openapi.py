"""The OpenAPI 3.1 document, generated from the table of operations and the types that decode and encode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, get_args

import msgspec

from gossipswarm_agent.api import types
from gossipswarm_agent.api.access import TOKEN_HEADER
from gossipswarm_agent.api.examples import EXAMPLES
from gossipswarm_agent.api.operations import Operation, Table
from gossipswarm_agent.api.problems import CONTENT_TYPE as PROBLEM
from gossipswarm_agent.api.table import TABLE
from gossipswarm_agent.runtime.metrics import program_version

HEADERS: Final = {
    "If-Match": "Write only if the key's etag is this one; `*`: only if it exists.",
    "If-None-Match": "Read: 304 if the etag is this one. Write: `*`: only if the key does not exist.",
    "X-Request-Id": "Two writes with one id are applied once. At most 128 printable characters.",
    "Last-Event-ID": "Resume a watch behind this event.",
}
_PATH_PARAMETERS: Final = {
    "key": "Dotted key, percent-encoded; `\\.` is a dot inside a segment.",
    "dot": "Identity of a write, as the write's answer has it.",
}
_TAGS: Final = {
    "state": "Reading, writing and watching keys",
    "swarm": "What this agent knows of its swarm",
    "administration": "Changing how the agent and its swarm behave",
    "discovery": "Liveness, readiness, metrics and this document",
}
_ANY: Final = (401, 403, 404, 405, 500)
"""Statuses that any operation may answer with."""
_OPEN: Final = (404, 405, 500)


def document(table: Table = TABLE) -> dict[str, Any]:
    """The document as JSON-compatible objects."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GossipSwarm agent",
            "version": program_version(),
            "summary": "Small shared state on hundreds of agents in milliseconds",
            "description": (
                "Every agent answers for itself: reads are local, writes are durable here when they "
                "are acknowledged and spread from here. Errors are RFC 9457 problem documents whose "
                "`reason` is a stable slug."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this agent"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(table),
        "components": {
            "schemas": _schemas(table),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where the listener wants one: the read or the write token.",
                },
                "header": {
                    "type": "apiKey",
                    "in": "header",
                    "name": TOKEN_HEADER,
                    "description": "The same token, for proxies that keep Authorization to themselves.",
                },
            },
        },
    }


def _paths(table: Table) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in table.operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.scope == "open" else [{"bearer": []}, {"header": []}, {}],
        "responses": _responses(operation),
    }
    if operation.scope != "open":
        described["x-scope"] = operation.scope
    parameters = [*_path_parameters(operation), *_query(operation), *_headers(operation)]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {operation.body_media: _media(operation.body)},
        }
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z]+", operation.path.replace("openapi.json", "openapi"))
    named = [word for word in words if word != "v"]
    return "_".join([operation.method.lower(), *named])


def _path_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }


def _query(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.query is None:
        return
    [reference], components = msgspec.json.schema_components(
        [operation.query], ref_template=_REFERENCE
    )
    schema = components[reference["$ref"].rpartition("/")[2]]
    in_path = re.findall(r"\{(\w+)\}", operation.path)
    for name, described in schema["properties"].items():
        if name in in_path:
            continue
        plain = {key: value for key, value in described.items() if key != "description"}
        yield {
            "name": name,
            "in": "query",
            "description": described.get("description", ""),
            "schema": plain,
            # A bare name is a flag: ?watch
            **({"allowEmptyValue": True} if described.get("type") == "boolean" else {}),
        }


def _headers(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in operation.headers:
        yield {
            "name": name,
            "in": "header",
            "description": HEADERS[name],
            "schema": {"type": "string"},
        }


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": operation.summary,
            "content": {media: _media(kind) for media, kind in operation.answers.items()},
        }
    }
    common = _OPEN if operation.scope == "open" else _ANY
    for status in sorted({*operation.problems, *common}):
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if status >= 400:
            response["content"] = {PROBLEM: {"schema": _reference(types.Problem)}}
        if status in (429, 503, 507):
            response["headers"] = {
                "Retry-After": {"description": "seconds", "schema": {"type": "integer"}}
            }
        responses[str(status)] = response
    return responses


def _media(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"schema": {"type": "string"}}
    if kind is object:
        return {"schema": {"description": "any JSON value"}, "example": {"cache_ttl": 3600}}
    if kind is dict:
        return {"schema": {"type": "object"}}
    kinds = get_args(kind) or (kind,)
    schema = (
        _reference(kind) if len(kinds) == 1 else {"anyOf": [_reference(each) for each in kinds]}
    )
    examples = {each.__name__: {"value": EXAMPLES[each]} for each in kinds if each in EXAMPLES}
    if len(examples) == 1:
        return {"schema": schema, "example": next(iter(examples.values()))["value"]}
    return {"schema": schema, **({"examples": examples} if examples else {})}


_REFERENCE: Final = "#/components/schemas/{name}"


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def _schemas(table: Table) -> Mapping[str, Any]:
    named: list[Any] = [types.Problem]
    for operation in table.operations:
        for kind in (*operation.answers.values(), operation.body):
            if kind in (None, object, dict):
                continue
            named += [each for each in (get_args(kind) or (kind,)) if each not in named]
    _, components = msgspec.json.schema_components(named, ref_template=_REFERENCE)
    return components

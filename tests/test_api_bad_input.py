"""Everything a caller can get wrong is answered with a problem that says what, where and what to do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
import pytest_asyncio

from served import Served, one_agent


@pytest_asyncio.fixture
async def agent() -> AsyncIterator[Served]:
    async with one_agent() as found:
        yield found


# JSON


@pytest.mark.parametrize(
    ("body", "line", "column", "position", "says"),
    [
        (b'{"a": 1,}', 1, 9, 8, "property name"),
        (b'{\n  "a": 1\n  "b": 2\n}', 3, 3, 13, "',' delimiter"),
        (b'{"a": tru}', 1, 7, 6, "expecting value"),
        (b'{"a": 1', 1, 8, 7, "ends too early"),
        (b'"unended', 1, 1, 0, "unterminated string"),
        (b"{} {}", 1, 4, 3, "extra data"),
        (b"[01]", 1, 3, 2, "',' delimiter"),
        ('{"ä": x}'.encode(), 1, 7, 7, "expecting value"),
        (b'{"a": "\xff"}', 1, 8, 7, "UTF-8"),
        (b"\xef\xbb\xbf{}", 1, 1, 0, "byte order mark"),
        (b'"tab\tin"', 1, 5, 4, "control character"),
        (b"NaN", 1, 1, 0, "invalid character"),  # which the standard library would take
        (b'{"a": Infinity}', 1, 7, 6, "invalid character"),
    ],
)
async def test_malformed_json_is_pointed_at(agent, body, line, column, position, says):
    answer = await agent.ask("PUT", "/v1/state/a", body=body)

    assert (answer.status, answer.reason) == (400, "malformed-json")
    found = answer.document
    assert says in found["detail"]
    assert f"line {line}, column {column}" in found["detail"]
    assert (found["line"], found["column"], found["position"]) == (line, column, position)


@pytest.mark.parametrize("body", [b"", b" \n "])
async def test_an_empty_body_is_not_a_value(agent, body):
    answer = await agent.ask("PUT", "/v1/state/a", body=body)

    assert (answer.status, answer.reason) == (400, "malformed-json")
    assert "empty" in answer.document["detail"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"18446744073709551616", "number-out-of-range"),
        (b'{"deep": [1, {"n": -9223372036854775809}]}', "number-out-of-range"),
        (b"1e400", "invalid-value"),
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (b"[" * 5000 + b"]" * 5000, "too-deep"),
        (b'{"":1}', "invalid-key"),
        (json.dumps({"a": {"": 1}}).encode(), "invalid-key"),
    ],
)
async def test_values_that_cannot_be_held_are_refused(agent, body, reason):
    answer = await agent.ask("PUT", "/v1/state/a", body=body)

    assert (answer.status, answer.reason) == (422, reason)


async def test_a_lone_surrogate_is_malformed(agent):
    answer = await agent.ask("PUT", "/v1/state/a", body=b'["\\ud800", 1]')

    assert (answer.status, answer.reason) == (400, "malformed-json")


@pytest.mark.parametrize("body", [b"[" * 64 + b"]" * 64, b"[[],[]," * 20 + b"1" + b"]" * 20])
async def test_nesting_up_to_the_limit_is_fine(agent, body):
    assert (await agent.ask("PUT", "/v1/state/a", body=body)).status == 200
    assert (await agent.ask("GET", "/v1/state/a")).document["value"] == json.loads(body)


async def test_too_many_leaves_are_refused(agent):
    answer = await agent.ask("PUT", "/v1/state/a", {f"k{n}": n for n in range(10_001)})

    assert (answer.status, answer.reason) == (413, "too-many-leaves")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_before_it_is_read_in_full(agent, chunked):
    body = b'"' + b"x" * (1 << 20) + b'"'

    async def pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    answer = await agent.ask("PUT", "/v1/state/a", body=pieces() if chunked else BytesIO(body))

    assert (answer.status, answer.reason) == (413, "body-too-large")
    assert answer.document["limit"] == 1 << 20
    assert (await agent.ask("GET", "/v1/state/a")).status == 404


async def test_a_body_at_the_limit_is_taken(agent):
    half = b"x" * ((1 << 19) - 7)
    over = b'{"a":"%b","b":"%b"}' % (half, half)
    assert len(over) == (1 << 20) + 1

    refused = await agent.ask("PUT", "/v1/state/a", body=BytesIO(over))
    taken = await agent.ask("PUT", "/v1/state/a", body=BytesIO(over.replace(b"xx", b"x", 1)))

    assert (refused.status, taken.status) == (413, 200)


@pytest.mark.parametrize(
    "media", ["text/xml", "text/plain", "multipart/form-data", "application/yaml"]
)
async def test_other_media_types_are_refused(agent, media):
    answer = await agent.ask("PUT", "/v1/state/a", body=b"1", headers={"Content-Type": media})

    assert (answer.status, answer.reason) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "application/x-www-form-urlencoded",  # what curl says of --data
        "APPLICATION/JSON",
    ],
)
async def test_what_is_or_may_be_json_is_taken(agent, media):
    answer = await agent.ask("PATCH", "/v1/state/a", body=b"1", headers={"Content-Type": media})

    assert answer.status == 200


# Keys


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("a..b", "empty segment"),
        (".a", "empty segment"),
        ("a.", "empty segment"),
        ("x" * 513, "512 bytes"),
        ("%C3%A4" * 257, "512 bytes"),
        (".".join("a" * 33), "32 segments"),
        ("$swarm.config.fanout", "reserved"),
        ("a%00b", "control characters"),
        ("a%0Ab", "control characters"),
    ],
)
async def test_keys_that_are_none_are_refused(agent, key, says):
    answer = await agent.ask("PUT", f"/v1/state/{key}", 1)

    assert (answer.status, answer.reason) == (422, "invalid-key")
    assert says in answer.document["detail"]


@pytest.mark.parametrize("key", ["a..b", "x" * 513, "a%00b"])
async def test_keys_that_are_none_cannot_be_read_either(agent, key):
    assert (await agent.ask("GET", f"/v1/state/{key}")).reason == "invalid-key"


async def test_a_path_that_is_not_utf8_is_refused(agent):
    answer = await agent.raw(
        b"GET /v1/state/%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"malformed-path"' in answer


async def test_the_root_cannot_be_written(agent):
    assert (await agent.ask("PUT", "/v1/state/", {"a": 1})).reason == "invalid-key"
    assert (await agent.ask("PUT", "/v1/state", {"a": 1})).reason == "invalid-key"


async def test_a_typo_in_a_key_gets_a_suggestion(agent):
    await agent.ask("PUT", "/v1/state/app.config", {"cache_ttl": 1})

    answer = await agent.ask("GET", "/v1/state/app.confg")

    assert answer.status == 404
    assert answer.document["key"] == "app.confg"
    assert answer.document["suggestions"] == ["app.config"]
    assert "did you mean 'app.config'?" in answer.document["detail"]


# Parameters


@pytest.mark.parametrize(
    ("path", "reason", "says"),
    [
        ("/v1/state/a?thresold=1", "unknown-parameter", "known: "),
        ("/v1/state/a?wach", "unknown-parameter", "did you mean 'watch'?"),
        ("/v1/state/a?keys&limit=0", "invalid-parameter", "limit"),
        ("/v1/state/a?keys&limit=10001", "invalid-parameter", "limit"),
        ("/v1/state/a?keys&limit=ten", "invalid-parameter", "limit"),
        ("/v1/state/a?keys=maybe", "invalid-parameter", "keys"),
        ("/v1/state/a?keys&keys", "repeated-parameter", "keys"),
        ("/v1/state/a?after=%ff", "malformed-query", "UTF-8"),
        ("/v1/state/a?" + "&".join(f"p{n}" for n in range(40)), "too-many-parameters", "32"),
        ("/v1/convergence/a/1:1?threshold=1.5", "invalid-parameter", "threshold"),
        ("/v1/convergence/a/1:1?threshold=nan", "invalid-parameter", "threshold"),
        ("/v1/convergence/a/1:1?threshold=-1", "invalid-parameter", "threshold"),
        ("/v1/convergence/a/1:1?wait&timeout=soon", "invalid-parameter", "timeout"),
        ("/v1/convergence/a/1:1?wait&timeout=-1", "invalid-parameter", "timeout"),
        ("/v1/convergence/a/1:1?wait&timeout=1d", "invalid-parameter", "timeout"),
        ("/v1/conflicts?limit=0", "invalid-parameter", "limit"),
    ],
)
async def test_a_wrong_parameter_is_named(agent, path, reason, says):
    answer = await agent.ask("GET", path)

    assert (answer.status, answer.reason) == (400, reason)
    assert says in answer.document["detail"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("op=merge", "op"),
        ("wait=soon", "wait"),
        ("wait=converged&threshold=2", "threshold"),
        ("trace=perhaps", "trace"),
        ("wiat=converged", "did you mean 'wait'?"),
    ],
)
async def test_a_wrong_parameter_of_a_write_writes_nothing(agent, query, says):
    answer = await agent.ask("PUT", f"/v1/state/a?{query}", 1)

    assert answer.status == 400
    assert says in answer.document["detail"]
    assert (await agent.ask("GET", "/v1/state/a")).status == 404


async def test_operations_without_parameters_refuse_any(agent):
    answer = await agent.ask("GET", "/v1/members?region=us-east")

    assert (answer.status, answer.reason) == (400, "unknown-parameter")


# Headers


@pytest.mark.parametrize("etag", ["abc", '"abc', "1", '"a", b'])
async def test_a_condition_without_quotes_is_explained(agent, etag):
    answer = await agent.ask("PUT", "/v1/state/a", 1, headers={"If-Match": etag})

    assert (answer.status, answer.reason) == (400, "malformed-etag")


async def test_two_conditions_are_one_too_many(agent):
    headers = {"If-Match": "*", "If-None-Match": "*"}

    assert (await agent.ask("PUT", "/v1/state/a", 1, headers=headers)).reason == "two-conditions"


@pytest.mark.parametrize("request_id", ["", "x" * 129, "ü"])
async def test_request_ids_are_short_and_plain(agent, request_id):
    answer = await agent.ask("PUT", "/v1/state/a", 1, headers={"X-Request-Id": request_id})

    assert (answer.status, answer.reason) == (400, "invalid-request-id")


# Fields


@pytest.mark.parametrize(
    ("path", "document", "reason", "says"),
    [
        ("/v1/admin/degraded-mode", {}, "missing-field", "enabled"),
        ("/v1/admin/degraded-mode", {"enabled": "yes"}, "invalid-field", "enabled"),
        ("/v1/admin/degraded-mode", {"enable": True}, "unknown-field", "did you mean 'enabled'?"),
        ("/v1/admin/degraded-mode", {"enabled": True, "scope": "all"}, "invalid-field", "scope"),
        ("/v1/admin/degraded-mode", [], "invalid-field", "object"),
        ("/v1/admin/drop-list", {"inbound": "us-west"}, "invalid-field", "inbound"),
        ("/v1/admin/drop-list", {"duration_ms": 0}, "invalid-field", "duration_ms"),
        ("/v1/admin/probe", {}, "missing-field", "address"),
        ("/v1/admin/probe", {"address": "demo-0:7600"}, "invalid-field", "address"),
        ("/v1/admin/probe", {"address": "10.0.0.1"}, "invalid-field", "address"),
        ("/v1/admin/probe", {"address": "10.0.0.1:70000"}, "invalid-field", "address"),
        ("/v1/admin/keyring", {"action": "install"}, "missing-field", "key"),
        ("/v1/admin/keyring", {"action": "use"}, "missing-field", "id"),
        ("/v1/admin/keyring", {"action": "install", "key": "short"}, "invalid-key-material", "32"),
        ("/v1/admin/keyring", {"action": "use", "id": "deadbeef"}, "invalid-key-material", ""),
        (
            "/v1/admin/keyring",
            {"action": "use", "id": "xyz"},
            "invalid-key-material",
            "hexadecimal",
        ),
        ("/v1/admin/anti-entropy", {"timeout": "soon"}, "invalid-field", "timeout"),
        ("/v1/admin/reset-peers", {"force": True}, "unknown-field", "force"),
    ],
)
async def test_a_wrong_field_is_named(agent, path, document, reason, says):
    answer = await agent.ask("POST", path, document)

    assert (answer.status, answer.reason) == (422, reason)
    assert says in answer.document["detail"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fanuot": 3}, "did you mean fanout?"),
        ({"fanout": 0}, "fanout=0"),
        ({"fanout": "three"}, "fanout='three'"),
        ({"fanout": 4, "interval": 5}, "interval=5"),
        ({"mode": "shove"}, "mode='shove'"),
        ({"region_affinity": 1.5}, "region_affinity=1.5"),
        ([1], "object"),
    ],
)
async def test_parameters_of_the_swarm_out_of_range_are_refused_whole(agent, changes, says):
    answer = await agent.ask("PATCH", "/v1/config", changes)

    assert answer.status == 422
    assert answer.reason in ("invalid-setting", "invalid-field")
    assert says in answer.document["detail"]
    assert (await agent.ask("GET", "/v1/config")).document["settings"]["fanout"] == 3


async def test_anti_entropy_with_a_stranger_is_refused(agent):
    answer = await agent.ask("POST", "/v1/admin/anti-entropy", {"peer": "nobody"})

    assert (answer.status, answer.reason) == (404, "no-peer")


@pytest.mark.parametrize("dot", ["nobody/1:7", "nonsense", "a:b:c", "agent-0:" + "9" * 30])
@pytest.mark.parametrize("query", ["", "?wait&timeout=1s"])
async def test_the_convergence_of_an_unknown_write_is_not_found(agent, dot, query):
    answer = await agent.ask("GET", f"/v1/convergence/{dot}{query}")

    assert (answer.status, answer.reason) == (404, "unknown-write")


# Paths and methods


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/memebers", "did you mean '/v1/members'?"),
        ("/", "there is no /"),
        ("/v2/state/a", "there is no /v2/state/a"),
        ("/v1/state.a", "/v1/state"),
    ],
)
async def test_an_unknown_path_gets_a_suggestion(agent, path, says):
    answer = await agent.ask("GET", path)

    assert (answer.status, answer.reason) == (404, "no-such-path")
    assert says in answer.document["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/state/a", "DELETE, GET, HEAD, PATCH, PUT"),
        ("DELETE", "/v1/members", "GET, HEAD"),
        ("GET", "/v1/batch", "POST"),
        ("PUT", "/v1/config", "GET, HEAD, PATCH"),
        ("TRACE", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/agent", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_possible_says_which_are(agent, method, path, allowed):
    answer = await agent.ask(method, path)

    assert (answer.status, answer.reason) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS greeting
        b"GET /v1/agent HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"PUT /v1/state/a HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"PUT /v1/state/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_and_is_disconnected(agent, request_bytes):
    answer = await agent.raw(request_bytes)

    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"Content-Type: application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "malformed-request"


async def test_a_chunked_body_that_breaks_is_refused(agent):
    answer = await agent.raw(
        b"PUT /v1/state/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    )

    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"application/problem+json" in answer


async def test_an_expectation_is_met_before_the_body_comes(agent):
    answer = await agent.raw(
        b"PUT /v1/state/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\nContent-Length: 1\r\n\r\n1"
    )

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_a_body_that_will_be_too_large_is_not_asked_for(agent):
    answer = await agent.raw(
        b"PUT /v1/state/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 99999999\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_an_unknown_expectation_fails(agent):
    answer = await agent.ask("PUT", "/v1/state/a", 1, headers={"Expect": "the-unexpected"})

    assert (answer.status, answer.reason) == (417, "expectation-failed")

"""Reading and writing keys over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from served import Served, one_agent, served


@pytest_asyncio.fixture
async def agent() -> AsyncIterator[Served]:
    async with one_agent() as found:
        yield found


CONFIG = {"database_url": "postgres://db", "cache_ttl": 3600, "flags": {"new_ui": True}}


async def test_a_value_that_was_put_is_read_back_whole(agent):
    written = await agent.ask("PUT", "/v1/state/app.config", CONFIG)
    assert written.status == 200
    assert written.document["key"] == "app.config"
    assert written.document["changed"] == 3
    assert written.document["dot"].startswith("agent-0/")

    found = (await agent.ask("GET", "/v1/state/app.config")).document

    assert found["value"] == CONFIG
    assert found["version"] == 1
    assert found["agent"] == "agent-0"
    assert found["region"] == "us-east"
    assert found["origin"] == "agent-0"
    assert found["conflict"] is False
    assert found["degraded"] is False
    assert found["last_updated"] == written.document["last_updated"]


async def test_a_leaf_below_is_read_and_written_by_its_own_path(agent):
    await agent.ask("PUT", "/v1/state/app.config", CONFIG)

    await agent.ask("PUT", "/v1/state/app.config.cache_ttl", 7200)

    assert (await agent.ask("GET", "/v1/state/app.config")).document["value"]["cache_ttl"] == 7200


async def test_put_replaces_the_subtree_and_patch_merges_into_it(agent):
    await agent.ask("PUT", "/v1/state/app", {"a": 1, "b": 2})
    await agent.ask("PATCH", "/v1/state/app", {"b": None, "c": 3})
    assert (await agent.ask("GET", "/v1/state/app")).document["value"] == {"a": 1, "c": 3}

    await agent.ask("PUT", "/v1/state/app", {"d": 4})

    assert (await agent.ask("GET", "/v1/state/app")).document["value"] == {"d": 4}


async def test_a_whole_leaf_keeps_its_object_in_one_piece(agent):
    written = await agent.ask("PUT", "/v1/state/doc?op=leaf", {"a": 1, "b": {"c": 2}})

    assert written.document["changed"] == 1
    listed = await agent.ask("GET", "/v1/state?keys")
    assert listed.document == {"keys": ["doc"], "next": None}


async def test_delete_removes_everything_below_and_says_how_much(agent):
    await agent.ask("PUT", "/v1/state/app", {"a": 1, "b": 2})

    deleted = await agent.ask("DELETE", "/v1/state/app")

    assert deleted.document["changed"] == 2
    assert "ETag" not in deleted.headers
    assert (await agent.ask("GET", "/v1/state/app")).reason == "not-found"


async def test_deleting_what_is_not_there_changes_nothing(agent):
    deleted = await agent.ask("DELETE", "/v1/state/nothing")

    assert (deleted.status, deleted.document["changed"], deleted.document["dot"]) == (200, 0, "")


@pytest.mark.parametrize("value", [None, False, 0, 1.5, "", "text", [], [1, [2]], {}, 2**64 - 1])
async def test_every_kind_of_json_value_survives(agent, value):
    await agent.ask("PUT", "/v1/state/any", body=__import__("json").dumps(value).encode())

    assert (await agent.ask("GET", "/v1/state/any")).document["value"] == value


@pytest.mark.parametrize(
    "key",
    ["coordination/gossip/metrics", "file-metadata/src/a b.py", r"host\.example", "ключ", "a#b?c"],
)
async def test_keys_travel_percent_encoded(agent, key):
    await agent.ask("PUT", f"/v1/state/{quote(key, safe='')}", 1)

    found = await agent.ask("GET", f"/v1/state/{quote(key, safe='')}")

    assert found.document["key"] == key
    assert found.document["value"] == 1


async def test_slashes_in_a_key_need_no_escape(agent):
    await agent.ask("PUT", "/v1/state/coordination/gossip/metrics", 1)

    assert (await agent.ask("GET", "/v1/state/coordination%2Fgossip%2Fmetrics")).status == 200


async def test_a_key_may_stand_in_the_query_where_a_proxy_might_tidy_up_the_path(agent):
    where = "/v1/state?key=" + quote("a//b/./c", safe="")

    written = await agent.ask("PUT", f"{where}&trace=1", {"c": 1})
    await agent.ask("PATCH", where, {"d": 2})

    assert written.document["key"] == "a//b/./c"
    assert (await agent.ask("GET", where)).document["value"] == {"c": 1, "d": 2}
    assert (await agent.ask("GET", f"{where}&keys")).document["keys"] == [
        "a//b/./c.c",
        "a//b/./c.d",
    ]
    assert (await agent.ask("DELETE", where)).document["changed"] == 2
    assert (await agent.ask("GET", where)).status == 404


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [("/v1/state/a?key=b", 400, "two-keys"), ("/v1/state", 422, "invalid-key")],
)
async def test_a_write_names_one_key(agent, path, status, reason):
    answer = await agent.ask("PUT", path, 1)

    assert (answer.status, answer.reason) == (status, reason)
    assert agent.agent.read("") is None


async def test_the_root_reads_everything_but_the_swarms_own_keys(agent):
    await agent.ask("PUT", "/v1/state/a", 1)
    await agent.ask("PUT", "/v1/state/b.c", 2)
    await agent.ask("PATCH", "/v1/config", {"fanout": 4})

    found = (await agent.ask("GET", "/v1/state")).document["value"]

    assert (found["a"], found["b"]) == (1, {"c": 2})
    assert "$swarm" not in found


async def test_keys_are_listed_in_pages(agent):
    await agent.ask("PUT", "/v1/state/list", {f"k{n:02}": n for n in range(5)})

    first = (await agent.ask("GET", "/v1/state/list?keys&limit=3")).document
    rest = (await agent.ask("GET", f"/v1/state/list?keys&limit=3&after={first['next']}")).document

    assert first == {"keys": ["list.k00", "list.k01", "list.k02"], "next": "list.k02"}
    assert rest == {"keys": ["list.k03", "list.k04"], "next": None}


async def test_head_answers_like_get_without_the_body(agent):
    await agent.ask("PUT", "/v1/state/a", 1)

    head = await agent.ask("HEAD", "/v1/state/a")
    get = await agent.ask("GET", "/v1/state/a")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == get.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(get.body))


# Conditions


async def test_an_unchanged_value_is_not_sent_again(agent):
    written = await agent.ask("PUT", "/v1/state/a", 1)
    etag = written.headers["ETag"]

    again = await agent.ask("GET", "/v1/state/a", headers={"If-None-Match": etag})

    assert (again.status, again.body) == (304, b"")
    await agent.ask("PUT", "/v1/state/a", 2)
    assert (await agent.ask("GET", "/v1/state/a", headers={"If-None-Match": etag})).status == 200


async def test_a_write_with_an_outdated_etag_is_refused(agent):
    first = await agent.ask("PUT", "/v1/state/a", 1)
    second = await agent.ask("PUT", "/v1/state/a", 2, headers={"If-Match": first.headers["ETag"]})
    assert second.status == 200

    third = await agent.ask("PUT", "/v1/state/a", 3, headers={"If-Match": first.headers["ETag"]})

    assert (third.status, third.reason) == (412, "precondition-failed")
    assert (await agent.ask("GET", "/v1/state/a")).document["value"] == 2


async def test_one_of_several_etags_may_hold(agent):
    etag = (await agent.ask("PUT", "/v1/state/a", 1)).headers["ETag"]

    several = await agent.ask("PUT", "/v1/state/a", 2, headers={"If-Match": f'"other", {etag}'})
    none = await agent.ask("PUT", "/v1/state/a", 3, headers={"If-Match": '"one", "two"'})

    assert several.status == 200
    assert none.reason == "precondition-failed"


@pytest.mark.parametrize(
    ("method", "condition", "exists", "status"),
    [
        ("PUT", {"If-Match": "*"}, False, 412),
        ("PUT", {"If-Match": "*"}, True, 200),
        ("PUT", {"If-None-Match": "*"}, True, 412),
        ("PUT", {"If-None-Match": "*"}, False, 200),
        ("PATCH", {"If-Match": '"abc"'}, True, 412),
        ("DELETE", {"If-Match": '"abc"'}, True, 412),
        ("DELETE", {"If-Match": "*"}, True, 200),
        ("PUT", {"If-None-Match": '"abc"'}, True, 200),
        ("PUT", {"If-None-Match": '"abc"'}, False, 200),
    ],
)
async def test_conditions_on_existence(agent, method, condition, exists, status):
    if exists:
        await agent.ask("PUT", "/v1/state/a", {"x": 1})

    value = None if method == "DELETE" else {"x": 2}
    answer = await agent.ask(method, "/v1/state/a", value, headers=condition)

    assert answer.status == status
    if status == 412:
        assert answer.reason == "precondition-failed"


async def test_two_writes_with_one_request_id_are_one(agent):
    headers = {"X-Request-Id": "deploy-17"}
    first = await agent.ask("PUT", "/v1/state/a", 1, headers=headers)
    await agent.ask("PUT", "/v1/state/a", 2)

    again = await agent.ask("PUT", "/v1/state/a", 1, headers=headers)

    assert again.document == first.document
    assert again.headers["X-Request-Id"] == "deploy-17"
    assert (await agent.ask("GET", "/v1/state/a")).document["value"] == 2


async def test_an_id_that_is_used_again_does_not_swallow_another_write(agent):
    headers = {"X-Request-Id": "not-very-random"}
    await agent.ask("PUT", "/v1/state/a", 1, headers=headers)

    await agent.ask("PUT", "/v1/state/a", 2, headers=headers)
    await agent.ask("PUT", "/v1/state/b", 1, headers=headers)

    assert (await agent.ask("GET", "/v1/state")).document["value"] == {"a": 2, "b": 1}


# Waiting


async def test_a_write_can_wait_until_everybody_has_it():
    async with served("us-east", "us-west", "eu-central") as agents:
        path = "/v1/state/app.config?wait=converged&threshold=1&timeout=60s"
        written = (await agents[0].ask("PUT", path, CONFIG)).document

        assert written["convergence"]["converged"] is True
        assert written["convergence"]["received"] == 3
        for agent in agents:
            assert (await agent.ask("GET", "/v1/state/app.config")).document["value"] == CONFIG


async def test_a_write_that_does_not_converge_in_time_stands():
    async with served("us-east", "us-west") as [first, second]:
        cut = {"inbound": ["us-west"], "outbound": ["us-west"]}
        await first.ask("POST", "/v1/admin/drop-list", cut)

        path = "/v1/state/a?wait=converged&threshold=1&timeout=100ms"
        answer = await first.ask("PUT", path, 1)

        assert (answer.status, answer.reason) == (504, "not-converged")
        assert answer.document["convergence"]["received"] == 1
        assert answer.document["convergence"]["missing"] == [second.agent.config.name]
        assert answer.document["written"]["dot"]
        assert (await first.ask("GET", "/v1/state/a")).document["value"] == 1

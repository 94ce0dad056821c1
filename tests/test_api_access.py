"""Who may ask what: tokens by scope, and nothing on behalf of somebody's web page."""

from __future__ import annotations

import resource

import pytest

from gossipswarm_agent.runtime.config import Tokens
from served import Served, one_agent, until

TOKENS = Tokens(read="reads-only", write="writes-too")
READER = {"Authorization": "Bearer reads-only"}
WRITER = {"Authorization": "Bearer writes-too"}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_without_a_token_nothing_is_told_or_changed(method):
    async with one_agent(tokens=TOKENS) as agent:
        value = 1 if method in ("PUT", "PATCH") else None
        answer = await agent.ask(method, "/v1/state/a", value)

        assert (answer.status, answer.reason) == (401, "unauthorised")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gossipswarm"'
        assert agent.agent.read("a") is None


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer wrong",
        "Bearer reads-only-and-more",
        "Bearer reads-onl",
        "Bearer ",
        "Bearer",
        "Basic reads-only",
        "reads-only",
        "Bearer höflich",
    ],
)
async def test_a_token_that_is_none_of_ours_is_refused(credential):
    async with one_agent(tokens=TOKENS) as agent:
        answer = await agent.ask("GET", "/v1/agent", headers={"Authorization": credential})

        assert (answer.status, answer.reason) == (401, "unauthorised")


async def test_the_read_token_reads_and_does_not_write():
    async with one_agent(tokens=TOKENS) as agent:
        assert (await agent.ask("GET", "/v1/agent", headers=READER)).status == 200
        assert (await agent.ask("GET", "/metrics", headers=READER)).status == 200
        for method, path, value in [
            ("PUT", "/v1/state/a", 1),
            ("POST", "/v1/batch", {"key": "a", "value": 1}),
            ("PATCH", "/v1/config", {"fanout": 4}),
            ("POST", "/v1/admin/reset-peers", {}),
            ("GET", "/v1/admin/drop-list", None),
        ]:
            answer = await agent.ask(method, path, value, headers=READER)
            assert (answer.status, answer.reason) == (403, "forbidden"), path
        assert agent.agent.read("a") is None


async def test_the_write_token_does_both():
    async with one_agent(tokens=TOKENS) as agent:
        assert (await agent.ask("PUT", "/v1/state/a", 1, headers=WRITER)).status == 200
        assert (await agent.ask("GET", "/v1/state/a", headers=WRITER)).status == 200
        bearer = {"Authorization": "bearer  writes-too"}
        assert (await agent.ask("GET", "/v1/state/a", headers=bearer)).status == 200


async def test_a_scope_without_a_token_is_open():
    async with one_agent(tokens=Tokens(write="writes-too")) as agent:
        assert (await agent.ask("GET", "/v1/agent")).status == 200
        assert (await agent.ask("PUT", "/v1/state/a", 1)).status == 401


async def test_without_a_write_token_the_read_token_closes_writing():
    async with one_agent(tokens=Tokens(read="reads-only")) as agent:
        assert (await agent.ask("PUT", "/v1/state/a", 1)).status == 401
        answer = await agent.ask("PUT", "/v1/state/a", 1, headers=READER)
        assert (answer.status, answer.reason) == (403, "forbidden")
        assert "not set at this agent" in answer.document["detail"]
        assert (await agent.ask("GET", "/v1/agent", headers=READER)).status == 200
        assert agent.agent.read("a") is None


async def test_a_token_also_comes_in_a_header_that_proxies_leave_alone():
    async with one_agent(tokens=TOKENS) as agent:
        for token, reads, writes in [
            ("writes-too", 200, 200),
            ("reads-only", 200, 403),
            ("wrong", 401, 401),
            ("", 401, 401),
        ]:
            headers = {"X-Gossipswarm-Token": token}
            assert (await agent.ask("GET", "/v1/agent", headers=headers)).status == reads
            assert (await agent.ask("PUT", "/v1/state/a", 1, headers=headers)).status == writes


async def test_the_header_of_its_own_counts_where_both_are_there():
    async with one_agent(tokens=TOKENS) as agent:
        of_somebody_else = {"Authorization": "Bearer of-the-proxy"}
        both = {**of_somebody_else, "X-Gossipswarm-Token": "reads-only"}
        assert (await agent.ask("GET", "/v1/agent", headers=both)).status == 200
        wrong = {**READER, "X-Gossipswarm-Token": "wrong"}
        assert (await agent.ask("GET", "/v1/agent", headers=wrong)).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_probes_need_no_token(path):
    async with one_agent(tokens=TOKENS) as agent:
        assert (await agent.ask("GET", path)).status == 200


async def _put_from(agent: Served, headers: dict[str, str]) -> tuple[int, str]:
    answer = await agent.ask("PUT", "/v1/state/a", 1, headers=headers)
    return answer.status, answer.reason if answer.status >= 400 else ""


async def test_a_page_of_another_site_cannot_steer_an_agent():
    async with one_agent() as agent:
        assert await _put_from(agent, {"Origin": "https://evil.example"}) == (403, "foreign-origin")
        assert await _put_from(agent, {"Origin": "null"}) == (403, "foreign-origin")
        assert await _put_from(agent, {"Origin": agent.url}) == (200, "")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:7946", 403),
        ("localhost.evil.example", 403),
        ("[nonsense", 403),
        ("localhost", 200),
        ("localhost:7946", 200),
        ("agent.localhost", 200),
        ("127.0.0.1:7946", 200),
        ("[::1]:7946", 200),
    ],
)
async def test_a_listener_on_loopback_goes_by_local_names_only(host, status):
    async with one_agent() as agent:
        assert (await agent.ask("GET", "/v1/agent", headers={"Host": host})).status == status


# States that refuse writes


async def test_a_degraded_swarm_reads_and_does_not_write():
    async with one_agent() as agent:
        await agent.ask("PUT", "/v1/state/a", 1)
        switched = await agent.ask("POST", "/v1/admin/degraded-mode", {"enabled": True})
        assert switched.document == {"enabled": True, "scope": "swarm"}

        refused = await agent.ask("PUT", "/v1/state/a", 2)

        assert (refused.status, refused.reason) == (503, "degraded")
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.document["retry_after_ms"] > 0
        found = (await agent.ask("GET", "/v1/state/a")).document
        assert (found["value"], found["degraded"]) == (1, True)

        await agent.ask("POST", "/v1/admin/degraded-mode", {"enabled": False})
        assert (await agent.ask("PUT", "/v1/state/a", 3)).status == 200


async def test_one_agent_can_be_degraded_alone():
    async with one_agent() as agent:
        wanted = {"enabled": True, "scope": "agent"}
        assert (await agent.ask("POST", "/v1/admin/degraded-mode", wanted)).document == wanted

        assert (await agent.ask("PUT", "/v1/state/a", 1)).reason == "degraded"
        settings = (await agent.ask("GET", "/v1/config")).document["settings"]
        assert settings["degraded_mode"] is False


async def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path, file_size_limit):
    async with one_agent(data_dir=tmp_path) as agent:
        await agent.ask("PUT", "/v1/state/kept", 1)
        file_size_limit(64 << 10)

        refused = await agent.ask("PUT", "/v1/state/large", "x" * (128 << 10))

        assert (refused.status, refused.reason) == (507, "disk-full")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await agent.ask("GET", "/v1/state/kept")).document["value"] == 1
        assert (await agent.ask("GET", "/v1/state/large")).status == 404
        file_size_limit(None)

        async def writes_again() -> bool:
            return (await agent.ask("PUT", "/v1/state/large", "y")).status == 200

        await until(writes_again)


@pytest.fixture
def file_size_limit():
    """Makes this process's files end at so many bytes, which to the journal is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        soft = before[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)

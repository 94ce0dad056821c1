"""Writes at an edge are its agent's: acknowledged there, refused there, and never done twice behind the caller's back."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edges import edge_of
from gossipswarm_agent.api.server import serve
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.edge import finding, frames, writes
from gossipswarm_agent.runtime.config import Seed, Tokens
from gossipswarm_agent.runtime.ports import bind_api
from kube_certificates import Authority
from served import one_agent, served, until


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a write takes to come back, the edge waits for it before it answers."""
    monkeypatch.setattr(writes, "OWN_SECONDS", 60.0)


async def test_a_write_is_acknowledged_by_the_agent_and_can_be_read_at_the_edge_then():
    async with one_agent() as agent, edge_of([agent]) as edge:
        for number in range(50):
            put = await edge.ask("PUT", "/v1/state/app", {"x": number, "y": number})
            assert (put.status, put.document["agent"]) == (200, "agent-0")
            assert (await edge.ask("GET", "/v1/state/app.x")).document["value"] == number
        patched = await edge.ask("PATCH", "/v1/state/app", {"y": None, "z": 1})
        assert patched.document["changed"] == 2
        assert (await edge.ask("GET", "/v1/state/app")).document["value"] == {"x": 49, "z": 1}
        assert (await edge.ask("DELETE", "/v1/state/app.z")).status == 200
        assert (await edge.ask("GET", "/v1/state/app.z")).status == 404
        assert edge.edge.read("app").etag == agent.agent.read("app").etag


async def test_an_edge_of_some_prefixes_waits_for_writes_that_concern_it_and_no_others():
    async with one_agent() as agent, edge_of([agent], prefixes=["app.config"]) as edge:
        for number in range(20):
            value = {"config": {"x": number}, "other": number}
            assert (await edge.ask("PUT", "/v1/state/app", value)).status == 200
            assert edge.edge.read("app.config.x").value == number
        replica = edge.edge.replica
        assert replica.concerns("app.config.x")
        assert replica.concerns("")
        assert not replica.concerns("app.configuration")
        written = await edge.ask("PUT", "/v1/state/app.configuration", 1)

        async def told() -> bool:
            origin, _, sequence = written.document["dot"].rpartition(":")
            return replica.vector.covers(origin, int(sequence))

        await until(told)


async def test_conditions_request_ids_and_convergence_work_as_at_the_agent():
    async with served("us-east", "us-west") as agents, edge_of(agents[:1]) as edge:
        first = await edge.ask("PUT", "/v1/state/k", 1, headers={"X-Request-Id": "one"})
        again = await edge.ask("PUT", "/v1/state/k", 1, headers={"X-Request-Id": "one"})
        assert first.document["dot"] == again.document["dot"]
        assert first.headers["X-Request-Id"] == "one"
        etag = first.headers["ETag"]
        assert (await edge.ask("PUT", "/v1/state/k", 2, headers={"If-Match": etag})).status == 200
        late = await edge.ask("PUT", "/v1/state/k", 3, headers={"If-Match": etag})
        assert (late.status, late.reason) == (412, "precondition-failed")
        wait = "?wait=converged&threshold=1.0&timeout=60s"
        converged = await edge.ask("PUT", f"/v1/state/k{wait}", 4)
        assert converged.document["convergence"]["received"] == 2
        assert agents[1].agent.read("k").value == 4


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "reason"),
    [
        ("PUT", "/v1/state/k", b"{", {}, 400, "malformed-json"),
        ("PUT", "/v1/state/k?nonsense=1", b"1", {}, 400, "unknown-parameter"),
        ("PUT", "/v1/state/%24swarm.x", b"1", {}, 422, "invalid-key"),
        ("PUT", "/v1/state/k", b"1", {"If-Match": "nonsense"}, 400, "malformed-etag"),
        ("PUT", "/v1/state/k", b"1", {"Content-Type": "image/png"}, 415, "unsupported-media-type"),
        ("PUT", "/v1/state/k", b'"' + b"x" * (1 << 20) + b'"', {}, 413, "body-too-large"),
        ("PUT", "/v1/state/k", b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}", {}, 422, "too-deep"),
        ("DELETE", "/v1/state/k", None, {"If-Match": '"0123"'}, 412, "precondition-failed"),
        ("GET", "/v1/convergence/no:1", None, {}, 404, "unknown-write"),
    ],
)
async def test_a_refusal_is_the_same_as_at_the_agent(
    method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, reason: str
):
    async with one_agent() as agent, edge_of([agent]) as edge:
        here = await edge.ask(method, path, body=body and io.BytesIO(body), headers=headers)
        there = await agent.ask(method, path, body=body and io.BytesIO(body), headers=headers)
        assert (here.status, here.reason) == (status, reason)
        assert here.document == there.document


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "too-many-writes"), (503, "degraded"), (507, "disk-full")],
)
async def test_a_refusal_of_the_agents_state_is_passed_on_with_when_to_come_again(
    status: int, reason: str, monkeypatch: pytest.MonkeyPatch
):
    async with one_agent() as agent, edge_of([agent]) as edge:

        async def refuse(*_: Any, **__: Any) -> Any:
            raise WriteRefused(status, reason, "for a test", 7.0)

        monkeypatch.setattr(agent.agent, "write", refuse)
        answer = await edge.ask("PUT", "/v1/state/k", 1)
        assert (answer.status, answer.reason) == (status, reason)
        assert answer.headers["Retry-After"] == "7"


async def test_administration_is_not_offered_by_an_edge():
    async with one_agent() as agent, edge_of([agent]) as edge:
        assert (await edge.ask("POST", "/v1/admin/drain", {})).status == 404
        assert (await edge.ask("PATCH", "/v1/config", {"fanout": 4})).status == 405
        assert (await edge.ask("GET", "/v1/members")).document["members"][0]["name"] == "agent-0"
        document = (await edge.ask("GET", "/openapi.json")).document
        assert "/v1/state/{key}" in document["paths"]
        assert "/v1/admin/drain" not in document["paths"]


async def test_a_batch_goes_through_line_by_line():
    async with one_agent() as agent, edge_of([agent]) as edge:
        lines = [{"key": f"k{number}", "value": number, "id": number} for number in range(300)]
        lines[7] = {"key": "", "value": 1, "id": 7}
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await edge.ask("POST", "/v1/batch", body=body, headers=headers)
        acks = [json.loads(line) for line in answer.body.splitlines()]
        assert [ack["id"] for ack in acks] == list(range(300))
        assert [ack["id"] for ack in acks if "error" in ack] == [7]
        assert edge.edge.read("k299").value == 299


async def test_a_batch_is_acknowledged_while_lines_are_still_being_sent():
    async with one_agent() as agent, edge_of([agent]) as edge:
        gate: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def lines() -> Any:
            while (line := await gate.get()) is not None:
                yield line

        gate.put_nowait(b'{"key": "a", "value": 1, "id": 1}\n')
        async with (
            asyncio.timeout(60),
            edge.session.post(f"{edge.url}/v1/batch", data=lines()) as response,
        ):
            assert json.loads(await response.content.readline())["id"] == 1
            gate.put_nowait(b'{"key": "b", "value": 1, "id": 2}\n')
            assert json.loads(await response.content.readline())["id"] == 2
            gate.put_nowait(None)
            assert await response.content.readline() == b""


async def test_an_edge_shows_its_token_and_follows_its_file(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("reader\n")
    async with (
        one_agent(tokens=Tokens(read="reader", write="writer")) as agent,
        edge_of([agent], token_file=token) as edge,
    ):
        refused = await edge.ask("PUT", "/v1/state/k", 1)
        assert (refused.status, refused.reason) == (403, "forbidden")
        token.write_text("writer\n")
        assert (await edge.ask("PUT", "/v1/state/k", 1)).status == 200
        token.write_text("stale\n")
        unknown = await edge.ask("PUT", "/v1/state/k", 2)
        assert (unknown.status, unknown.reason) == (503, "edge-unauthorised")
        token.unlink()
        missing = await edge.ask("PUT", "/v1/state/k", 2)
        assert (missing.status, missing.reason) == (503, "edge-unauthorised")
        assert (await edge.ask("GET", "/v1/state/k")).document["value"] == 1


async def test_an_edge_with_a_token_that_nobody_knows_says_so(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("stale")
    async with (
        one_agent(tokens=Tokens(read="reader")) as agent,
        edge_of([agent], token_file=token, level=False) as edge,
    ):

        async def told() -> bool:
            detail = (await edge.ask("GET", "/readyz")).document["detail"]
            return "upstream_token_file" in detail

        await until(told)
        token.write_text("reader")
        await edge.is_level()


async def test_a_write_whose_agent_is_lost_meanwhile_is_not_said_to_have_failed(
    monkeypatch: pytest.MonkeyPatch,
):
    # The lost one would take the edge back, if the other were slow to welcome it.
    monkeypatch.setattr(finding, "STAGGER_SECONDS", 60.0)
    monkeypatch.setattr(finding, "OPEN_SECONDS", 60.0)
    async with served("us-east", "us-east") as agents, edge_of(agents) as edge:
        lost = next(each for each in agents if each.agent.config.name == edge.follows)
        begun = asyncio.Event()

        async def never(*_: Any, **__: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(lost.agent, "write", never)
        writing = asyncio.ensure_future(edge.ask("PUT", "/v1/state/k", 1))
        await asyncio.wait_for(begun.wait(), 60)
        for connection in list(lost.server._listener.connections):
            connection.force_close()
        answer = await writing
        assert (answer.status, answer.reason) == (503, "outcome-unknown")
        assert "Retry-After" in answer.headers

        async def turned() -> bool:
            return edge.follows not in (None, lost.agent.config.name)

        await until(turned)
        assert (await edge.ask("PUT", "/v1/state/k", 1)).status == 200


async def test_a_write_under_way_is_answered_when_its_agent_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
):
    async with one_agent() as agent, edge_of([agent]) as edge:
        monkeypatch.setattr(frames, "BEAT_SECONDS", 60.0)

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(agent.agent, "write", never)
        answer = await edge.ask("PUT", "/v1/state/k", 1)
        assert (answer.status, answer.reason) == (503, "outcome-unknown")
        assert "silent" in answer.document["detail"]


async def test_a_batch_whose_agent_is_lost_breaks_off_after_what_was_acknowledged():
    async with one_agent() as agent, edge_of([agent]) as edge:

        async def lines() -> Any:
            yield b'{"key": "a", "value": 1, "id": 1}\n'
            await asyncio.Event().wait()

        async with asyncio.timeout(60):
            with pytest.raises(aiohttp.ClientError):
                async with edge.session.post(f"{edge.url}/v1/batch", data=lines()) as response:
                    assert json.loads(await response.content.readline())["id"] == 1
                    for connection in list(agent.server._listener.connections):
                        connection.force_close()
                    await response.content.readline()
                    raise AssertionError("the end of a batch that did not end")


async def test_agents_behind_tls_are_verified_by_their_authority(tmp_path: Path):
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.server("agents.example", [], ["agents.example"])
    context.load_cert_chain(*authority.pair("agents.example"))
    async with one_agent() as agent:
        server = await serve(agent.agent, sockets=[bind_api("127.0.0.1")], tls=context)
        host, _, port = server.addresses[0].rpartition(":")
        upstream = [Seed(host, int(port))]
        trusted = tmp_path / "ca.crt"
        trusted.write_bytes(stranger.certificate.read_bytes())
        async with edge_of([], upstream=upstream, ca_file=trusted, level=False) as edge:

            async def refused() -> bool:
                return "certificate verify failed" in (edge.edge.upstream.trouble or "")

            await until(refused)
            trusted.write_bytes(authority.certificate.read_bytes())
            await edge.is_level()
            assert (await edge.ask("PUT", "/v1/state/k", 1)).status == 200
        await server.close()

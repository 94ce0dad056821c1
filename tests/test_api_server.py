"""Listeners, connections and the end of both."""

from __future__ import annotations

import asyncio
import logging
import socket
import tracemalloc

import aiohttp
import pytest

from gossipswarm_agent.api import call
from gossipswarm_agent.api import server as api_server
from gossipswarm_agent.api.server import serve
from gossipswarm_agent.runtime.config import Tokens
from gossipswarm_agent.runtime.ports import bind_api
from served import one_agent, served, until


async def test_two_listeners_of_one_agent_trust_differently():
    async with one_agent() as agent:
        second = await serve(
            agent.agent, sockets=[bind_api("127.0.0.1")], tokens=Tokens(read="r", write="w")
        )
        try:
            url = f"http://{second.addresses[0]}/v1/agent"
            async with agent.session.get(url) as response:
                assert response.status == 401
            assert (await agent.ask("GET", "/v1/agent")).status == 200
        finally:
            await second.close()


async def test_an_agent_can_be_served_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "api")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    async with one_agent() as agent:
        server = await serve(agent.agent, sockets=[listening])
        try:
            assert server.addresses == []
            connector = aiohttp.UnixConnector(path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("http://localhost/healthz") as response,
            ):
                assert response.status == 200
        finally:
            await server.close()


async def test_a_closed_server_listens_no_more():
    async with one_agent() as agent:
        await agent.server.close()

        with pytest.raises(aiohttp.ClientConnectorError):
            await agent.ask("GET", "/healthz")
        await agent.server.close()  # once more does no harm


async def test_closing_lets_a_request_in_flight_finish():
    async with served("us-east", "us-west") as [agent, _]:
        cut = {"inbound": ["us-west"], "outbound": ["us-west"]}
        await agent.ask("POST", "/v1/admin/drop-list", cut)
        path = "/v1/state/a?wait=converged&threshold=1&timeout=500ms"
        waiting = asyncio.create_task(agent.ask("PUT", path, 1))

        async def written() -> bool:
            return agent.agent.read("a") is not None

        await until(written)
        await agent.server.close()

        assert (await waiting).reason == "not-converged"


async def test_idle_connections_do_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(api_server, "CLOSE_SECONDS", 3600.0)
    async with one_agent() as agent:
        await agent.ask("GET", "/healthz")  # leaves a connection open
        async with asyncio.timeout(60):
            await agent.server.close()


async def test_connections_beyond_the_limit_are_closed_at_once(monkeypatch):
    monkeypatch.setattr(api_server, "MAX_CONNECTIONS", 3)
    async with one_agent() as agent:
        host, _, port = agent.server.addresses[0].rpartition(":")
        kept = [await asyncio.open_connection(host, int(port)) for _ in range(3)]

        reader, writer = await asyncio.open_connection(host, int(port))

        async with asyncio.timeout(60):
            assert await reader.read() == b""
        assert agent.server.refused_connections == 1
        for _, each in (*kept, (reader, writer)):
            each.close()

        async def free_again() -> bool:
            try:
                return (await agent.ask("GET", "/healthz")).status == 200
            except aiohttp.ClientError:
                return False

        await until(free_again)


async def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(call, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(api_server, "LINGER_SECONDS", 0.1)
    async with one_agent() as agent:
        head = b"PUT /v1/state/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"

        answer = await agent.raw(head + b"[1")

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"reason":"request-timeout"' in answer


async def test_a_fault_of_ours_is_a_problem_and_a_log_entry(monkeypatch, caplog):
    async with one_agent() as agent:
        monkeypatch.setattr(agent.agent.node, "read", lambda key: 1 / 0)

        with caplog.at_level(logging.ERROR):
            answer = await agent.ask("GET", "/v1/state/a")

        assert (answer.status, answer.reason) == (500, "internal-error")
        assert "ZeroDivisionError" in caplog.text
        assert "ZeroDivisionError" not in answer.body.decode()
        assert (await agent.ask("GET", "/healthz")).status == 200


async def test_nothing_is_logged_for_requests_by_default(caplog):
    async with one_agent() as agent:
        with caplog.at_level(logging.DEBUG):
            caplog.clear()
            await agent.ask("GET", "/healthz")

        assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_requests_on_one_connection_are_answered_in_order():
    async with one_agent() as agent:
        gets = [f"GET /v1/{name} HTTP/1.1\r\nHost: localhost\r\n" for name in ("agent", "config")]
        request = "\r\n".join(
            [*gets, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"]
        )

        answer = await agent.raw(request.encode())

        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.index(b'"incarnation"') < answer.index(b'"settings"') < answer.index(b'"ok"')


async def test_a_further_listener_costs_next_to_nothing():
    async with one_agent() as agent:
        first = await serve(agent.agent, sockets=[bind_api("127.0.0.1")])
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            servers = [
                await serve(agent.agent, sockets=[bind_api("127.0.0.1")]) for _ in range(100)
            ]
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            for server in (first, *servers):
                await server.close()

        assert (after - before) / 100 < 10 << 10

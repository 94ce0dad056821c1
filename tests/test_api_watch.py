"""Changes as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest_asyncio

from gossipswarm_agent.api import limits, watch
from gossipswarm_agent.api import server as api_server
from gossipswarm_agent.core.results import Change, Reset
from served import Served, one_agent, served, until


class Event(NamedTuple):
    name: str
    id: str
    data: Any


class Stream:
    """A watch as its client sees it."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.last_id = ""

    async def next(self) -> Event:
        """The next event; heartbeats only move the id."""
        name, data = "", None
        async with asyncio.timeout(10):
            while True:
                line = (await self._content.readline()).decode()
                assert line, "the stream ended"
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = json.loads(value)
                elif line == "\n" and data is not None:
                    return Event(name, self.last_id, data)

    async def heartbeat(self) -> str:
        """The id to resume from that the next heartbeat tells."""
        async with asyncio.timeout(10):
            while not (await self._content.readline()).startswith(b": alive"):
                pass
            return (await self._content.readline()).decode().removeprefix("id: ").rstrip()

    async def end(self) -> None:
        """Returns when the stream has ended."""
        async with asyncio.timeout(10):
            await self._content.read()


@asynccontextmanager
async def watching(agent: Served, path: str, since: str = "") -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": since} if since else {}
    async with agent.session.get(f"{agent.url}{path}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Stream(response.content)


@pytest_asyncio.fixture
async def agent() -> AsyncIterator[Served]:
    async with one_agent() as found:
        yield found


async def test_a_change_is_told_as_it_happens(agent):
    async with watching(agent, "/v1/state/app?watch") as stream:
        await agent.ask("PUT", "/v1/state/app.ttl", 7200)

        event = await stream.next()

        assert event.name == "change"
        assert event.data["key"] == "app.ttl"
        assert event.data["value"] == 7200
        assert event.data["deleted"] is False
        assert event.data["version"] == 1
        assert event.data["origin"] == "agent-0"
        assert event.data["last_updated"].endswith("Z")


async def test_deletions_are_told(agent):
    await agent.ask("PUT", "/v1/state/app.ttl", 1)
    async with watching(agent, "/v1/state/app?watch") as stream:
        await agent.ask("DELETE", "/v1/state/app")

        event = await stream.next()

        assert (event.data["key"], event.data["deleted"]) == ("app.ttl", True)


async def test_only_what_lies_below_the_key_is_told(agent):
    async with watching(agent, "/v1/state/app?watch") as stream:
        await agent.ask("PUT", "/v1/state/application", 1)
        await agent.ask("PUT", "/v1/state/app.x", 2)

        assert (await stream.next()).data["key"] == "app.x"


async def test_the_root_tells_of_everything(agent):
    async with watching(agent, "/v1/state?watch") as stream:
        await agent.ask("PUT", "/v1/state/anything", 1)

        assert (await stream.next()).data["key"] == "anything"


async def test_changes_of_other_agents_are_told():
    async with (
        served("us-east", "us-west") as [first, second],
        watching(second, "/v1/state?watch") as stream,
    ):
        await first.ask("PUT", "/v1/state/a", 1)

        assert (await stream.next()).data["origin"] == "agent-0"


async def test_a_watch_resumes_behind_the_last_event_that_was_seen(agent):
    async with watching(agent, "/v1/state?watch") as stream:
        await agent.ask("PUT", "/v1/state/a", 1)
        seen = (await stream.next()).id
    await agent.ask("PUT", "/v1/state/b", 2)
    await agent.ask("PUT", "/v1/state/c", 3)

    async with watching(agent, "/v1/state?watch", since=seen) as stream:
        resumed = [await stream.next(), await stream.next()]

    assert [event.data["key"] for event in resumed] == ["b", "c"]


async def test_a_watch_that_saw_nothing_yet_can_be_resumed(agent):
    async with watching(agent, "/v1/state/app?watch") as stream:
        start = await stream.heartbeat()
    await agent.ask("PUT", "/v1/state/app", 1)

    async with watching(agent, f"/v1/state/app?watch&since={start}") as stream:
        assert (await stream.next()).data["key"] == "app"


async def test_an_id_of_nobody_starts_over_with_the_full_state(agent):
    await agent.ask("PUT", "/v1/state/app", {"a": 1, "b": 2})

    async with watching(agent, "/v1/state/app?watch", since="elsewhere-7") as stream:
        first, *rest = [await stream.next() for _ in range(3)]

    assert first.name == "reset"
    assert {event.data["key"]: event.data["value"] for event in rest} == {"app.a": 1, "app.b": 2}


async def test_a_quiet_watch_carries_heartbeats_with_a_place_to_resume_from(agent, monkeypatch):
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.05)
    async with watching(agent, "/v1/state/quiet?watch") as stream:
        before = await stream.heartbeat()
        await agent.ask("PUT", "/v1/state/elsewhere", 1)
        later = await stream.heartbeat()
        while later == before:
            later = await stream.heartbeat()

    async with watching(agent, "/v1/state/elsewhere?watch", since=before) as stream:
        assert (await stream.next()).data["key"] == "elsewhere"


async def test_a_watcher_that_does_not_keep_up_is_dropped_and_can_resume(agent, monkeypatch):
    monkeypatch.setattr(watch, "STALLED_SECONDS", 0.5)
    big = "x" * 1000
    reader, writer = await asyncio.open_connection(
        *agent.server.addresses[0].split(":"), limit=1024
    )
    writer.write(b"GET /v1/state?watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
    # From here on nothing is read: the buffers on the way fill, then the watcher's own.
    mutations = [{"key": f"k{n}", "value": big} for n in range(5000)]
    body = b"".join(json.dumps(each).encode() + b"\n" for each in mutations)

    async def pieces():
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    for _ in range(4):
        await agent.ask("POST", "/v1/batch", body=pieces())

    async def dropped() -> bool:
        return len(agent.agent.watchers) == 0

    await until(dropped)
    async with asyncio.timeout(60):
        received = await reader.read()
    writer.close()

    last = [line for line in received.split(b"\n") if line.startswith(b"id: ")][-1]
    seen = set(re.findall(rb'"key":"(k\d+)"', received[: received.rfind(last)]))
    async with watching(agent, "/v1/state?watch", since=last[4:].decode()) as stream:
        while len(seen) < 5000:
            event = await stream.next()
            if event.name == "change":
                seen.add(event.data["key"].encode())


async def test_a_stream_ends_when_the_server_closes(agent, monkeypatch):
    monkeypatch.setattr(api_server, "CLOSE_SECONDS", 3600.0)
    async with watching(agent, "/v1/state?watch") as stream:
        await stream.heartbeat()

        closing = asyncio.create_task(agent.server.close())

        async with asyncio.timeout(60):
            await closing
        await stream.end()


async def test_a_client_that_leaves_leaves_no_watcher_behind(agent):
    async with watching(agent, "/v1/state?watch") as stream:
        await stream.heartbeat()
        assert len(agent.agent.watchers) == 1

    async def gone() -> bool:
        return len(agent.agent.watchers) == 0

    await until(gone)


def test_events_are_one_block_each():
    change = Change("s-1", "a", {"x": "line\nbreak"}, False, 1, 1_700_000_000_123, "agent-0")

    assert watch.encode_event(change) == (
        b"id: s-1\nevent: change\n"
        b'data: {"key":"a","value":{"x":"line\\nbreak"},"deleted":false,"version":1,'
        b'"last_updated":"2023-11-14T22:13:20.123Z","origin":"agent-0"}\n\n'
    )
    assert watch.encode_event(Reset("s-2")) == b"id: s-2\nevent: reset\ndata: {}\n\n"
    assert limits.HEARTBEAT_SECONDS == 15.0

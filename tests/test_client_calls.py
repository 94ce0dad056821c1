"""Both clients against real agents: every test runs with the blocking and the asynchronous one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gossipswarm_agent.runtime.config import Tokens
from gossipswarm_client import (
    AsyncClient,
    Change,
    Client,
    Degraded,
    Forbidden,
    GossipSwarmError,
    Invalid,
    NotConverged,
    NotFound,
    PreconditionFailed,
    Reset,
    TimedOut,
    TooLarge,
    Unauthorised,
    Unreachable,
)
from served import Served, one_agent, served, until


class Blocking:
    """The blocking client, each call in a thread, so that one test is written for both."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if inspect.isgeneratorfunction(method) or name in ("batch", "watch"):
            return lambda *args, **kwargs: self._iterate(method, *args, **kwargs)
        return lambda *args, **kwargs: asyncio.to_thread(method, *args, **kwargs)

    async def _iterate(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        iterator = iter(method(*args, **kwargs))
        nothing = object()
        try:
            while (found := await asyncio.to_thread(next, iterator, nothing)) is not nothing:
                yield found
        finally:
            await asyncio.to_thread(iterator.close)


Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request) -> Connect:
    """Makes a client of an agent's URL."""

    @asynccontextmanager
    async def connected(agent: Served | str, **options: Any) -> AsyncIterator[Any]:
        url = agent if isinstance(agent, str) else agent.url
        if request.param == "asynchronous":
            async with AsyncClient(url, **options) as client:
                yield client
        else:
            with Client(url, **options) as client:
                yield Blocking(client)

    return connected


async def test_a_value_is_set_read_patched_and_deleted(connect):
    async with one_agent() as agent, connect(agent) as client:
        written = await client.set("app.config", {"ttl": 1, "ui": True})
        assert (written.key, written.version, written.changed) == ("app.config", 1, 2)
        assert written.convergence is None

        await client.patch("app.config", {"ttl": 2, "ui": None})
        found = await client.get("app.config")
        assert found.value == {"ttl": 2}
        assert (found.agent, found.region, found.degraded) == ("agent-0", "us-east", False)

        deleted = await client.delete("app.config")
        assert deleted.changed == 1
        with pytest.raises(NotFound) as caught:
            await client.get("app.config")
        assert caught.value.reason == "not-found"
        assert await client.find("app.config") is None


@pytest.mark.parametrize(
    "key", ["file-metadata/a b.py", r"host\.name", "ключ", "50%", "a?b#c&d", "/a//b/./c/"]
)
async def test_any_key_travels(connect, key):
    async with one_agent() as agent, connect(agent) as client:
        await client.set(key, "täxt\n")

        assert (await client.get(key)).value == "täxt\n"
        assert [each async for each in client.keys()] == [key]  # noqa: SIM118


async def test_whole_leaves_and_conditions(connect):
    async with one_agent() as agent, connect(agent) as client:
        first = await client.set("a", {"x": 1}, whole=True, if_none_match="*")
        assert first.changed == 1
        await client.set("a", 2, if_match=first.etag)

        with pytest.raises(PreconditionFailed):
            await client.set("a", 3, if_match=first.etag)
        with pytest.raises(PreconditionFailed):
            await client.delete("nothing", if_match="*")
        assert (await client.get("a")).value == 2


async def test_a_write_with_one_request_id_is_applied_once(connect):
    async with one_agent() as agent, connect(agent) as client:
        first = await client.set("a", 1, request_id="once")
        await client.set("a", 2)

        assert await client.set("a", 1, request_id="once") == first
        assert (await client.get("a")).value == 2


async def test_all_keys_are_listed_page_by_page(connect):
    async with one_agent() as agent, connect(agent) as client:
        lines = [{"key": f"list.k{n:04}", "value": n} for n in range(2500)]
        acks = [ack async for ack in client.batch(lines)]
        assert all(ack.ok for ack in acks)

        assert [key async for key in client.keys("list")] == [line["key"] for line in lines]


async def test_a_batch_yields_acknowledgements_in_order(connect):
    async with one_agent() as agent, connect(agent) as client:
        lines: list[Any] = [{"key": f"k{n}", "value": "x" * 100, "id": n} for n in range(5000)]
        lines[17] = {"key": "bad..key", "value": 1, "id": 17}

        acks = [ack async for ack in client.batch(lines)]

        assert [ack.id for ack in acks] == list(range(5000))
        assert [ack.id for ack in acks if not ack.ok] == [17]
        assert acks[17].error["reason"] == "invalid-key"
        assert acks[18].dot
        assert acks[18].version == 1
        assert agent.agent.node.state.leaf_count == 4999


async def test_an_empty_batch_yields_nothing(connect):
    async with one_agent() as agent, connect(agent) as client:
        assert [ack async for ack in client.batch([])] == []


async def test_what_goes_wrong_in_the_source_of_a_batch_is_raised(connect):
    def lines():
        yield {"key": "a", "value": 1}
        raise KeyError("broken source")

    async with one_agent() as agent, connect(agent) as client:
        with pytest.raises(KeyError, match="broken source"):
            [ack async for ack in client.batch(lines())]


async def test_a_batch_without_the_right_token_is_refused(connect):
    tokens = Tokens(read="r", write="w")
    async with one_agent(tokens=tokens) as agent, connect(agent, token="r") as client:
        with pytest.raises(Forbidden):
            [ack async for ack in client.batch([{"key": "a", "value": 1}] * 2000)]


async def test_changes_are_watched(connect):
    async with one_agent() as agent, connect(agent) as client:
        changes = client.watch("app")
        upcoming = asyncio.ensure_future(anext(changes))

        async def watched() -> bool:
            return len(agent.agent.watchers) == 1

        await until(watched)
        await agent.ask("PUT", "/v1/state/app.x", 1)

        change = await upcoming
        assert isinstance(change, Change)
        assert (change.key, change.value, change.deleted) == ("app.x", 1, False)
        await changes.aclose()


async def test_a_watch_survives_the_loss_of_its_connection(connect):
    async with one_agent() as agent, connect(agent) as client:
        changes = client.watch("app")
        upcoming = asyncio.ensure_future(anext(changes))

        async def watched() -> bool:
            return len(agent.agent.watchers) == 1

        await until(watched)
        await agent.ask("PUT", "/v1/state/app.a", 1)
        assert (await upcoming).key == "app.a"

        upcoming = asyncio.ensure_future(anext(changes))
        for connection in agent.server._listener.connections:
            connection.force_close()
        await agent.ask("PUT", "/v1/state/app.b", 2)

        assert (await upcoming).key == "app.b"
        await changes.aclose()


async def test_a_watch_from_an_unknown_place_starts_over(connect):
    async with one_agent() as agent, connect(agent) as client:
        await client.set("app.a", 1)

        changes = client.watch("app", since="elsewhere-1")
        first, second = await anext(changes), await anext(changes)

        assert isinstance(first, Reset)
        assert second.key == "app.a"
        await changes.aclose()


async def test_a_watch_can_be_limited_in_time(connect):
    async with one_agent() as agent, connect(agent) as client:
        with pytest.raises(TimedOut):
            [change async for change in client.watch("app", timeout=0.2)]


async def test_a_watch_that_may_not_be_is_not_tried_again(connect):
    tokens = Tokens(read="r")
    async with one_agent(tokens=tokens) as agent, connect(agent, token="wrong") as client:
        with pytest.raises(Unauthorised):
            await anext(client.watch())


async def test_a_write_waits_for_everybody(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        written = await client.set("a", 1, wait=True, threshold=1.0)

        assert written.convergence.converged is True
        assert written.convergence.received == 2


async def test_convergence_is_waited_for(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        written = await client.set("a", 1, trace=True)

        reached = await client.wait_for("convergence-reached", threshold=0.95)

        assert reached.dot == written.dot
        assert reached.share == 1.0
        assert (await client.convergence(written.dot)).converged
        assert [each.dot for each in await client.recent_convergence()] == [written.dot]
        assert (await client.convergence_stats()).samples == 1


async def test_without_a_write_of_its_own_the_latest_is_waited_for(connect):
    async with one_agent() as agent, connect(agent) as client:
        with pytest.raises(NotFound, match="no traced write"):
            await client.wait_for()
        dot = (await agent.ask("PUT", "/v1/state/a?trace", 1)).document["dot"]

        assert (await client.wait_for()).dot == dot


async def test_convergence_that_does_not_come_is_not_waited_for_longer_than_asked(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        await client.set_drop_list(["us-west"], ["us-west"])
        await client.set("a", 1, trace=True)

        with pytest.raises(NotConverged) as caught:
            await client.wait_for(threshold=1.0, timeout=0.3)

        assert caught.value.problem["convergence"]["received"] == 1
        with pytest.raises(NotConverged) as caught:
            await client.set("b", 1, wait=True, threshold=1.0, timeout=0.2)
        assert caught.value.problem["written"]["key"] == "b"


async def test_a_partition_is_waited_for_until_it_comes_and_goes(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        await client.set_drop_list(["us-west"], ["us-west"])
        assert (await client.wait_for("partition-detected", timeout=60)).status == "partitioned"
        assert len((await client.partition()).groups) == 2

        assert (await client.set_drop_list()).inbound == []
        assert (await client.wait_for("partition-healed", timeout=60)).status == "healthy"
        with pytest.raises(TimedOut):
            await client.wait_for("partition-detected", timeout=0.2)


async def test_an_unknown_event_is_not_waited_for(connect):
    async with one_agent() as agent, connect(agent) as client:
        with pytest.raises(ValueError, match="convergence-reached, ready"):
            await client.wait_for("the-end")


async def test_the_swarm_is_described(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        assert (await client.wait_for("ready")).status == "ready"
        assert await client.ready() is True
        assert (await client.agent()).name == "agent-0"
        assert [member.name for member in await client.members()] == ["agent-0", "agent-1"]
        assert [region.name for region in await client.regions()] == ["us-east", "us-west"]
        assert (await client.partition()).status == "healthy"
        conflicts = await client.conflicts()
        assert (conflicts.open, conflicts.history) == ([], [])
        assert "gossipswarm_leaves" in await client.metrics()


async def test_the_swarm_is_administered(connect):
    async with served("us-east", "us-west") as [agent, _], connect(agent) as client:
        assert (await client.configure(fanout=5)).settings["fanout"] == 5
        assert (await client.config()).settings["fanout"] == 5
        assert (await client.anti_entropy("agent-1")).peer == "agent-1"
        assert await client.keyring() == []
        assert await client.reset_peers() >= 0
        assert await client.release() == []
        assert (await client.drop_list()).outbound == []
        assert await client.degraded_mode(True, scope="agent") is True
        with pytest.raises(Degraded) as caught:
            await client.set("a", 1)
        assert caught.value.retry_after > 0
        assert await client.degraded_mode(False, scope="agent") is False


async def test_errors_carry_the_problem(connect):
    async with one_agent() as agent, connect(agent) as client:
        await client.set("app.config", 1)
        with pytest.raises(NotFound) as caught:
            await client.get("app.confg")
        assert caught.value.suggestions == ["app.config"]
        with pytest.raises(Invalid, match="empty segment") as caught:
            await client.set("a..b", 1)
        assert (caught.value.status, caught.value.reason) == (422, "invalid-key")
        with pytest.raises(Invalid, match="did you mean fanout"):
            await client.configure(fanuot=3)
        with pytest.raises(TooLarge):
            await client.set("a", "x" * (1 << 20))
        with pytest.raises(ValueError, match="JSON"):
            await client.set("a", float("nan"))
        assert (await client.get("app.config")).value == 1  # and the client goes on working


async def test_any_request_can_be_made(connect):
    async with one_agent() as agent, connect(agent) as client:
        await client.request(
            "PUT", "/v1/state/a", body={"x": 1}, query={"trace": True, "op": "leaf"}
        )

        assert (await client.request("GET", "/v1/state/a"))["value"] == {"x": 1}
        with pytest.raises(Invalid, match="did you mean 'watch'"):
            await client.request("GET", "/v1/state", query={"wach": True})


async def test_tokens_are_presented(connect):
    tokens = Tokens(read="r", write="w")
    async with one_agent(tokens=tokens) as agent:
        async with connect(agent, token="w") as client:
            await client.set("a", 1)
        async with connect(agent, token="r") as client:
            assert (await client.get("a")).value == 1
            with pytest.raises(Forbidden):
                await client.set("a", 2)
        async with connect(agent) as client:
            with pytest.raises(Unauthorised):
                await client.get("a")


async def test_nobody_there_is_unreachable(connect):
    async with one_agent() as agent:
        url = agent.url
    async with connect(url, retries=0) as client:
        with pytest.raises(Unreachable):
            await client.get("a")
        with pytest.raises(Unreachable):
            await anext(client.watch())
        with pytest.raises(Unreachable):
            await anext(client.batch([{"key": "a", "value": 1}]))
        assert issubclass(Unreachable, GossipSwarmError)


async def test_a_connection_that_went_stale_is_made_again(connect):
    async with one_agent() as agent, connect(agent, retries=1) as client:
        await client.set("a", 1)
        for connection in agent.server._listener.connections:
            connection.force_close()

        assert (await client.set("a", 2)).version == 2


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host:1",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://u@h:1",
        "http://h:1/?q",
    ],
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match=r"expected|not a port"):
        Client(url)
    with pytest.raises(ValueError, match=r"expected|not a port"):
        AsyncClient(url)


async def test_an_asynchronous_source_is_sent_line_by_line():
    async with one_agent() as agent, AsyncClient(agent.url) as client:
        answered = asyncio.Event()

        async def lines():
            yield {"key": "a", "value": 1}
            async with asyncio.timeout(60):
                await answered.wait()
            yield {"key": "b", "value": 2}

        acks = []
        async for ack in client.batch(lines()):
            acks.append(ack)
            answered.set()

        assert len(acks) == 2

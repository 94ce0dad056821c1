"""Real agents on loopback with their HTTP API, for the tests of the API and of its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import aiohttp

from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import AgentConfig, Seed, Tokens
from gossipswarm_agent.runtime.ports import bind_api

JSON = "application/json"


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait until the condition holds; fails after the deadline."""
    deadline = monotonic() + seconds
    while not await condition():
        assert monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


class Answer(NamedTuple):
    """An answer read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of a problem document, which this must be."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        document = self.document
        assert document["status"] == self.status
        assert document["type"] == f"urn:gossipswarm:problem:{document['reason']}"
        assert document["title"]
        assert document["detail"]
        return str(document["reason"])


class Served:
    """One agent, its API and a session to ask it with."""

    def __init__(self, agent: Agent, server: Server, session: aiohttp.ClientSession) -> None:
        self.agent = agent
        self.server = server
        self.session = session
        self.url = f"http://{server.addresses[0]}"

    async def ask(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send ``value`` as JSON, or ``body`` as it is."""
        sent = {"Content-Type": JSON} if value is not None else {}
        data = json.dumps(value).encode() if value is not None else body
        async with self.session.request(
            method,
            f"{self.url}{path}",
            data=data,
            headers={**sent, **(headers or {})},
            skip_auto_headers=["Content-Type"],
            timeout=aiohttp.ClientTimeout(total=120),
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, request: bytes) -> bytes:
        """Everything that comes back for these bytes until the agent closes the connection."""
        host, _, port = self.server.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            async with asyncio.timeout(60):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def served(
    *regions: str,
    data_dir: Path | None = None,
    tokens: Tokens | None = None,
    settings: Mapping[str, Any] | None = None,
    keys: list[bytes] | None = None,
) -> AsyncIterator[list[Served]]:
    """One agent in each of these regions, all of which know each other; one agent by default."""
    regions = regions or ("us-east",)
    declared = {f"agent-{number}": region for number, region in enumerate(regions)}
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found: list[Served] = []
        for name, region in declared.items():
            listening = bind_api("127.0.0.1")
            seeds = []
            if found:
                host, _, port = found[0].agent.gossip_address.rpartition(":")
                seeds = [Seed(host, int(port))]
            config = AgentConfig(
                name=name,
                region=region,
                swarm="tests",
                data_dir=data_dir / name if data_dir is not None else None,
                api_port=listening.getsockname()[1],
                declared=declared,
                seeds=seeds,
                keys=keys,
                settings=dict(settings or {}),
            )
            agent = await Agent.start(config)
            stack.push_async_callback(agent.stop, leave=False)
            server = await serve(agent, sockets=[listening], tokens=tokens)
            stack.push_async_callback(server.close)
            found.append(Served(agent, server, session))

        async def together() -> bool:
            return all(
                each.agent.node.membership.size == len(found) and each.agent.ready for each in found
            )

        await until(together)
        yield found


@asynccontextmanager
async def one_agent(**options: Any) -> AsyncIterator[Served]:
    """A single agent that is alone by declaration."""
    async with served(**options) as [agent]:
        yield agent

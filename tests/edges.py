"""Edges on real sockets beside real agents, for the tests of edges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gossipswarm_agent.api.server import serve
from gossipswarm_agent.edge.config import EdgeConfig
from gossipswarm_agent.edge.edge import Edge
from gossipswarm_agent.edge.serving import table
from gossipswarm_agent.runtime.config import Seed
from gossipswarm_agent.runtime.ports import bind_api
from served import Served, until


class ServedEdge(Served):
    """One edge, its API and a session to ask it with."""

    @property
    def edge(self) -> Edge:
        edge: Any = self.agent
        assert isinstance(edge, Edge)
        return edge

    @property
    def follows(self) -> str | None:
        """The agent that it follows."""
        current = self.edge.upstream.current
        return None if current is None else current.agent

    async def has(self, key: str, value: Any) -> None:
        """Wait until the edge shows this value."""

        async def shown() -> bool:
            reading = self.edge.read(key)
            return (None if reading is None else reading.value) == value

        await until(shown)

    async def is_level(self) -> None:
        """Wait until it holds the whole state and follows an agent."""

        async def level() -> bool:
            return self.edge.replica.complete and self.follows is not None

        await until(level)


def api_of(agent: Served) -> Seed:
    host, _, port = agent.url.removeprefix("http://").rpartition(":")
    return Seed(host, int(port))


@asynccontextmanager
async def edge_of(
    agents: Sequence[Served], *, level: bool = True, **options: Any
) -> AsyncIterator[ServedEdge]:
    """An edge of these agents; with all that they hold, unless ``level`` is false."""
    listening = bind_api("127.0.0.1")
    config = EdgeConfig(
        **{
            "name": "edge",
            "region": "us-east",
            "swarm": "tests",
            "upstream": [api_of(agent) for agent in agents],
            **options,
        }
    )
    edge = await Edge.start(config)
    try:
        server = await serve(edge, sockets=[listening], table=table())
        try:
            async with aiohttp.ClientSession() as session:
                found = ServedEdge(edge, server, session)  # type: ignore[arg-type]
                if level:
                    await found.is_level()
                yield found
        finally:
            await server.close()
    finally:
        await edge.stop()

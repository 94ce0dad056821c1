"""Real agents on loopback, for the tests of the runtime."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import AgentConfig, Seed
from loopback import HOST, until

KEY = bytes(range(32))
KEY_TEXT = base64.b64encode(KEY).decode()


def put(key: str, value: Any) -> list[Mutation]:
    return [Mutation("put", key, value)]


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def config_of(name: str, region: str = "us-east", **others: Any) -> AgentConfig:
    return AgentConfig(**{"name": name, "region": region, "swarm": "test", "keys": [KEY], **others})


def seed_of(agent: Agent) -> Seed:
    return Seed(HOST, agent.node.identity.port, agent.config.region)


@asynccontextmanager
async def running(config: AgentConfig) -> AsyncIterator[Agent]:
    agent = await Agent.start(config)
    try:
        yield agent
    finally:
        await agent.stop()
        assert agent.driver.defects == 0


@asynccontextmanager
async def swarm(
    regions: Sequence[str], directory: Path | None = None, **others: Any
) -> AsyncIterator[list[Agent]]:
    """One agent for each region named, all of which know each other."""
    agents: list[Agent] = []
    try:
        for number, region in enumerate(regions):
            data = directory / f"agent-{number}" if directory is not None else None
            agents.append(
                await Agent.start(
                    config_of(
                        f"agent-{number}",
                        region,
                        data_dir=data,
                        seeds=[seed_of(agent) for agent in agents[:1]],
                        **others,
                    )
                )
            )
        everybody = len(agents) - 1
        await until(lambda: all(len(a.node.membership.live()) == everybody for a in agents), 60)
        await until(lambda: all(a.ready for a in agents), 60)
        yield agents
    finally:
        for agent in agents:
            await agent.stop()
        assert [agent.driver.defects for agent in agents] == [0] * len(agents)

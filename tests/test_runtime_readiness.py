"""When clients are sent to an agent: caught up, alone on purpose, or alone for long; never when it is locked out."""

from __future__ import annotations

import asyncio
import os

import pytest

from agents import config_of, put, running, seed_of
from gossipswarm_agent.runtime import readiness
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import Seed
from gossipswarm_agent.runtime.ports import bind_gossip
from loopback import HOST, free_ports, until


def nowhere() -> Seed:
    """Where nobody listens."""
    sockets = bind_gossip(HOST)
    sockets.close()
    return Seed(HOST, sockets.port)


async def test_an_agent_alone_by_declaration_is_ready_at_once_although_it_has_seeds() -> None:
    seeds = [Seed("_gossip-udp._udp.swarm.invalid", 0, srv=True)]
    async with running(config_of("one", declared={"one": "us-east"}, seeds=seeds)) as agent:
        assert agent.ready


async def test_an_agent_that_knows_of_no_other_is_ready_at_once() -> None:
    async with running(config_of("one")) as agent:
        assert agent.ready


@pytest.mark.parametrize("declared", [None, {"one": "us-east", "two": "us-east"}])
async def test_an_agent_that_meets_nobody_serves_after_a_while(
    declared: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config_of("one", declared=declared, seeds=[nowhere()])) as agent:
        assert agent.unreadiness == "the agent has not yet met anybody of its swarm"
        monkeypatch.setattr(readiness, "ALONE_SECONDS", 0.3)
        await until(lambda: agent.ready)


async def test_an_agent_without_the_right_key_is_never_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "ALONE_SECONDS", 0.0)
    async with running(config_of("one")) as one:
        other = config_of("two", keys=[os.urandom(32)], seeds=[seed_of(one)])
        async with running(other) as two:
            await one.set_peers([seed_of(two)], None)
            await until(lambda: not two.ready)
            assert "none of this agent's keys opens" in str(two.unreadiness)


async def test_agents_that_start_all_at_once_do_not_wait_for_each_other_to_be_ready() -> None:
    names = [f"pod-{number}" for number in range(5)]
    declared = dict.fromkeys(names, "us-east")
    ports = free_ports(len(names))
    seeds = [Seed(HOST, port) for port in ports]
    configs = [
        config_of(name, gossip_port=port, declared=declared, seeds=seeds)
        for name, port in zip(names, ports, strict=True)
    ]
    agents = await asyncio.gather(*map(Agent.start, configs))
    try:
        await until(lambda: all(agent.ready for agent in agents))
    finally:
        for agent in agents:
            await agent.stop()


async def test_an_agent_that_was_ready_stays_so_when_all_others_are_gone() -> None:
    async with running(config_of("one")) as one:
        async with running(config_of("two", seeds=[seed_of(one)])) as two:
            await until(lambda: one.ready and two.ready)
        await until(lambda: not one.node.membership.live())
        assert one.ready


async def test_an_agent_is_ready_only_with_the_whole_of_a_large_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "ALONE_SECONDS", 0.0)
    async with running(config_of("one")) as one:
        for number in range(40):
            await one.write(put(f"large.k{number}", os.urandom(20_000).hex()))
        async with running(config_of("two", seeds=[seed_of(one)])) as two:
            while not two.ready or not two.node.membership.live():
                held = two.node.state.leaf_count
                await asyncio.sleep(0)
            assert held <= two.node.state.leaf_count == one.node.state.leaf_count

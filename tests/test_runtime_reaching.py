"""One agent tries whether its packets get to another: by new flows, by those in use, and not across a cut."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agents import config_of, put, running, swarm
from gossipswarm_agent.runtime import reaching
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.drops import DropList
from loopback import HOST, peers, until


def address_of(agent: Agent) -> tuple[str, int]:
    return HOST, agent.node.identity.port


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is waited for as long as it takes."""
    monkeypatch.setattr(reaching, "PROBE_SECONDS", 60.0)


async def ways(source: Agent, target: Agent) -> dict[str, bool]:
    flows = await source.transport.reaching.probe(address_of(target))
    assert all((flow.rtt_ms is not None) == flow.open for flow in flows if flow.kind == "udp")
    return {f"{flow.age} {flow.kind}": flow.open for flow in flows}


@pytest.mark.usefixtures("patient")
async def test_packets_get_there_and_back_by_every_way_that_gossip_has() -> None:
    async with swarm(["us-east", "us-west"]) as (east, west):
        await east.write(put("large", "x" * 100_000))
        await until(lambda: west.read("large") is not None)
        found = await ways(east, west)
        assert found.pop("live tcp") in (True, False)
        assert found == {"fresh udp": True, "fresh tcp": True, "live udp": True}


@pytest.mark.usefixtures("patient")
async def test_a_stream_in_use_is_seen_and_one_that_was_given_up_is_not() -> None:
    async with peers(2) as (one, other):
        one.send(other, b"\x91" + b"x" * 5000)
        await until(lambda: other.inbound)
        probe = one.transport.reaching.probe
        assert {f.kind for f in await probe(other.address) if f.open} == {"udp", "tcp"}
        live = [f.open for f in await probe(other.address) if f.age == "live"]
        assert live == [True, True]
        one.transport.reset_peers()
        live = [f.open for f in await probe(other.address) if f.age == "live"]
        assert live == [True, False]
        assert len(other.inbound) == 1, "the core sees no probe"


async def test_nothing_gets_across_a_drop_list_at_either_end() -> None:
    async with swarm(["us-east", "us-west"]) as (east, west):
        for dropping in (
            [(east, DropList(outbound=frozenset({"us-west"})))],
            [(west, DropList(inbound=frozenset({"us-east"})))],
        ):
            for agent, drops in dropping:
                agent.set_drops(drops)
            assert not any((await ways(east, west)).values())
            for agent, _ in dropping:
                agent.set_drops(DropList())
            assert (await ways(east, west))["fresh udp"]


async def test_an_agent_that_was_never_met_is_held_to_the_region_that_it_says() -> None:
    async with running(config_of("a")) as east, running(config_of("b", "us-west")) as west:
        west.set_drops(DropList(inbound=frozenset({"us-east"})))
        assert not any((await ways(east, west)).values())
        assert (await ways(west, east))["fresh tcp"]


async def test_agents_of_another_swarm_and_those_that_are_gone_do_not_answer() -> None:
    async with peers(1) as (one,), peers(1, swarm="other") as (other,):
        assert not any(f.open for f in await one.transport.reaching.probe(other.address))
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            nobody = unused.getsockname()
        assert not any(f.open for f in await one.transport.reaching.probe(nobody))


@pytest.mark.usefixtures("patient")
async def test_probes_at_a_time_take_turns_and_all_come_about() -> None:
    async with peers(3) as (one, two, three):
        probe = one.transport.reaching.probe
        found = await asyncio.gather(*(probe(peer.address) for peer in (two, three, two, three)))
        assert all(flow.open for flows in found for flow in flows if flow.kind == "udp")

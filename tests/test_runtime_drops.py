"""Regions are cut off on purpose as a firewall would do it: both ways, one way, for a while."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from agents import config_of, put, running, seed_of, swarm
from gossipswarm_agent.core.frames import Frame, Inbound
from gossipswarm_agent.core.messages import Digest, Join, MemberRecord, encode
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.drops import DropList, InboundFilter, sender_of
from loopback import peers, until

REGIONS = {"here-1": "here", "there-1": "there", "third-1": "third"}


def cut(*groups: list[Agent], until_ms: int | None = None) -> None:
    """Cut groups of agents off from each other."""
    for group in groups:
        others = frozenset(a.config.region for g in groups if g is not group for a in g)
        for agent in group:
            agent.set_drops(DropList(others, others, until_ms))


def heal(*agents: Agent) -> None:
    for agent in agents:
        agent.set_drops(DropList())


def digest(sender: str, *, hop: int = 1, source: int = 1) -> Inbound:
    return Inbound(Frame(encode(Digest(sender, 1, 2))), hop, 0, ("127.0.0.1", source), b"", 0)


@pytest.mark.parametrize(
    "name", ["a", "gossip-us-east-1", "x" * 31, "y" * 32, "é" * 100, "z" * 255]
)
def test_the_sender_is_found_without_decoding_a_message(name: str) -> None:
    assert sender_of(encode(Digest(name, 1, 2))) == name
    record = MemberRecord(name, "r", "h", 1, "", 1, 0)
    assert sender_of(encode(Join(name, record))) == name


def test_the_sender_of_what_is_no_message_is_nobody_and_never_an_error() -> None:
    rng = random.Random(1)
    for length in range(40):
        for _ in range(50):
            sender_of(rng.randbytes(length))
    assert sender_of(b"") is None
    assert sender_of(b"\x92\x01\x05") is None


def test_frames_straight_from_a_region_that_is_cut_off_are_refused() -> None:
    inbound = InboundFilter(frozenset({"there"}), REGIONS.get)
    assert inbound.refuses(digest("there-1"))
    assert not inbound.refuses(digest("third-1"))
    assert not inbound.refuses(digest("stranger-1"))


def test_a_frame_by_way_of_a_third_region_is_let_in() -> None:
    inbound = InboundFilter(frozenset({"there"}), REGIONS.get)
    assert inbound.refuses(digest("there-1", hop=2, source=7)), "who passed it on is not known yet"
    inbound.refuses(digest("third-1", source=7))
    assert not inbound.refuses(digest("there-1", hop=2, source=7))
    inbound.refuses(digest("there-1", source=8))
    assert inbound.refuses(digest("third-1", hop=2, source=8)), "passed on by who is cut off"


def test_somebody_who_joins_from_a_region_that_is_cut_off_is_refused() -> None:
    inbound = InboundFilter(frozenset({"there"}), REGIONS.get)
    record = MemberRecord("new", "there", "127.0.0.1", 1, "", 1, 0)
    joining = digest("new")._replace(frame=Frame(encode(Join("new", record))))
    assert inbound.refuses(joining)


async def test_nothing_goes_out_to_a_region_that_is_cut_off() -> None:
    async with peers(2) as (one, other):
        one.transport.region_of_address = {other.address: "there"}.get
        large = b"\x91" + os.urandom(5000)
        one.send(other, large)
        await until(lambda: len(other.inbound) == 1)
        one.transport.set_drops(DropList(outbound=frozenset({"there"})), 0)
        await until(lambda: other.transport.streams_open == 0)
        one.send(other, b"\x91small")
        one.send(other, large)
        assert one.dropped == {"region": 2}
        one.transport.set_drops(DropList(), 0)
        one.send(other, b"\x91after")
        await until(lambda: len(other.inbound) == 2)
        assert other.bodies[1] == b"\x91after"


async def test_streams_from_a_region_that_is_cut_off_are_closed_and_not_taken_again() -> None:
    async with peers(2) as (one, other):
        other.transport.region_of_address = {one.address: "there"}.get
        large = b"\x91" + os.urandom(5000)
        one.send(other, large)
        await until(lambda: len(other.inbound) == 1)
        other.transport.set_drops(DropList(inbound=frozenset({"there"})), 0)
        await until(lambda: one.transport.streams_open == 0)
        one.send(other, large)
        await until(lambda: other.dropped.get("region"))
        assert len(other.inbound) == 1


async def test_a_cut_ends_by_itself() -> None:
    async with peers(1) as (one,):
        now = time.time_ns() // 1_000_000
        one.transport.set_drops(DropList(frozenset({"x"}), frozenset({"x"}), now + 50), now)
        assert one.transport.drops.inbound == {"x"}
        await until(lambda: one.transport.drops == DropList())
        one.transport.set_drops(DropList(frozenset({"x"}), frozenset({"x"}), now - 1), now)
        assert one.transport.drops == DropList()


async def test_a_partition_is_detected_survived_and_healed() -> None:
    async with swarm(["us-east", "us-west", "eu-central"]) as agents:
        east, west, central = agents
        notices: list[str] = []
        for agent in agents:
            agent.subscribe(lambda notice: notices.append(notice.event))
        await west.write(put("app.config.cache_ttl", 3600))
        await until(lambda: east.read("app.config.cache_ttl") is not None)

        cut([east], [west, central])
        await until(lambda: all(len(a.node.regions.groups()) == 2 for a in agents), 40)
        assert notices.count("partition-detected") >= 3
        await east.write(put("app.config.cache_ttl", 7200))
        await asyncio.sleep(0.01)  # so that the two times differ
        await west.write(put("app.config.cache_ttl", 1800))
        await until(lambda: central.read("app.config.cache_ttl").value == 1800)
        assert east.read("app.config.cache_ttl").value == 7200
        assert len(east.node.membership.live()) == 2, "beyond a cut nobody is dead"

        heal(*agents)
        await until(lambda: all(a.read("app.config.cache_ttl").value == 1800 for a in agents), 40)
        await until(lambda: all(len(a.node.regions.groups()) == 1 for a in agents), 40)
        await until(lambda: len({a.node.state.losses_hash for a in agents}) == 1, 40)
        _, history = east.node.state.conflicts()
        assert [loss.key for loss in history] == ["app.config.cache_ttl"]


async def test_where_only_two_regions_are_cut_the_third_passes_on() -> None:
    async with swarm(["us-east", "us-west", "eu-central"]) as (east, west, central):
        east.set_drops(DropList(frozenset({"us-west"}), frozenset({"us-west"})))
        west.set_drops(DropList(frozenset({"us-east"}), frozenset({"us-east"})))
        await until(lambda: not central.node.regions.linked("us-east", "us-west"), 40)
        await until(lambda: not east.node.regions.linked("us-east", "us-west"), 40)
        assert len(east.node.regions.groups()) == 1
        await east.write(put("by.way", "of the third"))
        await until(lambda: west.read("by.way") is not None, 10)


async def test_connections_to_a_region_that_fell_silent_are_closed() -> None:
    async with swarm(["us-east", "us-west"]) as (east, west):
        await east.write(put("app.blob", os.urandom(80_000).hex()))
        await until(lambda: west.read("app.blob") is not None, 40)
        assert east.transport.streams_open > 0
        # East's own connection is untouched by this, as by a firewall that says nothing.
        west.set_drops(DropList(outbound=frozenset({"us-east"})))
        await until(lambda: not east.node.regions.linked("us-east", "us-west"), 40)
        await until(lambda: east.transport.streams_open == 0)


async def test_an_agent_that_starts_within_a_cut_hears_nobody_beyond_it() -> None:
    async with running(config_of("a", "us-east")) as agent:
        born_cut = config_of("b", "us-west", seeds=[seed_of(agent)], drop_regions=["us-east"])
        async with running(born_cut) as other:
            await until(lambda: other.transport.counters.dropped.get("region", 0) > 3)
            assert not agent.node.membership.live()
            assert not other.node.membership.live()
            other.set_drops(DropList())
            await until(lambda: agent.node.membership.live() and other.node.membership.live(), 60)

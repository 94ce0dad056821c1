"""When the operator knocks at a gossip port, and at whose."""

from __future__ import annotations

import asyncio

import pytest

from gossipswarm_operator.observed import Pod
from gossipswarm_operator.probing import APPLIED_SECONDS, PERIOD_SECONDS, PolicyProbe, knock
from operator_world import START


def pod(number: int, *, ready: bool = True, address: str | None = None) -> Pod:
    return Pod(
        name=f"demo-us-east-{number}",
        region="us-east",
        ordinal=number,
        uid=f"uid-{number}",
        address=address or f"10.0.0.{number}",
        ready=ready,
        deleting=False,
        revision="r",
        image="i",
        since=START,
    )


class Network:
    """Notes who knocked where. ``open_to`` are addresses that let the operator in."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.open_to: set[str] = set()
        self.knocked: list[str] = []
        self.policies = "as made"
        self.pods = [pod(number) for number in range(3)]
        self.probe = PolicyProbe(self._knock, lambda: self.now)

    async def _knock(self, host: str, port: int) -> bool:
        assert port == 7600
        self.knocked.append(host)
        return host in self.open_to

    async def look(self, after: float = 0.0) -> bool | None:
        self.now += after
        self.knocked.clear()
        return await self.probe.gossip_port_open(self.pods, self.policies)


@pytest.fixture
def network() -> Network:
    return Network()


async def settled(network: Network) -> None:
    """A first try, and the one after a network has had time to apply what was just made."""
    assert await network.look() is False
    assert await network.look(APPLIED_SECONDS) is False
    assert len(network.knocked) == 1


async def test_looks_between_two_tries_cost_nothing(network: Network):
    await settled(network)
    for _ in range(7):
        assert await network.look(PERIOD_SECONDS / 10) is False
        assert network.knocked == []


async def test_a_network_that_ceases_to_enforce_is_noticed_within_the_period(network: Network):
    await settled(network)
    network.open_to = {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
    assert await network.look(PERIOD_SECONDS * 1.2) is True


async def test_each_try_is_at_another_agent(network: Network):
    seen = set()
    for _ in range(6):
        await network.look(PERIOD_SECONDS * 1.2)
        assert len(network.knocked) == 1
        seen.update(network.knocked)
    assert seen == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}


async def test_an_open_port_is_tried_at_each_look_until_it_is_closed(network: Network):
    network.open_to = {"10.0.0.0"}
    for _ in range(3):
        assert await network.look(2) is True
        assert network.knocked == ["10.0.0.0"]
    network.open_to = set()
    assert await network.look(2) is False
    assert network.knocked == ["10.0.0.0"]


async def test_a_change_of_any_policy_asks_for_a_try_at_once_and_for_one_a_little_later(
    network: Network,
):
    await settled(network)
    network.policies = "somebody made another one, which the network has not applied yet"
    assert await network.look(1) is False
    assert len(network.knocked) == 1
    assert await network.look(APPLIED_SECONDS / 2) is False
    assert network.knocked == []
    network.open_to = {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
    assert await network.look(APPLIED_SECONDS / 2) is True


async def test_another_agent_is_tried_when_the_one_that_was_is_gone(network: Network):
    await settled(network)
    tried = network.knocked[0]
    network.pods = [found for found in network.pods if found.address != tried]
    assert await network.look(1) is False
    assert len(network.knocked) == 1


async def test_agents_that_are_not_ready_are_not_tried_and_nothing_is_said_without_any(
    network: Network,
):
    network.pods = [pod(0, ready=False)]
    assert await network.look() is None
    assert network.knocked == []


async def test_what_was_found_stands_while_the_agent_is_not_ready_for_another_try(
    network: Network,
):
    network.open_to = {"10.0.0.0"}
    assert await network.look() is True
    network.pods = [pod(0, ready=False)]
    assert await network.look(PERIOD_SECONDS * 2) is True


async def test_knocking_tells_an_open_port_from_one_that_is_closed_or_silent():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await knock("127.0.0.1", port) is True
    server.close()
    await server.wait_closed()
    assert await knock("127.0.0.1", port) is False

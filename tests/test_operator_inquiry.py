"""What agents are asked in a look, counted, and what is noticed although most is not asked again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import msgspec
import pytest

from gossipswarm_operator.agent_documents import (
    AgentAddress,
    AgentInfo,
    AgentUnreachable,
    Config,
    Receipts,
    Trace,
)
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.inquiry import KEYS_SECONDS, RECEIPTS_ASKED, Answers, Inquiry
from gossipswarm_operator.keyring import Ring
from gossipswarm_operator.model import Swarm, parse
from gossipswarm_operator.observed import Pod
from operator_world import World, keys, ready_world, replaced, swarm_source

RING = Ring(tuple(key for key, _ in zip(keys(), range(1), strict=False)))
ROTATING = Ring(tuple(key for key, _ in zip(keys(), range(2), strict=False)), 1)


class Counted:
    """Answers for the agents of a world, and counts what each was asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: Counter[str] = Counter()
        self.whom: list[str] = []
        """Who was asked for keys."""
        self.silent: set[str] = set()
        self.infos = dict(world.observe().agents)
        self.receipts_of: dict[str, Receipts] = {}

    async def info(self, agent: AgentAddress) -> AgentInfo:
        self.asked["info"] += 1
        if agent.name in self.silent:
            raise AgentUnreachable(agent.name, "no answer in time")
        return self.infos[agent.name]

    async def keyring(self, agent: AgentAddress) -> list[str]:
        self.asked["keyring"] += 1
        self.whom.append(agent.name)
        return list(self.world.agents[agent.name].keys)

    async def config(self, agent: AgentAddress) -> Config:
        self.asked["config"] += 1
        return Config(1, {"fanout": 3, **self.world.settings})

    async def receipts(self, agent: AgentAddress, dot: str) -> Receipts | None:
        self.asked["receipts"] += 1
        return self.receipts_of.get(dot)

    def change(self, name: str, **fields: Any) -> None:
        """Have an agent say something else of itself."""
        self.infos[name] = msgspec.structs.replace(self.infos[name], **fields)


class Looks:
    """Looks at a swarm that has settled, at times of the test's choosing."""

    def __init__(self, **spec: Any) -> None:
        self.world = ready_world(**spec)
        self.agents = Counted(self.world)
        self.now = 1000.0
        self.ring: Ring | None = RING
        self._inquiry = Inquiry(cast("AgentsApi", self.agents), lambda: self.now)
        for agent in self.world.agents.values():
            agent.keys = list(RING.ids)

    @property
    def pods(self) -> list[Pod]:
        return [agent.pod for agent in self.world.agents.values()]

    async def look(self, swarm: Swarm | None = None) -> Answers:
        self.agents.asked.clear()
        self.agents.whom.clear()
        addresses = [AgentAddress(pod.name, pod.region, "http://x") for pod in self.pods]
        return await self._inquiry.ask(swarm or self.world.swarm, addresses, self.pods, self.ring)


@pytest.fixture
async def looks() -> Looks:
    return Looks(replicasPerRegion=3)


async def test_a_quiet_swarm_is_asked_for_everything_once_and_then_only_for_infos(looks: Looks):
    first = await looks.look()
    assert looks.agents.asked == {"info": 6, "keyring": 6, "config": 1}
    looks.now += 30
    second = await looks.look()
    assert looks.agents.asked == {"info": 6}
    assert second == first
    assert second.keys == dict.fromkeys(looks.world.agents, RING.ids)


async def test_an_agent_that_started_again_with_an_older_ring_is_noticed(looks: Looks):
    await looks.look()
    looks.world.agents["demo-us-east-1"].keys = ["0ld00000"]
    looks.agents.change("demo-us-east-1", started_at="later")
    found = await looks.look()
    assert looks.agents.whom == ["demo-us-east-1"]
    assert found.keys["demo-us-east-1"] == ("0ld00000",)


async def test_another_pod_of_the_same_name_is_another_agent(looks: Looks):
    await looks.look()
    agent = looks.world.agents["demo-us-east-1"]
    agent.pod, agent.keys = replaced(agent.pod, uid="another"), []
    found = await looks.look()
    assert looks.agents.whom == ["demo-us-east-1"]
    assert found.keys["demo-us-east-1"] == ()


async def test_a_key_that_somebody_removed_by_hand_is_noticed_within_ten_minutes(looks: Looks):
    await looks.look()
    looks.world.agents["demo-us-east-1"].keys = []
    looks.now += KEYS_SECONDS / 2 - 1
    assert (await looks.look()).keys["demo-us-east-1"] == RING.ids
    looks.now += KEYS_SECONDS / 2 + 1
    assert (await looks.look()).keys["demo-us-east-1"] == ()


async def test_agents_are_not_all_asked_at_the_same_time_again():
    looks = Looks(replicasPerRegion=50)
    await looks.look()
    most = 0
    for _ in range(20):
        looks.now += KEYS_SECONDS / 20
        await looks.look()
        most = max(most, looks.agents.asked["keyring"])
    assert 0 < most < 30


async def test_whoever_does_not_hold_what_the_secret_does_is_asked_in_every_look(looks: Looks):
    looks.world.agents["demo-us-east-1"].keys = ["0ld00000", *RING.ids]
    await looks.look()
    looks.world.agents["demo-us-east-1"].keys = list(RING.ids)
    found = await looks.look()
    assert looks.agents.whom == ["demo-us-east-1"]
    assert found.keys["demo-us-east-1"] == RING.ids
    await looks.look()
    assert looks.agents.whom == []


async def test_a_secret_with_other_keys_makes_everybody_be_asked(looks: Looks):
    await looks.look()
    looks.ring = ROTATING
    await looks.look()
    assert looks.agents.asked["keyring"] == 6
    looks.ring = None
    await looks.look()
    await looks.look()
    assert looks.agents.asked["keyring"] == 6, "without a Secret nothing is taken for granted"


async def test_a_ring_of_the_same_keys_in_another_order_is_another_ring(looks: Looks):
    looks.ring = ROTATING
    for agent in looks.world.agents.values():
        agent.keys = list(ROTATING.ids)
    await looks.look()
    looks.ring = Ring(ROTATING.keys[::-1], 1)
    await looks.look()
    assert looks.agents.asked["keyring"] == 6


async def test_an_agent_that_is_silent_is_not_spoken_for(looks: Looks):
    await looks.look()
    looks.agents.silent = {"demo-us-east-1"}
    found = await looks.look()
    assert "demo-us-east-1" not in found.keys
    assert found.silent == {"demo-us-east-1": "no answer in time"}
    looks.agents.silent = set()
    await looks.look()
    assert looks.agents.whom == ["demo-us-east-1"], "it may have been anywhere meanwhile"


async def test_an_agent_of_another_swarm_counts_as_silent(looks: Looks):
    looks.agents.change("demo-us-east-1", swarm="another")
    found = await looks.look()
    assert found.silent == {"demo-us-east-1": "it is an agent of another swarm"}
    assert "demo-us-east-1" not in found.infos


async def test_keys_are_not_asked_for_without_encryption(looks: Looks):
    open_swarm = parse(swarm_source(encryption={"mode": "Disabled"}))
    found = await looks.look(open_swarm)
    assert found.keys == {}
    assert looks.agents.asked["keyring"] == 0


async def test_parameters_are_asked_for_again_when_the_state_is_another_one(looks: Looks):
    await looks.look()
    looks.world.settings["fanout"] = 5
    assert (await looks.look()).settings == {"fanout": 3}, "no state changed, so they cannot have"
    for name in looks.world.agents:
        looks.agents.change(name, state_hash="after")
    assert (await looks.look()).settings == {"fanout": 5}
    assert looks.agents.asked["config"] == 1


async def test_parameters_are_asked_of_an_agent_that_is_ready(looks: Looks):
    for name in looks.world.agents:
        looks.agents.change(name, ready=False)
    assert (await looks.look()).settings is None
    looks.agents.change("demo-eu-west-2", ready=True)
    assert (await looks.look()).settings == {"fanout": 3}
    looks.agents.change("demo-eu-west-2", started_at="later")
    await looks.look()
    assert looks.agents.asked["config"] == 1, "it may have been started with others"


async def test_receipts_are_asked_for_only_while_agents_differ_and_of_few(looks: Looks):
    looks = Looks(replicasPerRegion=50)
    for number, name in enumerate(looks.world.agents):
        looks.agents.change(name, newest_trace=Trace(f"{name}:1", ""), state_hash="same")
        looks.agents.receipts_of[f"{name}:1"] = Receipts(100, 100, [], 20.0)
        assert number < 100
    await looks.look()
    looks.now += 10
    assert (await looks.look()).delivered is None
    assert looks.agents.asked["receipts"] == 0
    for number, name in enumerate(looks.world.agents):
        looks.agents.change(name, state_hash=str(number))
    assert (await looks.look()).delivered is True
    assert looks.agents.asked["receipts"] == RECEIPTS_ASKED


@pytest.mark.parametrize(
    ("receipts", "delivered"),
    [
        (Receipts(6, 6, [], 20.0), True),
        (Receipts(6, 6, [], 20_000.0), None),
        (Receipts(6, 5, ["x"], None), None),
        (None, True),  # it has forgotten: then only that nobody stands still counts
    ],
)
async def test_a_write_counts_as_delivered_if_it_was_everywhere_in_time(
    looks: Looks, receipts: Receipts | None, delivered: bool | None
):
    looks.agents.change("demo-us-east-0", newest_trace=Trace("d:1", ""))
    if receipts is not None:
        looks.agents.receipts_of["d:1"] = receipts
    await looks.look()
    looks.now += 10
    for number, name in enumerate(looks.world.agents):
        looks.agents.change(name, state_hash=str(number))
    assert (await looks.look()).delivered is delivered
    assert looks.agents.asked["receipts"] == 1


async def test_of_a_thousand_agents_so_many_are_asked_at_a_time_and_each_once():
    under_way, most, done = 0, 0, Counter[str]()

    async def ask(agent: AgentAddress) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        done[agent.name] += 1
        if agent.name == "a7":
            raise AgentUnreachable(agent.name, "refused")
        return agent.name

    agents = [AgentAddress(f"a{number}", "r", "http://x") for number in range(1000)]
    found = await ask_all(agents, ask, at_once=64)
    assert most == 64
    assert set(done.values()) == {1}
    assert list(found) == [agent.name for agent in agents]
    assert isinstance(found["a7"], AgentUnreachable)
    assert found["a999"] == "a999"

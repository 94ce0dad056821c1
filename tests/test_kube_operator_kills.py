"""An operator that is killed after every action of what it is about, with real agents: the next one goes on from there.

It is killed after each action in turn, so every place where a plan can be broken off comes up once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.actions import (
    Action,
    Apply,
    ChangeSettings,
    InstallKeys,
    RemoveKeys,
    UseKey,
)
from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    CONFIGS,
    PODS,
    SECRETS,
    SWARMS,
    KubeClient,
    load_configuration,
)
from gossipswarm_operator.events import Events
from gossipswarm_operator.keyring import read_ring
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.reconcile import SwarmReconciler
from gossipswarm_operator.swarmconfig.reconciler import Reconciler
from kube_operator_agents import SETTLED, addresses, change, operating, rests, stands
from kube_operator_load import under_load
from kube_operator_runs import (
    IMAGE,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

Done = Callable[[], Awaitable[Any]]
LOOKS_SECONDS = 0.2
LIMIT_SECONDS = 120.0


class Killed(Exception):
    """The operator was killed here."""


async def begun(admin: KubeClient, namespace: str, account: Path, **replicas: int) -> None:
    """A swarm with agents that hold the same."""
    regions = [
        {"name": name.replace("_", "-"), "replicas": count} for name, count in replicas.items()
    ]
    await admin.create(swarm(namespace, regions=regions))
    async with operating(account, namespace):
        await stands(admin, namespace, **SETTLED)


async def killed_after_each_action(account: Path, namespace: str, done: Done) -> list[Action]:
    """Let operators work, each up to its first action, until ``done``; what they did."""
    actions: list[Action] = []

    def kill(action: Action) -> None:
        actions.append(action)
        raise Killed

    async with asyncio.timeout(LIMIT_SECONDS):
        while not await done():
            async with reconciler(account, checkpoint=kill) as (operator, _):
                try:
                    while not await done():
                        await operator.reconcile((namespace, "demo"))
                        await asyncio.sleep(LOOKS_SECONDS)
                except Killed:
                    continue
    return actions


async def killed_before_each_write(
    account: Path,
    look: Callable[[KubeClient, AgentsApi], Callable[[], Awaitable[Any]]],
    done: Done,
) -> int:
    """Let operators work until ``done``, the first up to its first write, the second up to its second and so on, be it of
    the API server or of an agent; how many were killed.
    """
    configuration = await load_configuration(str(account))
    deaths = 0

    def kill() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    async with asyncio.timeout(LIMIT_SECONDS):
        while not await done():
            left = deaths
            kube = KubeClient(configuration, before_write=kill)
            async with kube, AgentsApi(seconds=0.5, before_write=kill) as agents:
                reconcile = look(kube, agents)
                try:
                    while not await done():
                        await reconcile()
                        await asyncio.sleep(LOOKS_SECONDS)
                except* Killed:
                    deaths += 1
    return deaths


async def is_settled(admin: KubeClient, namespace: str) -> bool:
    found = await admin.get(SWARMS, namespace, "demo")
    assert found is not None
    status = found.get("status") or {}
    said = {c["type"]: c["status"] for c in status["conditions"]}
    return status["observedGeneration"] == found["metadata"]["generation"] and all(
        said[kind] == value for kind, value in SETTLED.items()
    )


async def is_left_alone(admin: KubeClient, namespace: str, account: Path) -> None:
    """Everything is as the spec wants it: an operator that nobody kills finds nothing to do."""
    async with operating(account, namespace) as calls:
        await rests(calls)


def told(actions: list[Action], kind: type[Any]) -> Counter[str]:
    return Counter(action.agent for action in actions if isinstance(action, kind))


async def test_a_key_rotation_goes_on_from_every_place(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await begun(admin, namespace, account, us_east=2, eu_west=1)
    agents = await addresses(admin, namespace)
    before = await ring(admin, namespace)
    async with under_load(admin, namespace):
        await change(admin, namespace, encryption={"rotation": {"generation": 1}})
        done = await killed_after_each_action(
            account, namespace, lambda: is_settled(admin, namespace)
        )
    after = await ring(admin, namespace)
    assert len(after) == 1
    assert after != before
    async with AgentsApi() as api:
        held = await ask_all(agents, api.keyring)
    assert all(keys == list(after) for keys in held.values())
    secrets = [
        tuple(read_ring(_encoded(action.body)).ids)
        for action in done
        if isinstance(action, Apply) and action.body["kind"] == "Secret"
    ]
    assert secrets == [(*before, *after), (*after, *before), after], "one key, each step once"
    # An agent may read a key from its file before it is told; nobody is told twice.
    for kind in (InstallKeys, UseKey, RemoveKeys):
        assert set(told(done, kind).values()) <= {1}, kind
    assert len(done) >= 5
    await is_left_alone(admin, namespace, account)


async def ring(admin: KubeClient, namespace: str) -> tuple[str, ...]:
    secret = await admin.get(SECRETS, namespace, "demo-keyring")
    assert secret is not None
    return read_ring(secret).ids


def _encoded(body: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value, str) for value in body["data"].values())
    return body


async def test_a_parameter_reaches_the_agents_once_from_every_place(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await begun(admin, namespace, account, us_east=2, eu_west=1)
    agents = await addresses(admin, namespace)
    async with AgentsApi() as api:
        before = (await api.config(agents[0])).version
        async with under_load(admin, namespace):
            await change(admin, namespace, gossip={"fanout": 5})
            done = await killed_after_each_action(
                account, namespace, lambda: is_settled(admin, namespace)
            )
        for agent in agents:

            async def has_it(agent: AgentAddress = agent) -> bool:
                return (await api.config(agent)).settings["fanout"] == 5

            await until(has_it)
        after = (await api.config(agents[0])).version
    assert sum(isinstance(action, ChangeSettings) for action in done) == 1
    assert after == before + 1
    assert len(done) >= 2, "also what a new agent starts with"
    await is_left_alone(admin, namespace, account)


async def test_an_update_replaces_each_agent_once_from_every_place(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await begun(admin, namespace, account, us_east=2, eu_west=1)
    async with under_load(admin, namespace) as load:
        await change(
            admin,
            namespace,
            image={"tag": "2.0.0"},
            podTemplate={"metadata": {"annotations": {"team": "gossip"}}},
        )
        done = await killed_after_each_action(
            account, namespace, lambda: is_settled(admin, namespace)
        )
    assert {name: len(uids) for name, uids in load.uids.items()} == {
        "demo-us-east-0": 2,
        "demo-us-east-1": 2,
        "demo-eu-west-0": 2,
    }
    assert load.least_ready == 2, "one after the other"
    for pod in await admin.list_all(PODS, namespace):
        assert pod["spec"]["containers"][0]["image"].endswith(":2.0.0")
        assert pod["metadata"]["annotations"]["team"] == "gossip"
    assert len(done) >= 4, "templates, and a place in each region's order"
    await is_left_alone(admin, namespace, account)


async def test_agents_leave_once_and_whole_from_every_place(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await begun(admin, namespace, account, us_east=3, eu_west=1)
    agents = {agent.name: agent for agent in await addresses(admin, namespace)}
    async with AgentsApi() as api:
        for name in ("demo-us-east-1", "demo-us-east-2"):
            await api.put(agents[name], f"of.{name}", name)
        async with under_load(admin, namespace) as load:
            regions = [{"name": "us-east", "replicas": 1}, {"name": "eu-west", "replicas": 1}]
            await change(admin, namespace, regions=regions)

            def look(kube: KubeClient, agents: AgentsApi) -> Callable[[], Awaitable[Any]]:
                found = SwarmReconciler(kube, agents, Events(kube), Metrics(), IMAGE)
                return lambda: found.reconcile((namespace, "demo"))

            deaths = await killed_before_each_write(
                account, look, lambda: is_settled(admin, namespace)
            )
        assert deaths >= 4, "within a drain, too"
        assert all(len(uids) == 1 for uids in load.uids.values()), load.uids
        left = await addresses(admin, namespace)
        assert sorted(agent.name for agent in left) == ["demo-eu-west-0", "demo-us-east-0"]
        for agent in left:
            for name in ("demo-us-east-1", "demo-us-east-2"):
                found = await api.read(agent, f"of.{name}")
                assert found is not None
                assert found.value == name
    await is_left_alone(admin, namespace, account)


async def test_a_config_is_delivered_changed_and_taken_back_once_from_every_place(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await begun(admin, namespace, account, us_east=2, eu_west=1)
    agents = await addresses(admin, namespace)

    def look(kube: KubeClient, agents: AgentsApi) -> Callable[[], Awaitable[Any]]:
        found = Reconciler(kube, agents, Events(kube))
        return lambda: found.reconcile((namespace, "settings"))

    async def is_delivered() -> bool:
        found = await admin.get(CONFIGS, namespace, "settings")
        assert found is not None
        if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return False
        return condition(found, "Converged")["status"] == "True"

    async def is_gone() -> bool:
        return await admin.get(CONFIGS, namespace, "settings") is None

    async with AgentsApi() as api, under_load(admin, namespace):
        await admin.create(
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "SwarmConfig",
                "metadata": {"name": "settings", "namespace": namespace},
                "spec": {
                    "swarmRef": {"name": "demo"},
                    "prefix": "app",
                    "data": {"ttl": 60, "host": "a"},
                },
            }
        )
        assert await killed_before_each_write(account, look, is_delivered) >= 3
        for agent in agents:
            found = await api.read(agent, "app.ttl")
            assert found is not None
            assert (found.value, found.version) == (60, 1)
        await admin.merge(
            CONFIGS, namespace, "settings", {"spec": {"data": {"ttl": 61, "host": None}}}
        )
        assert await killed_before_each_write(account, look, is_delivered) >= 2
        for agent in agents:
            found = await api.read(agent, "app")
            assert found is not None
            assert found.value == {"ttl": 61}
        changed = await api.read(agents[0], "app.ttl")
        assert changed is not None
        assert changed.version == 2, "written once more, and once only"
        await admin.delete(CONFIGS, namespace, "settings")
        assert await killed_before_each_write(account, look, is_gone) >= 1

        async def is_empty() -> bool:
            return all([await api.read(agent, "app.ttl") is None for agent in agents])

        await until(is_empty)

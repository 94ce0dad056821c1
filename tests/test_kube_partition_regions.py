"""Regions that are added, removed and resized while a cut lives, with real agents on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress, AgentError
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    NETWORK_POLICIES,
    PARTITIONS,
    PODS,
    STATEFUL_SETS,
    KubeClient,
)
from kube_cuts import cut_policies, dropping, gone, operating, partition, said, whole
from kube_operator_agents import SETTLED, addresses, change, stands
from kube_operator_runs import cluster_admin, condition, operator_account, swarm, until
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

IN_FORCE = {"Applied": "True", "Healed": "False/InForce"}


def regions(**replicas: int) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "-"), "replicas": n} for name, n in replicas.items()]


async def grouped(admin: KubeClient, namespace: str, groups: str, **wanted: str) -> None:
    """Wait until the cut has these groups, and says so of its state."""

    async def holds() -> bool:
        found = await admin.get(PARTITIONS, namespace, "drill")
        assert found is not None
        return bool(found["status"]["groups"] == groups)

    await until(holds)
    await said(admin, namespace, **wanted)


async def at_first(
    admin: KubeClient, namespace: str, api: AgentsApi, name: str
) -> tuple[AgentAddress, str | None]:
    """An agent, and who has it drop what crosses the cut when it answers for the first time."""

    async def answered() -> Any:
        found = {agent.name: agent for agent in await addresses(admin, namespace)}.get(name)
        if found is None:
            return None
        try:
            return found, (await api.info(found)).cut_by
        except AgentError:
            return None

    agent, who = await until(answered)
    return agent, who


async def hears(api: AgentsApi, agent: AgentAddress) -> set[str]:
    """Regions of which an agent knows a living member, its own included."""
    view = await api.partition(agent)
    mine = [set(group) for group in view.groups if agent.region in group]
    return mine[0] if mine else {agent.region}


async def policies(admin: KubeClient, namespace: str) -> set[str]:
    found = await admin.list_all(NETWORK_POLICIES, namespace)
    return {policy["metadata"]["name"] for policy in found}


async def test_what_is_added_while_a_cut_lives_is_born_on_its_side(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=regions(us_east=1, us_west=1)))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        await admin.create(partition(namespace))
        await said(admin, namespace, Enforced="True/AgentsDrop", Detected="True", **IN_FORCE)

        # A region of no group, and one more agent for one of a group.
        wanted = regions(us_east=2, us_west=1, eu_central=1)
        await change(admin, namespace, regions=wanted)
        for name in ("demo-us-east-1", "demo-eu-central-0"):
            agent, who = await at_first(admin, namespace, api, name)
            assert who is not None, f"{name} was born outside the cut"
            side = {"us-east"} if agent.region == "us-east" else {"us-west", "eu-central"}

            async def hears_its_side(agent: AgentAddress = agent, side: set[str] = side) -> bool:
                return await hears(api, agent) == side

            await until(hears_its_side)
        await grouped(
            admin, namespace, "us-east | eu-central,us-west", Enforced="True/AgentsDrop", **IN_FORCE
        )
        assert await policies(admin, namespace) == {
            *("demo-us-east", "demo-us-west", "demo-eu-central"),
            *("demo.drill.us-east", "demo.drill.eu-central"),
        }
        found = await admin.get(CONFIG_MAPS, namespace, "demo-cut")
        assert found is not None
        assert "eu-central|us-east" in found["data"]["cut.yaml"]
        assert set((await dropping(await addresses(admin, namespace), api)).values()) <= {
            *("gossipswarm-operator", "configuration"),
        }

        await admin.delete(PARTITIONS, namespace, "drill")
        await gone(admin, namespace)
        await whole(admin, namespace, api)
        found = await stands(admin, namespace, **SETTLED, Partitioned="False")
        assert found["status"]["ready"] == "4/4"


async def test_a_region_that_is_removed_while_a_cut_lives_is_heard_out_after_it(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=regions(us_east=1, us_west=1, eu_central=1)))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        await admin.create(partition(namespace))
        await said(admin, namespace, Enforced="True/AgentsDrop", Detected="True", **IN_FORCE)
        last = next(a for a in await addresses(admin, namespace) if a.region == "us-east")
        await api.put(last, "last", "words", trace=False)

        # One that others of its side hear out, and one that nobody does before the cut is over.
        await change(admin, namespace, regions=regions(us_west=1))
        await grouped(admin, namespace, "us-east | us-west", Enforced="True/AgentsDrop", **IN_FORCE)

        async def left() -> bool:
            return await admin.get(NETWORK_POLICIES, namespace, "demo-eu-central") is None

        await until(left)
        assert await policies(admin, namespace) == {
            *("demo-us-east", "demo-us-west"),
            *("demo.drill.us-east", "demo.drill.us-west"),
        }
        assert await admin.get(PODS, namespace, "demo-us-east-0") is not None

        await admin.delete(PARTITIONS, namespace, "drill")
        await gone(admin, namespace)

        async def handed_over() -> bool:
            return await admin.get(STATEFUL_SETS, namespace, "demo-us-east") is None

        await until(handed_over)
        kept = next(a for a in await addresses(admin, namespace) if a.region == "us-west")
        assert (await api.read(kept, "last")).value == "words"
        await stands(admin, namespace, **SETTLED, Partitioned="False")

        async def nothing_left() -> bool:
            return await policies(admin, namespace) == {"demo-us-west"}

        await until(nothing_left)


async def test_a_cut_whose_side_is_gone_says_that_nothing_is_cut_and_holds_when_it_is_back(
    admin: KubeClient, namespace: str, account: Path
):
    await admin.create(swarm(namespace, regions=regions(us_east=0, us_west=0)))
    async with operating(account, namespace):
        await admin.create(partition(namespace))
        found = await said(admin, namespace, Enforced="Unknown/NotProbed", **IN_FORCE)
        assert "no agents on both sides" in condition(found, "Enforced")["message"]
        await change(admin, namespace, regions=regions(us_west=0))
        await said(admin, namespace, Applied="False/NothingToCut", Enforced="False/NotApplied")

        async def cut_by(count: int) -> None:
            async def holds() -> bool:
                return len(await cut_policies(admin, namespace)) == count

            await until(holds)

        await cut_by(0)
        await change(admin, namespace, regions=regions(us_west=0, us_east=0))
        await said(admin, namespace, **IN_FORCE)
        await cut_by(4)
        await admin.delete(PARTITIONS, namespace, "drill")
        await gone(admin, namespace)
        assert await cut_policies(admin, namespace) == []

"""The operator while regions are cut off from each other, with real agents: what needs everybody waits, says so, and goes
on by itself afterwards."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import PODS, SECRETS, STATEFUL_SETS, SWARMS, KubeClient
from kube_operator_agents import SETTLED, addresses, change, operating, stands
from kube_operator_runs import (
    Calls,
    cluster_admin,
    condition,
    operator_account,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

REGIONS = [{"name": "us-east", "replicas": 2}, {"name": "eu-west", "replicas": 1}]


async def cut_off(agents: list[AgentAddress], region: str | None) -> None:
    """Have agents drop what comes from beyond a cut around one region; None = heal it."""
    everywhere = {agent.region for agent in agents}
    for agent in agents:
        inside = {region} if agent.region == region else everywhere - {region}
        beyond = sorted(everywhere - inside) if region is not None else []
        request = urllib.request.Request(
            f"{agent.url}/v1/admin/drop-list",
            data=json.dumps({"inbound": beyond, "outbound": beyond}).encode(),
            headers={
                "Authorization": f"Bearer {agent.token}",
                "Content-Type": "application/json",
            },
        )
        await asyncio.to_thread(lambda asked=request: urllib.request.urlopen(asked, timeout=30))


async def looked(calls: Calls, times: int = 4) -> None:
    """Wait until the operator has looked so many times more."""
    calls.seen.clear()

    async def holds() -> bool:
        return calls.seen.count(("list", STATEFUL_SETS.plural)) >= times

    await until(holds)


async def images(admin: KubeClient, namespace: str) -> dict[str, str]:
    found = await admin.list_all(PODS, namespace)
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in found}


async def said(admin: KubeClient, namespace: str, kind: str, *words: str) -> dict[str, Any]:
    """Wait until a condition says all of this."""

    async def holds() -> Any:
        found = await admin.get(SWARMS, namespace, "demo")
        assert found is not None
        told = condition(found, kind)
        text = f"{told['status']} {told['reason']} {told['message']}"
        return told if all(word in text for word in words) else None

    found: dict[str, Any] = await until(holds)
    return found


async def test_an_update_and_a_rotation_wait_for_the_end_of_a_cut_and_go_on_by_themselves(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=REGIONS))
    async with operating(account, namespace) as calls, AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        agents = await addresses(admin, namespace)
        before = await images(admin, namespace)
        secret = await admin.get(SECRETS, namespace, "demo-keyring")
        assert secret is not None
        keys = await ask_all(agents, api.keyring)
        await cut_off(agents, "eu-west")
        found = await stands(admin, namespace, Partitioned="True", Converged="False")
        assert found["status"]["partition"] == "eu-west | us-east"

        await change(
            admin,
            namespace,
            image={"tag": "2.0.0"},
            encryption={"rotation": {"generation": 1}},
        )
        await said(admin, namespace, "Progressing", "waits until the partition is over")
        await said(admin, namespace, "KeyringInSync", "waits until the partition is over")
        await looked(calls)
        assert await images(admin, namespace) == before
        assert await ask_all(agents, api.keyring) == keys
        found = await admin.get(SECRETS, namespace, "demo-keyring")
        assert found is not None
        assert found["data"] == secret["data"]

        await cut_off(agents, None)

        async def done() -> bool:
            new = await images(admin, namespace)
            return len(new) == 3 and all(image.endswith(":2.0.0") for image in new.values())

        await until(done, 300)
        await stands(admin, namespace, **SETTLED, Partitioned="False")
        found = await admin.get(SWARMS, namespace, "demo")
        assert found is not None
        assert found["status"]["keyring"]["generation"] == 1
        assert found["status"]["keyring"]["ids"] == [found["status"]["keyring"]["primary"]]
        held = await ask_all(await addresses(admin, namespace), api.keyring)
        assert set(map(tuple, held.values())) == {(found["status"]["keyring"]["primary"],)}


async def test_a_region_that_is_cut_off_is_not_removed_before_others_have_what_it_holds(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=[REGIONS[1], {"name": "us-east", "replicas": 1}]))
    async with operating(account, namespace) as calls, AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        agents = await addresses(admin, namespace)
        await cut_off(agents, "eu-west")
        await stands(admin, namespace, Partitioned="True")
        beyond = next(agent for agent in agents if agent.region == "eu-west")
        await api.put(beyond, "written", "beyond the cut", trace=False)
        await change(admin, namespace, regions=[{"name": "us-east", "replicas": 1}])
        await said(admin, namespace, "Progressing", "False NotDrained", "demo-eu-west-0")
        await looked(calls, 2)
        assert set(await images(admin, namespace)) == {"demo-eu-west-0", "demo-us-east-0"}

        await cut_off(agents, None)

        async def removed() -> bool:
            found = await admin.get(STATEFUL_SETS, namespace, "demo-eu-west")
            return found is None and set(await images(admin, namespace)) == {"demo-us-east-0"}

        await until(removed)
        await stands(admin, namespace, **SETTLED)
        (left,) = await addresses(admin, namespace)
        read = await api.read(left, "written")
        assert read is not None
        assert read.value == "beyond the cut"

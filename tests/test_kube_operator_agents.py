"""The operator with real agents: pods are made by the real StatefulSet controller and run by a kubelet of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import PODS, KubeClient
from kube_operator_agents import SETTLED, addresses, change, operating, rests, stands
from kube_operator_runs import (
    cluster_admin,
    condition,
    followed,
    operator_account,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


async def test_a_swarm_lives_is_tuned_rekeyed_scaled_paused_and_then_left_alone(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace) as calls, AgentsApi() as api:
        found = await stands(admin, namespace, **SETTLED, Available="True", Partitioned="False")
        assert found["status"]["ready"] == found["status"]["convergedAgents"] == "3/3"
        first = found["status"]["keyring"]["primary"]

        await rests(calls)

        agents = await addresses(admin, namespace)
        await change(admin, namespace, gossip={"fanout": 5})
        await until(lambda: _all_have(api, agents, "fanout", 5))

        await change(admin, namespace, encryption={"rotation": {"generation": 1}})

        async def rekeyed() -> bool:
            keys = await ask_all(agents, api.keyring)
            return all(isinstance(k, list) and len(k) == 1 and k[0] != first for k in keys.values())

        await until(rekeyed)
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["keyring"]["step"] == "Idle"

        await api.put(agents[2], "kept", "by everybody")
        await change(admin, namespace, replicasPerRegion=1)
        await until(lambda: _pods(admin, namespace, 1))
        left = await addresses(admin, namespace)
        kept = await api.read(left[0], "kept")
        assert kept is not None
        assert kept.value == "by everybody"
        await change(admin, namespace, replicasPerRegion=2)
        await stands(admin, namespace, **SETTLED)

        await change(admin, namespace, reconciliation="Paused", replicasPerRegion=3)
        found = await stands(admin, namespace, Paused="True")
        assert len(await admin.list_all(PODS, namespace)) == 2
        assert condition(found, "Progressing")["reason"] == "Paused"


async def _all_have(api: AgentsApi, agents: list[AgentAddress], name: str, value: Any) -> bool:
    found = await ask_all(agents, api.config)
    return all(getattr(config, "settings", {}).get(name) == value for config in found.values())


async def _pods(admin: KubeClient, namespace: str, count: int) -> bool:
    return len(await admin.list_all(PODS, namespace)) == count


async def test_a_new_template_is_rolled_out_agent_by_agent(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(
        swarm(
            namespace,
            regions=[{"name": "us-east", "replicas": 2}, {"name": "eu-west", "replicas": 1}],
        )
    )
    async with followed(admin, PODS, namespace) as changes, operating(account, namespace):
        await stands(admin, namespace, **SETTLED)
        await change(admin, namespace, image={"tag": "2.0.0"})

        async def updated() -> list[str] | None:
            made = [pod for kind, pod in changes if kind == "ADDED"]
            new = [p for p in made if p["spec"]["containers"][0]["image"].endswith(":2.0.0")]
            return [pod["metadata"]["name"] for pod in new] if len(new) >= 3 else None

        order = await until(updated)
        assert order == ["demo-us-east-1", "demo-us-east-0", "demo-eu-west-0"]
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["version"] == "2.0.0"

"""Secrets of a swarm that runs: tokens that are deleted, certificates that are renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipswarm_operator.agent_documents import AgentError, AgentRefused
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import SECRETS, KubeClient
from kube_operator_agents import SETTLED, addresses, operating, stands
from kube_operator_runs import cluster_admin, operator_account, swarm, until
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


async def test_a_deleted_secret_of_tokens_is_made_anew_and_the_old_ones_are_worth_nothing(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        before = await addresses(admin, namespace)
        await api.put(before[0], "kept", "by everybody")
        await admin.delete(SECRETS, namespace, "demo-tokens")

        async def taken_up() -> bool:
            if await admin.get(SECRETS, namespace, "demo-tokens") is None:
                return False
            agents = await addresses(admin, namespace)
            assert agents[0].token not in (None, before[0].token) or agents == before
            refused = await ask_all(before, api.info)
            allowed = await ask_all(agents, api.info)
            return all(
                isinstance(refused[agent.name], AgentRefused)
                and not isinstance(allowed[agent.name], AgentError)
                for agent in agents
            )

        await until(taken_up)
        await stands(admin, namespace, **SETTLED)
        kept = await api.read((await addresses(admin, namespace))[2], "kept")
        assert kept is not None and kept.value == "by everybody"

"""What the operator asks real agents for, and tries at them, only when there is a sign: and that it sees the signs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from gossipswarm_operator.agent_documents import AgentAddress, AgentError
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import NETWORK_POLICIES, SWARMS, KubeClient
from gossipswarm_operator.model import parse
from gossipswarm_operator.observe import Observer
from kube import Cluster
from kube_operator_agents import SETTLED, addresses, operating, rests, stands
from kube_operator_program import by_way_of, program
from kube_operator_runs import cluster_admin, condition, operator_account, swarm, until
from kube_proxy import proxying
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

PAUSE_SECONDS: Final = 0.01
"""Between two writes at an agent."""


async def test_an_agent_that_starts_again_is_asked_for_its_keys_and_brought_in_step(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace) as calls, AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        agent = (await addresses(admin, namespace))[0]
        [ours] = await api.keyring(agent)
        # What is done behind the operator's back is not seen at once: nobody asks for keys at each look.
        [_, strange] = await api.install_key(agent, base64.b64encode(os.urandom(32)).decode())
        await rests(calls)
        assert await api.keyring(agent) == [ours, strange]
        # The agent remembers the key over its restart, which is what the operator does see.
        podlet.crash(agent.name)

        async def is_in_step() -> bool:
            try:
                return (await api.info(agent)).ready and await api.keyring(agent) == [ours]
            except AgentError:
                return False

        await until(is_in_step)
        await stands(admin, namespace, **SETTLED)


@contextlib.asynccontextmanager
async def written_to(api: AgentsApi, agents: list[AgentAddress]) -> AsyncIterator[None]:
    """Write at every agent all the time, untraced, so that hardly a look finds them equal.

    Not as fast as the machine allows: agents that have no time left for each other hear of writes too late indeed.
    """

    async def write(agent: AgentAddress) -> None:
        for number in itertools.count():
            await api.put(agent, f"busy.{agent.name}", number, trace=False)
            await asyncio.sleep(PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write(agent)) for agent in agents]
        yield
        for writer in writers:
            writer.cancel()


async def test_a_swarm_stays_converged_while_clients_write_all_the_time(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace) as calls, AgentsApi(seconds=30.0) as api:
        before = condition(await stands(admin, namespace, **SETTLED), "Converged")
        reasons = set()
        async with written_to(api, await addresses(admin, namespace)):
            calls.seen.clear()

            async def looked_often() -> bool:
                now = condition(await admin.get(SWARMS, namespace, "demo"), "Converged")
                reasons.add(now["reason"])
                assert (now["status"], now["lastTransitionTime"]) == (
                    "True",
                    before["lastTransitionTime"],
                )
                return calls.seen.count(("get", "gossipswarms")) > 12

            await until(looked_often)
        assert "WritesDelivered" in reasons
        await stands(admin, namespace, **SETTLED)


def opening(namespace: str, port: int) -> dict[str, Any]:
    """A policy of somebody else that lets everybody in at a port."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": port}]}]},
    }


async def test_the_gossip_port_is_tried_again_when_a_policy_of_somebody_else_changes(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace))
    async with operating(account, namespace):
        await stands(admin, namespace, **SETTLED)
    source = await admin.get(SWARMS, namespace, "demo")
    assert source is not None
    tried = []

    async def knock(host: str, port: int) -> bool:
        tried.append((host, port))
        return False

    async with AgentsApi() as api:
        # Of changes alone: after some seconds each would be tried once more.
        observer = Observer(admin, api, knock=knock, clock=lambda: 0.0)

        async def tries() -> int:
            found = await observer.observe(parse(source))
            assert found.gossip_port_open is False
            return len(tried)

        assert [await tries(), await tries()] == [1, 1]
        policy = await admin.create(opening(namespace, 443))
        assert [await tries(), await tries()] == [2, 2]
        policy["metadata"]["labels"] = {"what": "opens-nothing"}
        policy = await admin.replace({**policy, "kind": "NetworkPolicy"})
        assert await tries() == 2
        await admin.replace({**opening(namespace, 7600), "metadata": policy["metadata"]})
        assert await tries() == 3
        await admin.delete(NETWORK_POLICIES, namespace, "open")
        assert await tries() == 4
    addresses_of_pods = {
        agent.url.split("/")[2].split(":")[0] for agent in await addresses(admin, namespace)
    }
    assert {host for host, _ in tried} == addresses_of_pods, "each time another agent"
    assert {port for _, port in tried} == {7600}


async def test_a_policy_of_somebody_else_makes_the_operator_look(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with proxying(cluster.server) as proxy:
        way = by_way_of(proxy.url, account)
        async with program(way, namespace, tmp_path, resync_seconds=600) as operator:
            await until(operator.leads)
            await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))

            async def is_settled() -> bool:
                found = await admin.get(SWARMS, namespace, "demo")
                said = condition(found, "Progressing") if found and "status" in found else {}
                return said.get("reason") == "UpToDate"

            await until(is_settled)
            await operator.rests()
            looks = proxy.told("gossipswarms/demo")
            await admin.create(opening(namespace, 7600))

            async def has_looked() -> bool:
                return proxy.told("gossipswarms/demo") > looks

            await until(has_looked)

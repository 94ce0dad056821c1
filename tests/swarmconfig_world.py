"""A swarm of real agents, with pods of a real API server that name their addresses, and a reconciler of SwarmConfigs.

There is no kubelet: the agents run in this process, each on its own loopback address, as the pods' status says.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import AgentConfig, Seed, Tokens
from gossipswarm_agent.runtime.ports import bind_api
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import KubeClient, load_configuration
from gossipswarm_operator.conditions import find
from gossipswarm_operator.events import Events
from gossipswarm_operator.swarmconfig.reconciler import Reconciler
from kube import Cluster, Refused

TOKENS = Tokens(read="reads", write="writes")
API = "/apis/gossipswarm.io/v1alpha1/namespaces"
_hosts = itertools.count(1)


def free_host() -> str:
    """A loopback address on which nobody serves the agents' port."""
    while True:
        number = next(_hosts)
        host = f"127.{os.getpid() % 199 + 40}.{number // 250}.{number % 250 + 2}"
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((host, 7601))
            except OSError:
                continue
        return host


class Running:
    """One agent, its API and its pod."""

    def __init__(self, agent: Agent, server: Server, host: str) -> None:
        self.agent = agent
        self.server = server
        self.host = host
        self.name = agent.config.name

    def holds(self, key: str) -> Any:
        """The value that this agent has; None where there is none."""
        reading = self.agent.read(key)
        return None if reading is None else reading.value

    async def write(self, key: str, value: Any) -> None:
        """What a user of this agent writes."""
        await self.agent.write([Mutation("put", key, value)])


class World:
    """A namespace with a swarm ``demo``."""

    def __init__(self, cluster: Cluster, namespace: str, kube: KubeClient, api: AgentsApi) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._kube = kube
        self._api = api
        self.reconciler = Reconciler(kube, api, Events(kube))
        self.agents: list[Running] = []

    # --- the cluster ------------------------------------------------------------------------------

    def create(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Create an object of the core API."""
        path = f"/api/v1/namespaces/{self.namespace}/{kind}"
        self.cluster.request("POST", path, {"metadata": {"name": name}, **body})

    def delete(self, kind: str, name: str) -> None:
        """Delete an object of the core API."""
        self.cluster.request("DELETE", f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")

    def config_map(self, name: str, data: dict[str, str]) -> None:
        """Create or replace a ConfigMap."""
        try:
            self.create("configmaps", name, {"data": data})
        except Refused:
            path = f"/api/v1/namespaces/{self.namespace}/configmaps/{name}"
            self.cluster.request("PUT", path, {"metadata": {"name": name}, "data": data})

    def swarm(self, *regions: str) -> None:
        """Create the GossipSwarm, without an operator that would do anything about it."""
        self.cluster.request(
            "POST",
            f"{API}/{self.namespace}/gossipswarms",
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "GossipSwarm",
                "metadata": {"name": "demo"},
                "spec": {"regions": [{"name": region} for region in regions]},
            },
        )
        encoded = base64.b64encode(b"writes").decode()
        self.create("secrets", "demo-tokens", {"data": {"write": encoded}})

    def pod(self, running: Running, *, ready: bool = True) -> None:
        """Create the pod of an agent, or change what its status says."""
        labels = {
            "gossipswarm.io/swarm": "demo",
            "gossipswarm.io/role": "agent",
            "gossipswarm.io/region": running.agent.config.region,
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        body = {
            "metadata": {"name": running.name, "labels": labels},
            "spec": {"containers": [{"name": "agent", "image": "agent"}]},
        }
        try:
            self.cluster.request("POST", path, body)
        except Refused as refused:
            assert refused.status == 409, refused
        status = {
            "phase": "Running",
            "podIP": running.host,
            "podIPs": [{"ip": running.host}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        self.cluster.request(
            "PATCH",
            f"{path}/{running.name}/status",
            {"status": status},
            "application/merge-patch+json",
        )

    def apply(self, name: str, **spec: Any) -> None:
        """Create a SwarmConfig, or replace its spec."""
        body = {
            "apiVersion": "gossipswarm.io/v1alpha1",
            "kind": "SwarmConfig",
            "metadata": {"name": name},
            "spec": {"swarmRef": {"name": "demo"}, "prefix": "app", **spec},
        }
        path = f"{API}/{self.namespace}/swarmconfigs"
        try:
            self.cluster.request("POST", path, body)
        except Refused as refused:
            assert refused.status == 409, refused
            found = self.get(name)
            assert found is not None
            found["spec"] = body["spec"]
            self.cluster.request("PUT", f"{path}/{name}", found)
        self.reconciler.notice((self.namespace, name))

    def get(self, name: str) -> dict[str, Any] | None:
        """A SwarmConfig; None if it is gone."""
        try:
            found: dict[str, Any] = self.cluster.request(
                "GET", f"{API}/{self.namespace}/swarmconfigs/{name}"
            )
        except Refused as refused:
            assert refused.status == 404, refused
            return None
        return found

    def remove(self, name: str) -> None:
        """Delete a SwarmConfig."""
        self.cluster.request("DELETE", f"{API}/{self.namespace}/swarmconfigs/{name}")
        self.reconciler.notice((self.namespace, name))

    def events(self, name: str) -> list[tuple[str, str]]:
        """Type and reason of the events about a SwarmConfig, oldest first."""
        found = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/events")
        return [
            (event["type"], event["reason"])
            for event in sorted(found["items"], key=lambda e: int(e["metadata"]["resourceVersion"]))
            if event["involvedObject"]["name"] == name
        ]

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = self.get(name)
        assert found is not None
        condition = find(found.get("status"), kind)
        if condition is None:
            return ("Unknown", "", "")
        return condition["status"], condition["reason"], condition["message"]

    # --- the operator -----------------------------------------------------------------------------

    def restart(
        self,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Another operator, which remembers nothing."""
        events = Events(self._kube)
        self.reconciler = Reconciler(self._kube, self._api, events, clock=clock, now=now)

    async def reconcile(self, name: str = "settings") -> float | None:
        """One reconcile, as the operator's queue would do it."""
        return await self.reconciler.reconcile((self.namespace, name))

    async def until(self, holds: Callable[[], object], *names: str, seconds: float = 80.0) -> None:
        """Reconcile as often as is asked for, until something holds."""
        deadline = monotonic() + seconds
        while not holds():
            assert monotonic() < deadline, [self.get(name) for name in names or ("settings",)]
            waits = [await self.reconcile(name) for name in names or ("settings",)]
            await asyncio.sleep(min([0.2, *(wait for wait in waits if wait is not None)]))

    async def converged(self, name: str = "settings") -> None:
        """Until the status says that every agent has it, of the present spec."""

        def said() -> bool:
            found = self.get(name)
            assert found is not None
            condition = find(found.get("status"), "Converged") or {}
            generation = found["metadata"]["generation"]
            return (condition.get("status"), condition.get("observedGeneration")) == (
                "True",
                generation,
            )

        await self.reconcile(name)
        await self.until(said, name)


@asynccontextmanager
async def world(cluster: Cluster, namespace: str, *regions: str) -> AsyncIterator[World]:
    """A swarm with an agent in each of the regions named."""
    async with AsyncExitStack() as stack:
        configuration = await load_configuration(str(cluster.kubeconfig))
        kube = await stack.enter_async_context(KubeClient(configuration))
        api = await stack.enter_async_context(AgentsApi(seconds=15.0))
        made = World(cluster, namespace, kube, api)
        counts: dict[str, int] = {}
        declared: dict[str, str] = {}
        for region in regions:
            ordinal = counts.get(region, 0)
            counts[region] = ordinal + 1
            declared[f"demo-{region}-{ordinal}"] = region
        if regions:
            made.swarm(*dict.fromkeys(regions))
        for name, region in declared.items():
            host = free_host()
            seeds = []
            if made.agents:
                address = made.agents[0].agent.gossip_address
                seeds = [Seed(address.rpartition(":")[0], int(address.rpartition(":")[2]))]
            listening = bind_api(host, 7601)
            agent = await Agent.start(
                AgentConfig(
                    name=name,
                    region=region,
                    swarm="tests",
                    host=host,
                    api_port=7601,
                    declared=declared,
                    seeds=seeds,
                )
            )
            stack.push_async_callback(agent.stop, leave=False)
            server = await serve(agent, sockets=[listening], tokens=TOKENS)
            stack.push_async_callback(server.close)
            made.agents.append(Running(agent, server, host))
        deadline = monotonic() + 60
        while not all(
            one.agent.ready and one.agent.node.membership.size == len(made.agents)
            for one in made.agents
        ):
            assert monotonic() < deadline, "the agents did not meet"
            await asyncio.sleep(0.02)
        for one in made.agents:
            made.pod(one)
        yield made

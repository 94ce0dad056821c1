"""Looking: everything that a plan needs, from the API server and from the agents. Reads only."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gossipswarm_operator import keyring, names
from gossipswarm_operator.agent_documents import AgentAddress, AgentError, AgentInfo, agent_url
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    BUDGETS,
    BY_KIND,
    CONFIG_MAPS,
    EVENTS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    KubeClient,
)
from gossipswarm_operator.drift import digest
from gossipswarm_operator.keyring import InvalidKeyring, Ring
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed, Pod, read_pod

PROBE_SECONDS: Final = 1.0
OWNED: Final = (
    STATEFUL_SETS,
    SERVICES,
    CONFIG_MAPS,
    SERVICE_ACCOUNTS,
    BUDGETS,
    NETWORK_POLICIES,
)
"""Kinds that a swarm's objects are of; Secrets are read by name only."""
Identity = tuple[str, str]


class Observer:
    """Looks at swarms."""

    def __init__(self, kube: KubeClient, agents: AgentsApi) -> None:
        self._kube = kube
        self._agents = agents
        self._traces: dict[str, dict[str, str]] = {}
        """By uid of a swarm: the newest traced write of each agent when it was last looked at."""
        self._open: dict[str, bool] = {}
        """By uid of a pod: whether its gossip port let us in."""

    async def observe(self, swarm: Swarm) -> Observed:
        """Everything about a swarm. Raises ApiError if the API server did not say."""
        objects, pods, claims = await self._cluster(swarm)
        tokens = _tokens(objects.get(("Secret", names.tokens_secret(swarm.name))))
        ring, ring_error = await self._ring(swarm, objects)
        missing, restart, ca = await self._references(swarm)
        found = await self._ask(swarm, pods, tokens, ca)
        silent = {name: e.detail for name, e in found.items() if isinstance(e, AgentError)}
        infos = {name: info for name, info in found.items() if isinstance(info, AgentInfo)}
        addresses = [a for a in _addresses(swarm, pods, tokens, ca) if a.name in infos]
        return Observed(
            objects=objects,
            pods=tuple(pods),
            claims=claims,
            agents=infos,
            silent=silent,
            keys=await self._keys(addresses) if swarm.encrypted else {},
            settings=await self._settings(addresses, infos),
            ring=ring,
            ring_error=ring_error,
            tokens=tokens,
            delivered=await self._delivered(swarm, addresses, infos),
            gossip_port_open=await self._probe(swarm, pods, infos),
            missing=missing,
            restart=restart,
            creation_failures=await self._creation_failures(swarm, objects, pods),
        )

    def forget(self, uid: str) -> None:
        """A swarm is gone."""
        self._traces.pop(uid, None)

    # --- the cluster ------------------------------------------------------------------------------

    async def _cluster(
        self, swarm: Swarm
    ) -> tuple[dict[Identity, Object], list[Pod], dict[str, Object]]:
        ours = names.owned_selector(swarm.name)
        agents = names.selector_text(names.agent_selector(swarm.name))
        async with asyncio.TaskGroup() as group:
            listed = [
                group.create_task(self._kube.list_all(kind, swarm.namespace, labels=ours))
                for kind in OWNED
            ]
            pods = group.create_task(self._kube.list_all(PODS, swarm.namespace, labels=agents))
            claims = group.create_task(
                self._kube.list_all(VOLUME_CLAIMS, swarm.namespace, labels=agents)
            )
            secrets = [
                group.create_task(self._kube.get(SECRETS, swarm.namespace, name))
                for name in (names.keyring_secret(swarm.name), names.tokens_secret(swarm.name))
            ]
        objects: dict[Identity, Object] = {
            (found["kind"], found["metadata"]["name"]): found
            for task in listed
            for found in task.result()
        }
        for task in secrets:
            found = task.result()
            if found is not None:
                objects["Secret", found["metadata"]["name"]] = found
        await self._strangers(swarm, objects)
        return (
            objects,
            [pod for found in pods.result() if (pod := read_pod(found)) is not None],
            {found["metadata"]["name"]: found for found in claims.result()},
        )

    async def _strangers(self, swarm: Swarm, objects: dict[Identity, Object]) -> None:
        """Look by name for what no list had: there may be something of somebody else."""
        for kind, name in expected(swarm):
            if (kind, name) not in objects and kind != "Secret":
                found = await self._kube.get(BY_KIND[kind], swarm.namespace, name)
                if found is not None:
                    objects[kind, name] = found

    async def _ring(
        self, swarm: Swarm, objects: Mapping[Identity, Object]
    ) -> tuple[Ring | None, str | None]:
        if not swarm.encrypted:
            return None, None
        own = swarm.spec.encryption.secret_name
        secret: Object | None
        if own is not None:
            secret = await self._kube.get(SECRETS, swarm.namespace, own)
        else:
            secret = objects.get(("Secret", names.keyring_secret(swarm.name)))
        if secret is None:
            return None, None
        try:
            return keyring.read_ring(secret), None
        except InvalidKeyring as error:
            return None, f"Secret {secret['metadata']['name']}: {error}"

    async def _references(self, swarm: Swarm) -> tuple[tuple[str, ...], dict[str, str], str | None]:
        """What is referred to and missing, hashes of what is read at the start only, and the API's authority."""
        spec, missing = swarm.spec, []
        restart: dict[str, str] = {}
        authority = None
        hooks = spec.hooks.config_map_name
        if hooks is not None:
            found = await self._kube.get(CONFIG_MAPS, swarm.namespace, hooks)
            if found is None:
                missing.append(f"ConfigMap {hooks}")
            else:
                restart[f"{names.GROUP}/hooks"] = digest(found.get("data") or {})
        tls = spec.api.tls.secret_name
        if tls is not None:
            found = await self._kube.get(SECRETS, swarm.namespace, tls)
            if found is None:
                missing.append(f"Secret {tls}")
            else:
                data = found.get("data") or {}
                restart[f"{names.GROUP}/tls"] = digest(data.get("tls.crt", ""))
                authority = _text(data.get("ca.crt") or data.get("tls.crt"))
        return tuple(missing), restart, authority

    async def _creation_failures(
        self, swarm: Swarm, objects: Mapping[Identity, Object], pods: Sequence[Pod]
    ) -> dict[str, str]:
        """Why StatefulSets lack pods: their controller says it in events only."""
        found: dict[str, str] = {}
        for (kind, name), body in objects.items():
            wanted = body["spec"].get("replicas", 0) if kind == "StatefulSet" else 0
            there = sum(names.stateful_set(swarm.name, pod.region) == name for pod in pods)
            if there >= wanted:
                continue
            fields = f"involvedObject.kind=StatefulSet,involvedObject.name={name},type=Warning"
            events = await self._kube.list_all(EVENTS, swarm.namespace, fields=fields)
            failed = [event for event in events if event.get("reason") == "FailedCreate"]
            if failed:
                found[name] = str(max(failed, key=_last_seen).get("message", ""))
        return found

    # --- the agents -------------------------------------------------------------------------------

    async def _ask(
        self,
        swarm: Swarm,
        pods: Sequence[Pod],
        tokens: tuple[str, str] | None,
        ca: str | None,
    ) -> dict[str, AgentInfo | AgentError]:
        found = await ask_all(_addresses(swarm, pods, tokens, ca), self._agents.info)
        for name, info in found.items():
            if isinstance(info, AgentInfo) and info.swarm != swarm.uid:
                found[name] = AgentError(name, "it is an agent of another swarm")
        return found

    async def _keys(self, agents: Sequence[AgentAddress]) -> dict[str, tuple[str, ...]]:
        found = await ask_all(agents, self._agents.keyring)
        return {name: tuple(keys) for name, keys in found.items() if isinstance(keys, list)}

    async def _settings(
        self, agents: Sequence[AgentAddress], infos: Mapping[str, AgentInfo]
    ) -> dict[str, Any] | None:
        for agent in agents:
            if infos[agent.name].ready:
                try:
                    return (await self._agents.config(agent)).settings
                except AgentError:
                    continue
        return None

    async def _delivered(
        self, swarm: Swarm, agents: Sequence[AgentAddress], infos: Mapping[str, AgentInfo]
    ) -> bool | None:
        """Whether traced writes that we saw the last time are everywhere by now.

        Only asked where agents hold different states, which while writes go on is always so.
        """
        before = self._traces.get(swarm.uid, {})
        self._traces[swarm.uid] = {
            name: info.newest_trace.dot for name, info in infos.items() if info.newest_trace
        }
        if len({info.state_hash for info in infos.values()}) < 2:
            return None
        asked = [agent for agent in agents if agent.name in before]

        async def receipts(agent: AgentAddress) -> bool | None:
            found = await self._agents.receipts(agent, before[agent.name])
            return None if found is None else found.received >= found.agents

        answers = await ask_all(asked, receipts)
        known = [answer for answer in answers.values() if isinstance(answer, bool)]
        return all(known) if known else None

    async def _probe(
        self, swarm: Swarm, pods: Sequence[Pod], infos: Mapping[str, AgentInfo]
    ) -> bool | None:
        """Knock once at the gossip port of one agent, where we must not be let in."""
        if swarm.spec.network_policy.mode == "Disabled":
            return None
        for pod in pods:
            if pod.uid in self._open and pod.name in infos:
                return self._open[pod.uid]
        for pod in pods:
            if pod.ready and pod.address and pod.name in infos:
                self._open = {uid: known for uid, known in self._open.items() if uid != pod.uid}
                self._open[pod.uid] = await _is_open(pod.address, names.GOSSIP_PORT)
                return self._open[pod.uid]
        return None


def expected(swarm: Swarm) -> list[Identity]:
    """Kind and name of everything that a swarm is to have."""
    found = [
        ("ServiceAccount", names.service_account(swarm.name)),
        ("Secret", names.tokens_secret(swarm.name)),
        ("ConfigMap", names.config_map(swarm.name)),
        ("Service", names.client_service(swarm.name)),
    ]
    for region in swarm.regions:
        name = names.stateful_set(swarm.name, region)
        found += [("Service", name), ("StatefulSet", name)]
        if swarm.spec.network_policy.mode == "Enabled":
            found.append(("NetworkPolicy", name))
        if swarm.spec.pdb.mode == "Enabled":
            found.append(("PodDisruptionBudget", name))
    return found


def _addresses(
    swarm: Swarm, pods: Sequence[Pod], tokens: tuple[str, str] | None, ca: str | None
) -> list[AgentAddress]:
    return [
        address_of(swarm, pod, tokens[1], ca)
        for pod in pods
        if pod.address and tokens is not None and not pod.deleting
    ]


def address_of(swarm: Swarm, pod: Pod, token: str, ca: str | None = None) -> AgentAddress:
    """Where the agent of a pod is asked."""
    url = agent_url(pod.address, tls=bool(swarm.spec.api.tls.secret_name))
    return AgentAddress(pod.name, pod.region, url, token, ca)


async def authority(kube: KubeClient, swarm: Swarm) -> str | None:
    """What the agents' certificates chain to; None for plain HTTP."""
    tls = swarm.spec.api.tls.secret_name
    found = await kube.get(SECRETS, swarm.namespace, tls) if tls is not None else None
    data = (found or {}).get("data") or {}
    return _text(data.get("ca.crt") or data.get("tls.crt"))


def _tokens(secret: Object | None) -> tuple[str, str] | None:
    data = (secret or {}).get("data") or {}
    read, write = _text(data.get("read")), _text(data.get("write"))
    return (read, write) if read and write else None


def _text(encoded: str | None) -> str | None:
    try:
        return base64.b64decode(encoded or "", validate=True).decode() or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _last_seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


async def _is_open(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True

"""Looking: everything that a plan for the cuts of a swarm needs. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.access import address_of, authority, tokens_in
from gossipswarm_operator.agent_documents import AgentAddress, AgentError, AgentInfo, Partition
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.builders.ports import OpenPorts
from gossipswarm_operator.client import (
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SWARMS,
    KubeClient,
    Object,
)
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.model import InvalidSpec, Swarm
from gossipswarm_operator.model import parse as parse_swarm
from gossipswarm_operator.observed import Pod, read_pod
from gossipswarm_operator.partition.model import InvalidPartition, SwarmPartition, parse
from gossipswarm_operator.partition.observed import Observed

Key = tuple[str, str]
"""Namespace and name of a swarm."""
_NEEDED: Final = ("regions", "networkPolicy", "api")
"""Fields of a swarm's spec that cuts depend on."""


class Seen:
    """What was found, and how to ask the agents."""

    def __init__(self, observed: Observed, addresses: Mapping[str, AgentAddress]) -> None:
        self.observed = observed
        self.addresses = addresses


async def observe(
    kube: KubeClient,
    api: AgentsApi,
    key: Key,
    sources: Sequence[Object],
    now: datetime,
    ports: OpenPorts,
) -> Seen:
    """Everything about the cuts of a swarm. Raises ApiError if the API server did not say."""
    partitions, invalid = _parsed(sources)
    swarm, absence = await _swarm(kube, key)
    policies = await kube.list_all(NETWORK_POLICIES, key[0])
    named = {found["metadata"]["name"]: found for found in policies}
    if swarm is None:
        gone = Observed(key[1], partitions, invalid, None, absence, named)
        return Seen(gone, {})
    birth_cut = await kube.get(CONFIG_MAPS, key[0], names.cut_config_map(swarm.name))
    listed = await kube.list_all(
        PODS, key[0], labels=names.selector_text(names.agent_selector(swarm.name))
    )
    pods = [(pod, found) for found in listed if (pod := read_pod(found)) is not None]
    addresses = await _addresses(kube, swarm, [pod for pod, _ in pods])
    infos, silent = _sorted_out(await ask_all(addresses.values(), api.info), swarm.uid)
    views: dict[str, Partition] = {}
    if _are_views_wanted(partitions, now):
        asked = [addresses[name] for name in infos]
        found = await ask_all(asked, api.partition)
        views = {name: view for name, view in found.items() if isinstance(view, Partition)}
    observed = Observed(
        name=key[1],
        partitions=partitions,
        invalid=invalid,
        swarm=swarm,
        policies=named,
        birth_cut=birth_cut,
        pods=tuple(pod for pod, _ in pods),
        pod_objects=tuple(found for _, found in pods),
        namespace_labels=await _namespace_labels(kube, key[0]),
        agents=infos,
        silent=silent,
        views=views,
        ports=ports,
    )
    return Seen(observed, addresses)


def _parsed(sources: Sequence[Object]) -> tuple[tuple[SwarmPartition, ...], dict[str, str]]:
    found, invalid = [], {}
    for source in sources:
        try:
            found.append(parse(source))
        except InvalidPartition as error:
            invalid[source["metadata"]["name"]] = str(error)
    return tuple(sorted(found, key=lambda partition: partition.name)), invalid


async def _swarm(kube: KubeClient, key: Key) -> tuple[Swarm | None, tuple[str, str]]:
    source = await kube.get(SWARMS, *key)
    if source is None:
        message = f"there is no GossipSwarm {key[1]!r} in namespace {key[0]!r}"
        return None, ("SwarmNotFound", f"{message}; a SwarmPartition and its swarm are in one")
    if "deletionTimestamp" in source["metadata"]:
        return None, ("SwarmTerminating", f"GossipSwarm {key[1]!r} is being deleted")
    source.setdefault("apiVersion", SWARMS.api_version)
    source.setdefault("kind", SWARMS.kind)
    # A mistake elsewhere in its spec neither ends a cut nor keeps it: what runs is cut, and asked.
    spec = source.get("spec") or {}
    needed = {field: spec[field] for field in _NEEDED if field in spec}
    try:
        return parse_swarm({**source, "spec": needed}), ("", "")
    except InvalidSpec as error:
        return None, ("SwarmInvalid", f"GossipSwarm {key[1]!r}: {error}")


async def _addresses(
    kube: KubeClient, swarm: Swarm, pods: Sequence[Pod]
) -> dict[str, AgentAddress]:
    tokens = tokens_in(await kube.get(SECRETS, swarm.namespace, names.tokens_secret(swarm.name)))
    if tokens is None:
        return {}
    ca = await authority(kube, swarm)
    return {
        pod.name: address_of(swarm, pod, tokens[1], ca)
        for pod in pods
        if pod.address and not pod.deleting
    }


def _sorted_out(
    answers: Mapping[str, AgentInfo | AgentError], uid: str
) -> tuple[dict[str, AgentInfo], dict[str, str]]:
    infos, silent = {}, {}
    for name, answer in answers.items():
        if isinstance(answer, AgentError):
            silent[name] = answer.detail
        elif answer.swarm != uid:
            silent[name] = "it is an agent of another swarm"
        else:
            infos[name] = answer
    return infos, silent


def _are_views_wanted(partitions: Sequence[SwarmPartition], now: datetime) -> bool:
    """Something is still to be noticed: a cut, or its end."""
    return any(
        not _condition_holds(p, "Detected") if p.is_live(now) else not _condition_holds(p, "Healed")
        for p in partitions
        if p.applied_at is not None
    )


def _condition_holds(partition: SwarmPartition, kind: str) -> bool:
    found: Sequence[Mapping[str, Any]] = (partition.source.get("status") or {}).get(
        "conditions"
    ) or ()
    return any(c["type"] == kind and c["status"] == "True" for c in found)


async def _namespace_labels(kube: KubeClient, namespace: str) -> dict[str, str]:
    """Labels by which policies may select a namespace. One that may not be read has those that all have."""
    try:
        found = await kube.get(NAMESPACES, "", namespace)
    except ApiError as error:
        if error.kind != "refused":
            raise
        found = None
    labels = ((found or {}).get("metadata") or {}).get("labels") or {}
    return {"kubernetes.io/metadata.name": namespace, **labels}

"""What a reconcile of a SwarmConfig has to know of the cluster: reads, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import AgentAddress, agent_url
from gossipswarm_operator.client import CONFIG_MAPS, PODS, SECRETS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.observed import read_pod
from gossipswarm_operator.swarmconfig.model import SourceRef
from gossipswarm_operator.swarmconfig.rendering import Fetched
from gossipswarm_operator.swarmconfig.survey import SwarmAgent

_RESOURCES: Final = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}


async def sources(
    kube: KubeClient, namespace: str, refs: Iterable[SourceRef]
) -> dict[SourceRef, Fetched]:
    """What the ConfigMaps and Secrets hold. Raises ApiError if one cannot be known now."""
    wanted = sorted(set(refs), key=str)
    found = await asyncio.gather(*(_source(kube, namespace, ref) for ref in wanted))
    return dict(zip(wanted, found, strict=True))


async def _source(kube: KubeClient, namespace: str, ref: SourceRef) -> Fetched:
    try:
        found = await kube.get(_RESOURCES[ref.kind], namespace, ref.name)
    except ApiError as error:
        if error.kind == "refused":
            return Fetched(forbidden=error.message)
        raise
    if found is None:
        return Fetched()
    return Fetched(entries_of(ref, found))


def entries_of(ref: SourceRef, found: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret with their values."""
    if ref.kind == "Secret":
        return _decoded(found.get("data"))
    texts = {key: str(text).encode() for key, text in (found.get("data") or {}).items()}
    return texts | _decoded(found.get("binaryData"))


def _decoded(entries: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (entries or {}).items()}


class NoCredentials(Exception):
    """The agents of the swarm cannot be asked; the message says why."""


async def agents(kube: KubeClient, swarm: Mapping[str, Any]) -> tuple[list[SwarmAgent], str]:
    """The agents of a swarm, each with its address, by name; and the token that writes.

    Raises:
        NoCredentials: the token cannot be read.
        ApiError: the API server did not say.
    """
    metadata = swarm["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    token = await _secret_value(kube, namespace, names.tokens_secret(name), "write")
    tls = ((swarm["spec"].get("api") or {}).get("tls") or {}).get("secretName")
    ca = await _authority(kube, namespace, tls) if tls else None
    selector = names.selector_text(names.agent_selector(name))
    found = []
    for listed in await kube.list_all(PODS, namespace, labels=selector):
        pod = read_pod(listed)
        phase = (listed.get("status") or {}).get("phase")
        if pod is None or pod.deleting or phase in ("Succeeded", "Failed"):
            continue
        address = None
        if pod.address:
            url = agent_url(pod.address, tls=bool(tls))
            address = AgentAddress(pod.name, pod.region, url, token, ca)
        found.append(SwarmAgent(pod.name, pod.region, pod.ready, address))
    return sorted(found, key=lambda agent: agent.name), token


async def _authority(kube: KubeClient, namespace: str, secret: str) -> str:
    """What the agents' certificate must chain to: the authority in its Secret, or else the certificate itself."""
    try:
        return await _secret_value(kube, namespace, secret, "ca.crt")
    except NoCredentials:
        return await _secret_value(kube, namespace, secret, "tls.crt")


async def _secret_value(kube: KubeClient, namespace: str, secret: str, key: str) -> str:
    try:
        found = await kube.get(SECRETS, namespace, secret)
    except ApiError as error:
        if error.kind == "refused":
            raise NoCredentials(f"Secret {secret!r} may not be read: {error.message}") from None
        raise
    if found is None:
        raise NoCredentials(f"Secret {secret!r} does not exist")
    try:
        return base64.b64decode(found["data"][key]).decode().strip()
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        raise NoCredentials(f"Secret {secret!r} has no usable key {key!r}") from None

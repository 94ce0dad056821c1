"""How the agents of a swarm are reached: by pod address, with a token, and verified by the authority of their certificate."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from gossipswarm_operator.agent_documents import AgentAddress, agent_url
from gossipswarm_operator.client import SECRETS, KubeClient
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Pod


def addresses(
    swarm: Swarm, pods: Sequence[Pod], tokens: tuple[str, str] | None, ca: str | None
) -> list[AgentAddress]:
    """Where agents are asked that may answer. ``tokens``: for reading and for writing; ``ca``: see ``authority``."""
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
    return authority_in(found)


def authority_in(secret: Object | None) -> str | None:
    """What the certificate in a Secret chains to: the authority beside it, or itself."""
    data = (secret or {}).get("data") or {}
    return _text(data.get("ca.crt") or data.get("tls.crt"))


def tokens_in(secret: Object | None) -> tuple[str, str] | None:
    """Read and write token in a swarm's Secret; None if there are none."""
    data = (secret or {}).get("data") or {}
    read, write = _text(data.get("read")), _text(data.get("write"))
    return (read, write) if read and write else None


def _text(encoded: str | None) -> str | None:
    try:
        return base64.b64decode(encoded or "", validate=True).decode() or None
    except (binascii.Error, UnicodeDecodeError):
        return None

"""PodDisruptionBudget and baseline NetworkPolicy of a region."""

from __future__ import annotations

from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.model import Swarm

_HIGHEST: Final = 65_535


def disruption_budget(swarm: Swarm, region: str) -> dict[str, Any]:
    """How many agents of a region may be evicted at a time; one that is not ready may always be."""
    name = names.stateful_set(swarm.name, region)
    body = described(swarm, "policy/v1", "PodDisruptionBudget", name, region=region)
    body["spec"] = {
        "maxUnavailable": swarm.spec.pdb.max_unavailable,
        "selector": {"matchLabels": names.agent_selector(swarm.name, region)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return body


def network_policy(swarm: Swarm, region: str) -> dict[str, Any]:
    """Gossip comes from agents of the swarm only; every other port stays open to anyone.

    Policies only ever allow, so "all but one port" is written as the ranges on both sides of it.
    """
    name = names.stateful_set(swarm.name, region)
    gossip = names.GOSSIP_PORT
    body = described(swarm, "networking.k8s.io/v1", "NetworkPolicy", name, region=region)
    body["spec"] = {
        "podSelector": {"matchLabels": names.agent_selector(swarm.name, region)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "ports": [
                    {"protocol": protocol, "port": first, "endPort": last}
                    for protocol in ("TCP", "UDP")
                    for first, last in ((1, gossip - 1), (gossip + 1, _HIGHEST))
                ]
            },
            {
                "from": [{"podSelector": {"matchLabels": names.agent_selector(swarm.name)}}],
                "ports": [{"protocol": protocol, "port": gossip} for protocol in ("TCP", "UDP")],
            },
        ],
    }
    return body

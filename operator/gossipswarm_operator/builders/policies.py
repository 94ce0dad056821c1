"""PodDisruptionBudget and baseline NetworkPolicy of a region."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.partition.severing import Cut

_WHOLE: Final = Cut()


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


def network_policy(
    swarm: Swarm,
    region: str,
    cut: Cut = _WHOLE,
    regions: Collection[str] = (),
    ports: OpenPorts = RANGES,
) -> dict[str, Any]:
    """Gossip comes from agents of the swarm only; ``ports`` stay open to anyone.

    While the region is cut off from some of ``regions``, gossip comes from the others only: what a policy allows no
    other policy can forbid.
    """
    name = names.stateful_set(swarm.name, region)
    body = described(swarm, "networking.k8s.io/v1", "NetworkPolicy", name, region=region)
    heard = agents(swarm.name)
    if cut.beyond(region):
        heard = agents(swarm.name, cut.hears(region, regions))
        body["metadata"]["labels"][names.PARTITION_LABEL] = names.label_value(*cut.names)
    body["spec"] = {
        "podSelector": {"matchLabels": names.agent_selector(swarm.name, region)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": ports.entries("TCP", "UDP")},
            {"from": [{"podSelector": heard}], "ports": gossip_ports()},
        ],
    }
    return body


def agents(swarm: str, regions: Collection[str] | None = None) -> dict[str, Any]:
    """A selector of the agents of a swarm, or of these regions of it."""
    found: dict[str, Any] = {"matchLabels": names.agent_selector(swarm)}
    if regions is not None:
        found["matchExpressions"] = [
            {"key": names.REGION_LABEL, "operator": "In", "values": sorted(regions)}
        ]
    return found


def gossip_ports() -> list[dict[str, Any]]:
    """The ports that agents talk to each other on."""
    return [{"protocol": protocol, "port": names.GOSSIP_PORT} for protocol in ("TCP", "UDP")]

"""The NetworkPolicies of a cut. Pure: no call, clock or chance."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.builders.policies import agents, gossip_ports
from gossipswarm_operator.builders.ports import RANGES, OpenPorts, Protocol
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.partition.model import SwarmPartition
from gossipswarm_operator.partition.severing import Cut, severed_by

COMPONENT: Final = "cut"
_PROTOCOLS: Final[tuple[Protocol, ...]] = ("TCP", "UDP", "SCTP")


def side_policies(
    swarm: Swarm,
    partition: SwarmPartition,
    cut: Cut,
    regions: Collection[str],
    ports: OpenPorts = RANGES,
) -> list[dict[str, Any]]:
    """One policy for each side of a SwarmPartition.

    Policies allow what any of them allows, so each says what is left by *all* cuts of the swarm: where several overlap,
    regions of a side that hear different others have policies of their own.
    """
    touched = sorted({region for pair in severed_by(partition, regions) for region in pair})
    together: dict[tuple[str, ...], list[str]] = {}
    for region in touched:
        together.setdefault(cut.hears(region, regions), []).append(region)
    return [_policy(swarm, partition, side, heard, ports) for heard, side in together.items()]


def _policy(
    swarm: Swarm,
    partition: SwarmPartition,
    side: list[str],
    heard: tuple[str, ...],
    ports: OpenPorts,
) -> dict[str, Any]:
    peers = [{"podSelector": agents(swarm.name, heard)}]
    owner = names.owner_reference(partition.source)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names.cut_policy(swarm.name, partition.name, side[0]),
            "namespace": partition.namespace,
            "labels": {
                **names.labels(swarm.name, COMPONENT),
                names.PARTITION_LABEL: names.label_value(partition.name),
            },
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": agents(swarm.name, side),
            "policyTypes": ["Ingress", "Egress"],
            # Gossip is closed and nothing that is in use beside it: name servers, probes, metrics and clients go on.
            "ingress": [
                {"ports": ports.entries(*_PROTOCOLS)},
                {"from": peers, "ports": gossip_ports()},
            ],
            "egress": [
                *ports.outgoing(swarm.name, *_PROTOCOLS),
                {"to": peers, "ports": gossip_ports()},
            ],
        },
    }

"""Services: one for clients, and a headless one in each region by which agents find each other."""

from __future__ import annotations

from typing import Any

from gossipswarm_operator import names
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.model import Swarm


def client_service(swarm: Swarm) -> dict[str, Any]:
    """The API of any agent that is ready."""
    api = swarm.spec.api
    body = described(
        swarm,
        "v1",
        "Service",
        names.client_service(swarm.name),
        component="api",
        annotations=api.service.annotations,
    )
    body["spec"] = {
        "type": api.service.type,
        "selector": names.agent_selector(swarm.name),
        "ports": [
            {
                "name": "api",
                "port": names.API_PORT,
                "targetPort": "api",
                "protocol": "TCP",
                "appProtocol": "https" if api.tls.secret_name else "http",
            }
        ],
    }
    return body


def headless_service(swarm: Swarm, region: str) -> dict[str, Any]:
    """Addresses of a region's agents, those that are not ready yet included: they need each other for that."""
    name = names.stateful_set(swarm.name, region)
    body = described(swarm, "v1", "Service", name, region=region)
    body["spec"] = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": names.agent_selector(swarm.name, region),
        "ports": [
            _port("gossip-udp", names.GOSSIP_PORT, "UDP"),
            _port("gossip-tcp", names.GOSSIP_PORT, "TCP"),
            _port("api", names.API_PORT, "TCP"),
        ],
    }
    return body


def _port(name: str, port: int, protocol: str) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": name, "protocol": protocol}

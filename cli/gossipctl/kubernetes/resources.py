"""Names and paths of what a swarm consists of in Kubernetes. ``swarm`` is the GossipSwarm's name."""

from __future__ import annotations

GROUP = "gossipswarm.io"
API_VERSION = f"{GROUP}/v1alpha1"
MANAGER = "gossipctl"
"""Field manager of what is applied, and managed-by of what is created."""

SWARM_LABEL = f"{GROUP}/swarm"
REGION_LABEL = f"{GROUP}/region"
ROLE_LABEL = f"{GROUP}/role"
PARTITION_LABEL = f"{GROUP}/partition"
"""On every NetworkPolicy that holds a cut: the SwarmPartition that it belongs to."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
DOWN_ANNOTATION = f"{GROUP}/replicas-before-down"
"""On a GossipSwarm that is down: region to replicas, as JSON."""

API_PORT = 7601
GOSSIP_PORT = 7600
CONTAINER = "agent"
HOOKS_KEY = "hooks.yaml"


def custom(plural: str, namespace: str, name: str = "") -> str:
    """Path of custom objects of ours, or of one of them."""
    return _below(f"/apis/{API_VERSION}/namespaces/{namespace}/{plural}", name)


def swarms(namespace: str, name: str = "") -> str:
    """Path of GossipSwarms."""
    return custom("gossipswarms", namespace, name)


def partitions(namespace: str, name: str = "") -> str:
    """Path of SwarmPartitions."""
    return custom("swarmpartitions", namespace, name)


def core(plural: str, namespace: str, name: str = "") -> str:
    """Path of pods, secrets and their like."""
    return _below(f"/api/v1/namespaces/{namespace}/{plural}", name)


def network_policies(namespace: str, name: str = "") -> str:
    """Path of NetworkPolicies."""
    return _below(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", name)


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if name else path


def agents_of(swarm: str, region: str | None = None) -> str:
    """Label selector of a swarm's agents."""
    selector = f"{SWARM_LABEL}={swarm},{ROLE_LABEL}=agent"
    return f"{selector},{REGION_LABEL}={region}" if region else selector


def agent(swarm: str, region: str, ordinal: int) -> str:
    """An agent, which is also the name of its pod."""
    return f"{swarm}-{region}-{ordinal}"


def tokens(swarm: str) -> str:
    """The Secret with the tokens of the agents' API."""
    return f"{swarm}-tokens"


def volume_claim(name: str) -> str:
    """The volume claim of an agent."""
    return f"data-{name}"

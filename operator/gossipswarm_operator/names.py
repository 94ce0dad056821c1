"""What everything of a swarm is called in Kubernetes: the one place that knows.

``swarm`` is the name of the GossipSwarm, ``region`` that of one of its regions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

GROUP: Final = "gossipswarm.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "gossipswarm"
MANAGER_NAME: Final = "gossipswarm-operator"

GOSSIP_PORT: Final = 7600
API_PORT: Final = 7601
LOCAL_API_PORT: Final = 7602
"""Where a sidecar serves its application, on loopback."""
CONTAINER: Final = "agent"

# --- labels and annotations -----------------------------------------------------------------------

NAME_LABEL: Final = "app.kubernetes.io/name"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
SWARM_LABEL: Final = f"{GROUP}/swarm"
REGION_LABEL: Final = f"{GROUP}/region"
ROLE_LABEL: Final = f"{GROUP}/role"
PARTITION_LABEL: Final = f"{GROUP}/partition"
"""On everything that holds a cut: the SwarmPartition that it is of. It is found by this when no operator runs."""
AGENT_ROLE: Final = "agent"
REVISION_LABEL: Final = "controller-revision-hash"
"""Set on pods by the StatefulSet controller."""

APPLIED_ANNOTATION: Final = f"{GROUP}/applied"
"""Hash of the object as it was last applied: tells a field that is no longer wanted."""
TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
"""On a StatefulSet: hash of its template as it was last applied."""
PRIMARY_ANNOTATION: Final = f"{GROUP}/primary"
"""On the keyring Secret: id of the key that seals."""
GENERATION_ANNOTATION: Final = f"{GROUP}/generation"
"""On the keyring Secret: the rotation that its newest key belongs to."""
DRAIN_ANNOTATION: Final = f"{GROUP}/drain-since"
"""On a pod that is to go: since when its agent is asked to hand over, RFC 3339."""
DRAINED_ANNOTATION: Final = f"{GROUP}/drained-until"
"""On a pod that is to go: until when its agent takes no writes, others holding all of its own, RFC 3339."""
HOOKS_ANNOTATION: Final = f"{GROUP}/hooks"
"""On agents' pods: hash of the hooks that they started with."""

INJECT_LABEL: Final = f"{GROUP}/inject"
"""On a pod: the swarm whose sidecar it asks for."""
NO_INJECTION: Final = "false"
PROJECT_ANNOTATION: Final = f"{GROUP}/project"
PREFIXES_ANNOTATION: Final = f"{GROUP}/prefixes"
SIDECAR_REGION_ANNOTATION: Final = f"{GROUP}/region"
ACCESS_ANNOTATION: Final = f"{GROUP}/access"
RELOAD_SIGNAL_ANNOTATION: Final = f"{GROUP}/reload-signal"
RELOAD_URL_ANNOTATION: Final = f"{GROUP}/reload-url"
SIDECAR_RESOURCES_ANNOTATION: Final = f"{GROUP}/resources"
SIDECAR: Final = "gossipswarm"
"""The sidecar's container; its volumes' names begin so."""


def labels(swarm: str, component: str, region: str | None = None) -> dict[str, str]:
    """Labels of an object that the operator owns."""
    found = {
        NAME_LABEL: "gossipswarm",
        INSTANCE_LABEL: swarm,
        COMPONENT_LABEL: component,
        MANAGED_BY_LABEL: MANAGER_NAME,
        SWARM_LABEL: swarm,
    }
    if region is not None:
        found[REGION_LABEL] = region
    return found


def agent_selector(swarm: str, region: str | None = None) -> dict[str, str]:
    """Labels that select the agents of a swarm, or of one of its regions."""
    found = {SWARM_LABEL: swarm, ROLE_LABEL: AGENT_ROLE}
    if region is not None:
        found[REGION_LABEL] = region
    return found


def owned_selector(swarm: str) -> str:
    """Label selector, as text, of everything that the operator made for a swarm."""
    return f"{SWARM_LABEL}={swarm},{MANAGED_BY_LABEL}={MANAGER_NAME}"


def is_owned(found: Mapping[str, Any], swarm: str) -> bool:
    """Whether ``owned_selector`` selects an object."""
    labels = found["metadata"].get("labels") or {}
    return (labels.get(SWARM_LABEL), labels.get(MANAGED_BY_LABEL)) == (swarm, MANAGER_NAME)


def selector_text(selector: Mapping[str, str]) -> str:
    """A label selector as ``kubectl -l`` takes it."""
    return ",".join(f"{name}={value}" for name, value in selector.items())


# --- names ----------------------------------------------------------------------------------------


def stateful_set(swarm: str, region: str) -> str:
    """The StatefulSet of a region; its headless Service, budget and network policy share the name."""
    return f"{swarm}-{region}"


def agent(swarm: str, region: str, ordinal: int) -> str:
    """An agent, which is also the name of its pod."""
    return f"{swarm}-{region}-{ordinal}"


def ordinal_of(pod: str) -> int:
    """The last part of a pod's name. Raises ValueError if it is no pod of a StatefulSet."""
    return int(pod.rpartition("-")[2])


def client_service(swarm: str) -> str:
    """The Service that clients use."""
    return swarm


def config_map(swarm: str) -> str:
    """The ConfigMap with ``agent.yaml``."""
    return f"{swarm}-config"


def cut_config_map(swarm: str) -> str:
    """The ConfigMap with the cut that new agents are born into, while there is one."""
    return f"{swarm}-cut"


def cut_policy(swarm: str, partition: str, region: str) -> str:
    """The NetworkPolicy of the side of a SwarmPartition that begins with ``region``."""
    # Dots: no region's own policy can have this name.
    return _shortened(f"{swarm}.{partition}.{region}", 253)


def label_value(*names: str) -> str:
    """Names as the value of a label; those that are too long together end in a hash."""
    return _shortened(".".join(names), 63)


def _shortened(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    return f"{name[: limit - 9].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def keyring_secret(swarm: str) -> str:
    """The Secret with the keys, unless the swarm names one of its own."""
    return f"{swarm}-keyring"


def tokens_secret(swarm: str) -> str:
    """The Secret with the tokens of the agents' API: ``read`` and ``write``."""
    return f"{swarm}-tokens"


def service_account(swarm: str) -> str:
    """The agents' ServiceAccount."""
    return f"{swarm}-agent"


def volume_claim(swarm: str, region: str, ordinal: int) -> str:
    """The PersistentVolumeClaim of an agent, as the StatefulSet controller names it."""
    return f"data-{swarm}-{region}-{ordinal}"


def seed(swarm: str, region: str, namespace: str) -> str:
    """Where the agents of a region are found: the SRV records of its headless Service."""
    service = f"_gossip-udp._udp.{stateful_set(swarm, region)}.{namespace}.svc"
    return f"{region}=srv:{service}"


def api_seed(swarm: str, region: str, namespace: str) -> str:
    """Where edges find the API of a region's agents: the SRV records of its headless Service."""
    service = f"_api._tcp.{stateful_set(swarm, region)}.{namespace}.svc"
    return f"{region}=srv:{service}"


# --- owners ---------------------------------------------------------------------------------------


def owner_reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    """A controller reference to ``owner``, an object as the API server gives it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }


def controller_of(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The reference to an object's controller, if it has one."""
    references = found.get("metadata", {}).get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def is_owned_by(found: Mapping[str, Any], uid: str) -> bool:
    """Whether the object's controller has this uid."""
    controller = controller_of(found)
    return controller is not None and controller.get("uid") == uid

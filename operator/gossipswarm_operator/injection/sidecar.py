"""The sidecar as Kubernetes runs it: a native sidecar (an init container that goes on), its volumes, and what the application's
containers see of them. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.injection.wishes import Signal, Wishes
from gossipswarm_operator.model import Swarm

Json = dict[str, Any]

TOPOLOGY_LABEL: Final = "topology.kubernetes.io/region"
"""Of nodes; newer clusters copy it to each pod when it gets its node."""
IMAGE_USER: Final = 65_532
"""User of the agent's image."""
TOKEN_DIRECTORY: Final = "/etc/gossipswarm/token"  # noqa: S105 - a place
AUTHORITY_DIRECTORY: Final = "/etc/gossipswarm/authority"
TOKEN_VOLUME: Final = f"{names.SIDECAR}-token"
AUTHORITY_VOLUME: Final = f"{names.SIDECAR}-authority"
FILES_VOLUME: Final = f"{names.SIDECAR}-files"
DEFAULT_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "10m", "memory": "64Mi"},
    "limits": {"memory": "256Mi"},
}
FILES_LIMIT: Final = "2Gi"
"""Of one directory: sixteen files of 64 MiB are the most there can be, each written beside the one before it."""
NO_ACCOUNT_VOLUME: Final = f"{names.SIDECAR}-no-account"
ACCOUNT_DIRECTORY: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
STATE_VOLUME: Final = f"{names.SIDECAR}-state"
STATE_DIRECTORY: Final = "/var/lib/gossipswarm"
STATE_LIMIT: Final = "1Gi"


def container(
    swarm: Swarm, default_image: str, wishes: Wishes, pod: Mapping[str, Any], region: str | None
) -> Json:
    """The sidecar's container; ``region`` None = that of the node, which nobody knows yet."""
    image = swarm.spec.image
    return {
        "name": names.SIDECAR,
        "image": image.reference(default_image),
        "imagePullPolicy": image.pull_policy,
        "restartPolicy": "Always",
        "ports": [{"name": "gossipswarm", "containerPort": names.API_PORT, "protocol": "TCP"}],
        "env": _environment(swarm, wishes, region),
        "resources": copy.deepcopy(wishes.resources or DEFAULT_RESOURCES),
        "securityContext": _security(wishes, pod),
        "volumeMounts": _own_mounts(swarm, wishes),
        # Ready once it holds everything: containers after it start with their files in place. It waits for five
        # minutes for an agent before it is started again, and for ever in all.
        "startupProbe": _probe("/readyz", period=1, failures=300, timeout=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6, timeout=5),
        # No readiness probe: without any agent it still serves what it holds, and the application goes on.
    }


def _probe(path: str, *, period: int, failures: int, timeout: int) -> Json:
    return {
        "httpGet": {"path": path, "port": "gossipswarm"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _security(wishes: Wishes, pod: Mapping[str, Any]) -> Json:
    """What the restricted Pod Security Standard asks for, whatever the pod has."""
    context: Json = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    user = application_user(pod) if wishes.reload_signal else None
    inherited = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    if user is not None:
        context["runAsUser"] = user  # only a user's own processes take its signals
    elif inherited == 0:
        context["runAsUser"] = IMAGE_USER
    return context


def application_user(pod: Mapping[str, Any]) -> int | None:
    """The user that all containers of the application run as, if the pod says so."""
    of_pod = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {
        (each.get("securityContext") or {}).get("runAsUser", of_pod)
        for each in pod["spec"]["containers"]
    }
    return users.pop() if len(users) == 1 else None


# --- its environment ------------------------------------------------------------------------------


def _environment(swarm: Swarm, wishes: Wishes, region: str | None) -> list[Json]:
    token = f"{TOKEN_DIRECTORY}/{wishes.access}"
    plain = {
        "ROLE": "edge",
        "SWARM": swarm.uid,
        "UPSTREAM": ",".join(
            names.api_seed(swarm.name, each, swarm.namespace) for each in swarm.regions
        ),
        "UPSTREAM_TOKEN_FILE": token,
        # On the pod's address, for probes. Whoever asks for more there has to have the sidecar's own token.
        "API_HOST": "0.0.0.0",  # noqa: S104 - the pod's own network
        "READ_TOKEN_FILE": token,
        "WRITE_TOKEN_FILE": token,
        "LOCAL_API_PORT": str(names.LOCAL_API_PORT),
        "DATA_DIR": STATE_DIRECTORY,
    }
    if swarm.spec.api.tls.secret_name:
        plain["UPSTREAM_CA_FILE"] = f"{AUTHORITY_DIRECTORY}/ca.crt"
    if wishes.prefixes:
        plain["PREFIXES"] = ",".join(wishes.prefixes)
    if wishes.projections:
        plain["PROJECT"] = json.dumps(_project(wishes), separators=(",", ":"))
    if region is not None:
        plain["REGION"] = region
    entries = [
        _of_pod("GOSSIPSWARM_NAME", "metadata.name"),
        *({"name": f"GOSSIPSWARM_{name}", "value": value} for name, value in plain.items()),
    ]
    if region is None:
        entries.append(_of_pod("GOSSIPSWARM_REGION", f"metadata.labels['{TOPOLOGY_LABEL}']"))
    return entries


def _project(wishes: Wishes) -> list[Json]:
    return [
        {
            "prefix": projection.prefix,
            "path": projection.path,
            "format": projection.format,
            **_reload(wishes),
        }
        for projection in wishes.projections
    ]


def _reload(wishes: Wishes) -> Json:
    if wishes.reload_url:
        return {"reload": {"http": wishes.reload_url}}
    match wishes.reload_signal:
        case Signal(name=name, process=process):
            return {"reload": {"signal": name, "process": process}}
    return {}


def _of_pod(name: str, field: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}


# --- volumes --------------------------------------------------------------------------------------


def volumes(swarm: Swarm, wishes: Wishes, authority: str) -> list[Json]:
    """Volumes of the pod. Of the swarm's Secret only the token that the sidecar needs is in any of them.

    ``authority`` is the key of the TLS Secret that agents' certificates chain to.
    """
    token = {
        "secretName": names.tokens_secret(swarm.name),
        "items": [{"key": wishes.access, "path": wishes.access}],
        # By whoever runs the one container that mounts it; its user is not known here.
        "defaultMode": 0o444,
    }
    found: list[Json] = [
        {"name": TOKEN_VOLUME, "secret": token},
        {"name": STATE_VOLUME, "emptyDir": {"sizeLimit": STATE_LIMIT}},
        {"name": NO_ACCOUNT_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
    ]
    tls = swarm.spec.api.tls.secret_name
    if tls:
        items = [{"key": authority, "path": "ca.crt"}]
        secret = {"secretName": tls, "items": items, "defaultMode": 0o444}
        found.append({"name": AUTHORITY_VOLUME, "secret": secret})
    for number, _ in enumerate(wishes.directories):
        found.append({"name": f"{FILES_VOLUME}-{number}", "emptyDir": {"sizeLimit": FILES_LIMIT}})
    return found


def file_mounts(wishes: Wishes, *, writable: bool) -> list[Json]:
    """Mounts of the projected files; the application's are read-only."""
    return [
        {"name": f"{FILES_VOLUME}-{number}", "mountPath": directory}
        | ({} if writable else {"readOnly": True})
        for number, directory in enumerate(wishes.directories)
    ]


def _own_mounts(swarm: Swarm, wishes: Wishes) -> list[Json]:
    found: list[Json] = [
        {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
        {"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY},
        # Where something is mounted already, Kubernetes mounts no token of the application's ServiceAccount.
        {"name": NO_ACCOUNT_VOLUME, "mountPath": ACCOUNT_DIRECTORY, "readOnly": True},
    ]
    if swarm.spec.api.tls.secret_name:
        found.append({"name": AUTHORITY_VOLUME, "mountPath": AUTHORITY_DIRECTORY, "readOnly": True})
    return found + file_mounts(wishes, writable=True)

"""The pod of an agent: one container, no privileges, nothing writable but its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.builders.cuts import CUT_FILE
from gossipswarm_operator.builders.facts import Facts
from gossipswarm_operator.model import Region, Swarm

USER: Final = 10_001
"""User and group of the agent's image."""
LEAD_SECONDS: Final = 5
"""For which an agent that is told to end serves on."""
CONFIG_DIRECTORY: Final = "/etc/gossipswarm"
DATA_DIRECTORY: Final = "/var/lib/gossipswarm"
DEFAULT_RESOURCES: Final = {"requests": {"cpu": "50m", "memory": "128Mi"}}


def template(swarm: Swarm, region: Region, facts: Facts) -> dict[str, Any]:
    """Template of a region's pods."""
    spec = swarm.spec.pod_template
    labels = {
        **spec.metadata.labels,
        **names.labels(swarm.name, "agent", region.name),
        names.ROLE_LABEL: names.AGENT_ROLE,
    }
    metadata: dict[str, Any] = {"labels": labels}
    annotations = {**spec.metadata.annotations, **facts.restart}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": _pod(swarm, region, facts)}


def _pod(swarm: Swarm, region: Region, facts: Facts) -> dict[str, Any]:
    spec = swarm.spec
    template = spec.pod_template
    pod: dict[str, Any] = {
        "serviceAccountName": names.service_account(swarm.name),
        "automountServiceAccountToken": False,
        # The environment would hold one variable for each port of each Service of the namespace.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": template.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(swarm, region, facts)],
        "volumes": _volumes(swarm),
        "topologySpreadConstraints": _spread(swarm, region),
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in spec.image.secrets],
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "nodeSelector": {**template.node_selector, **region.node_selector},
        "affinity": region.affinity or template.affinity,
        "tolerations": [*template.tolerations, *region.tolerations],
    }
    return pod | {name: value for name, value in optional.items() if value}


def _spread(swarm: Swarm, region: Region) -> list[dict[str, Any]]:
    for wanted in (region, swarm.spec.pod_template):
        if wanted.topology_spread_constraints is not None:
            return wanted.topology_spread_constraints
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": names.agent_selector(swarm.name, region.name)},
        }
    ]


# --- the container --------------------------------------------------------------------------------


def _container(swarm: Swarm, region: Region, facts: Facts) -> dict[str, Any]:
    spec = swarm.spec
    return {
        "name": names.CONTAINER,
        "image": spec.image.reference(facts.default_image),
        "imagePullPolicy": spec.image.pull_policy,
        "ports": [
            {"name": "gossip-udp", "containerPort": names.GOSSIP_PORT, "protocol": "UDP"},
            {"name": "gossip-tcp", "containerPort": names.GOSSIP_PORT, "protocol": "TCP"},
            {"name": "api", "containerPort": names.API_PORT, "protocol": "TCP"},
        ],
        "env": _environment(swarm, region.name),
        "resources": spec.pod_template.resources or DEFAULT_RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(swarm),
        # Nodes take a moment to hear that a pod goes; until then clients of the Service are still led to it.
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAD_SECONDS}}},
        # A journal of 100,000 leaves is read within seconds; five minutes are for a slow disk.
        "startupProbe": _probe(swarm, "/healthz", period=2, failures=150, timeout=2),
        "livenessProbe": _probe(swarm, "/healthz", period=10, failures=6, timeout=5),
        "readinessProbe": _probe(swarm, "/readyz", period=3, failures=3, timeout=3),
    }


def _probe(swarm: Swarm, path: str, *, period: int, failures: int, timeout: int) -> dict[str, Any]:
    scheme = "HTTPS" if swarm.spec.api.tls.secret_name else "HTTP"
    return {
        "httpGet": {"path": path, "port": "api", "scheme": scheme},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _environment(swarm: Swarm, region: str) -> list[dict[str, Any]]:
    plain = {
        "CONFIG": f"{CONFIG_DIRECTORY}/agent.yaml",
        "REGION": region,
        "HOST": "0.0.0.0",  # noqa: S104 - the pod's own network
        "DATA_DIR": DATA_DIRECTORY,
        "READ_TOKEN_FILE": f"{CONFIG_DIRECTORY}/tokens/read",
        "WRITE_TOKEN_FILE": f"{CONFIG_DIRECTORY}/tokens/write",
        "CUT_FILE": f"{CONFIG_DIRECTORY}/cut/{CUT_FILE}",
    }
    if swarm.encrypted:
        plain["KEYS_FILE"] = f"{CONFIG_DIRECTORY}/keys"
    else:
        plain["PLAINTEXT"] = "true"
    if swarm.spec.hooks.config_map_name:
        plain["HOOKS"] = f"{CONFIG_DIRECTORY}/hooks/hooks.yaml"
    if swarm.spec.api.tls.secret_name:
        plain["TLS_CERTIFICATE"] = f"{CONFIG_DIRECTORY}/tls/tls.crt"
        plain["TLS_KEY"] = f"{CONFIG_DIRECTORY}/tls/tls.key"
    entries = [
        _of_pod("GOSSIPSWARM_NAME", "metadata.name"),
        _of_pod("GOSSIPSWARM_ADVERTISE", "status.podIP"),
        _of_pod("NODE_NAME", "spec.nodeName"),
        {"name": "GOSSIPSWARM_LABELS", "value": "node=$(NODE_NAME)"},
        *({"name": f"GOSSIPSWARM_{name}", "value": value} for name, value in plain.items()),
    ]
    ours = {entry["name"] for entry in entries}
    return entries + [entry for entry in swarm.spec.pod_template.env if entry["name"] not in ours]


def _of_pod(name: str, field: str) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "fieldPath": field}
    return {"name": name, "valueFrom": {"fieldRef": reference}}


# --- volumes --------------------------------------------------------------------------------------


def _mounts(swarm: Swarm) -> list[dict[str, Any]]:
    places = {
        "config": CONFIG_DIRECTORY,
        "tokens": f"{CONFIG_DIRECTORY}/tokens",
        "cut": f"{CONFIG_DIRECTORY}/cut",
    }
    if swarm.encrypted:
        places["keys"] = f"{CONFIG_DIRECTORY}/keys"
    if swarm.spec.hooks.config_map_name:
        places["hooks"] = f"{CONFIG_DIRECTORY}/hooks"
    if swarm.spec.api.tls.secret_name:
        places["tls"] = f"{CONFIG_DIRECTORY}/tls"
    return [
        {"name": "data", "mountPath": DATA_DIRECTORY},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - hooks run programs
        *({"name": name, "mountPath": path, "readOnly": True} for name, path in places.items()),
    ]


def _volumes(swarm: Swarm) -> list[dict[str, Any]]:
    spec = swarm.spec
    volumes = [
        {"name": "config", "configMap": _readable("name", names.config_map(swarm.name))},
        {"name": "tokens", "secret": _readable("secretName", names.tokens_secret(swarm.name))},
        # Only there while a SwarmPartition lives.
        {"name": "cut", "configMap": {"name": names.cut_config_map(swarm.name), "optional": True}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if swarm.encrypted:
        secret = spec.encryption.secret_name or names.keyring_secret(swarm.name)
        volumes.append({"name": "keys", "secret": _readable("secretName", secret)})
    if spec.hooks.config_map_name:
        hooks = _readable("name", spec.hooks.config_map_name)
        volumes.append({"name": "hooks", "configMap": hooks})
    if spec.api.tls.secret_name:
        tls = _readable("secretName", spec.api.tls.secret_name)
        volumes.append({"name": "tls", "secret": tls})
    if spec.storage.type == "Ephemeral":
        volumes.append({"name": "data", "emptyDir": _ephemeral(spec.storage.size)})
    return volumes


def _readable(field: str, name: str) -> dict[str, Any]:
    """By the group that the agent runs in, not by everybody."""
    return {field: name, "defaultMode": 0o440}


def _ephemeral(size: str) -> Mapping[str, Any]:
    return {"sizeLimit": size}

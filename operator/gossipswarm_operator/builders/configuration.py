"""ConfigMap, Secrets and ServiceAccount: what every agent of a swarm is given."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import yaml

from gossipswarm_operator import names
from gossipswarm_operator.builders.facts import Facts
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.model import Swarm

CONFIG_FILE: Final = "agent.yaml"


def config_map(swarm: Swarm, facts: Facts) -> dict[str, Any]:
    """Who is in the swarm, where to find them, and the parameters to start with."""
    document = {
        "swarm": swarm.uid,
        "seeds": seeds(swarm, facts),
        "declared": dict(sorted(facts.declared.items())),
        "settings": dict(sorted(facts.settings.items())),
    }
    body = described(swarm, "v1", "ConfigMap", names.config_map(swarm.name), component="config")
    body["data"] = {CONFIG_FILE: yaml.safe_dump(document, sort_keys=False, width=10_000)}
    return body


def seeds(swarm: Swarm, facts: Facts) -> list[str]:
    """One a region. None for an agent that is alone: it has nobody to wait for."""
    if len(facts.declared) < 2:
        return []
    occupied = set(facts.declared.values())
    return [
        names.seed(swarm.name, region, swarm.namespace)
        for region in facts.regions
        if region in occupied
    ]


def read_config(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """``agent.yaml`` of a ConfigMap; empty if there is none that can be read."""
    try:
        document = yaml.safe_load(((found or {}).get("data") or {}).get(CONFIG_FILE) or "")
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


def keyring_secret(swarm: Swarm, facts: Facts) -> dict[str, Any]:
    """The keys that gossip is sealed with."""
    body = described(
        swarm,
        "v1",
        "Secret",
        names.keyring_secret(swarm.name),
        component="keyring",
        annotations=facts.key_annotations,
    )
    body["type"] = "Opaque"
    body["data"] = {
        name: base64.b64encode(content).decode() for name, content in facts.keys.items()
    }
    return body


def tokens_secret(swarm: Swarm, facts: Facts) -> dict[str, Any]:
    """The bearer tokens of the agents' API."""
    body = described(swarm, "v1", "Secret", names.tokens_secret(swarm.name), component="tokens")
    body["type"] = "Opaque"
    body["data"] = {
        scope: base64.b64encode(token.encode()).decode()
        for scope, token in (("read", facts.read_token), ("write", facts.write_token))
    }
    return body


def service_account(swarm: Swarm) -> dict[str, Any]:
    """Agents never talk to Kubernetes, so theirs has no token."""
    body = described(swarm, "v1", "ServiceAccount", names.service_account(swarm.name))
    body["automountServiceAccountToken"] = False
    return body

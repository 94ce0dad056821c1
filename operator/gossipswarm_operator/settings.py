"""The operator's own settings, from its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gossipswarm_operator.builders.ports import OpenPorts, listed

PREFIX: Final = "GOSSIPSWARM_OPERATOR_"


class InvalidSettings(ValueError):
    """A variable makes no sense; the message names it and says what is expected."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator is told."""

    agent_image: str
    """Image of agents whose swarm names none."""
    namespace: str
    """Its own namespace, where its Lease is."""
    pod: str
    """Its own name, by which it holds the Lease."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces that it serves; none = all."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    http_port: int = 8080
    """Of /healthz, /readyz and /metrics; 0 = any."""
    kubeconfig: str | None = None
    """File to reach the cluster by; None = the pod's ServiceAccount, or the usual file."""
    lease_seconds: float = 15.0
    """After which a leader that is not heard of is followed by another."""
    resync_seconds: float = 30.0
    """After which a swarm is looked at though nothing was heard of it."""
    policy_ports: Literal["ranges", "explicit"] = "ranges"
    """How NetworkPolicies leave open what is not gossip; explicit = the network does not know ``endPort``."""
    policy_explicit_ports: tuple[str, ...] = ("53/UDP", "53/TCP", "80/TCP", "443/TCP")
    """What they leave open then, beside the agents' API."""
    webhook_port: int | None = None
    """Of the webhook that gives pods their sidecar; 0 = any, None = there is none."""
    webhook_host: str = ""
    """What the API server calls the webhook: name of a Service, or an address."""
    webhook_secret: str = "gossipswarm-operator-webhook"  # noqa: S105 - a name
    """Secret with the webhook's certificate, in the operator's own namespace."""
    webhook_configuration: str | None = None
    """MutatingWebhookConfiguration that is to trust it; None = somebody else makes the certificate."""

    @property
    def open_ports(self) -> OpenPorts:
        """What policies leave open beside gossip. Raises ValueError."""
        return (
            listed(self.policy_explicit_ports) if self.policy_ports == "explicit" else OpenPorts()
        )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings. Raises InvalidSettings."""
    image = environment.get("GOSSIPSWARM_AGENT_IMAGE", "")
    if not image:
        raise InvalidSettings("GOSSIPSWARM_AGENT_IMAGE must name the image of agents")

    def told(name: str, default: str) -> str:
        return environment.get(PREFIX + name, "") or default

    found = {
        "agent_image": image,
        "namespace": told("NAMESPACE", "default"),
        "pod": told("POD", environment.get("HOSTNAME", "gossipswarm-operator")),
        "watch_namespaces": [
            part.strip() for part in told("WATCH_NAMESPACES", "").split(",") if part.strip()
        ],
        "log_level": told("LOG_LEVEL", "info").lower(),
        "log_format": told("LOG_FORMAT", "json").lower(),
        "http_port": told("HTTP_PORT", "8080"),
        "kubeconfig": environment.get("KUBECONFIG") or None,
        "lease_seconds": told("LEASE_SECONDS", "15"),
        "resync_seconds": told("RESYNC_SECONDS", "30"),
        "policy_ports": told("POLICY_PORTS", "ranges").lower(),
        "webhook_port": told("WEBHOOK_PORT", "") or None,
        "webhook_host": told("WEBHOOK_HOST", ""),
        "webhook_secret": told("WEBHOOK_SECRET", "gossipswarm-operator-webhook"),
        "webhook_configuration": told("WEBHOOK_CONFIGURATION", "") or None,
    }
    listing = environment.get(PREFIX + "POLICY_EXPLICIT_PORTS")
    if listing is not None:  # none at all can be meant
        found["policy_explicit_ports"] = [
            part.strip() for part in listing.split(",") if part.strip()
        ]
    if found["webhook_configuration"] and not found["webhook_host"]:
        raise InvalidSettings(
            f"{PREFIX}WEBHOOK_HOST must say what the API server calls the webhook, such as a Service"
        )
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        variable = PREFIX + where.rstrip("`").upper()
        raise InvalidSettings(f"{variable}: {reason[0].lower()}{reason[1:]}") from None
    try:
        listed(settings.policy_explicit_ports)
    except ValueError as error:
        raise InvalidSettings(f"{PREFIX}POLICY_EXPLICIT_PORTS: {error}") from None
    return settings

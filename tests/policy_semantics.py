"""What NetworkPolicies allow, straight from their definition and with no regard to cost: what the operator's own reckoning is
held against, and the network of clusters in miniature."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def passes(
    policies: Sequence[Json],
    source: Json,
    target: Json,
    protocol: str,
    port: int,
    namespace: Mapping[str, str],
    *,
    ranges: bool = True,
) -> bool:
    """Whether a new connection passes between two pods of a namespace with these labels.

    Without ``ranges`` the network is one that does not know ``endPort``, and takes a range for its first port.
    """
    leaving = [p for p in policies if _isolates(p, source, "Egress")]
    entering = [p for p in policies if _isolates(p, target, "Ingress")]
    may_leave = not leaving or any(
        _lets(rule, "to", target, target, protocol, port, namespace, ranges)
        for policy in leaving
        for rule in policy["spec"].get("egress", [])
    )
    may_enter = not entering or any(
        _lets(rule, "from", source, target, protocol, port, namespace, ranges)
        for policy in entering
        for rule in policy["spec"].get("ingress", [])
    )
    return may_leave and may_enter


def _isolates(policy: Json, pod: Json, kind: str) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return kind in kinds and _selected(spec["podSelector"], pod["metadata"]["labels"])


def _lets(
    rule: Json,
    side: str,
    peer: Json,
    target: Json,
    protocol: str,
    port: int,
    namespace: Json,
    ranges: bool,
) -> bool:
    ports, peers = rule.get("ports", []), rule.get(side, [])
    right_port = ports == [] or any(_has_port(p, target, protocol, port, ranges) for p in ports)
    right_peer = peers == [] or any(_is_peer(p, peer, namespace) for p in peers)
    return right_port and right_peer


def _has_port(entry: Json, target: Json, protocol: str, port: int, ranges: bool) -> bool:
    if entry.get("protocol", "TCP") != protocol:
        return False
    if "port" not in entry:
        return True
    named = [
        each["containerPort"]
        for each in target["spec"]["containers"][0]["ports"]
        if each["name"] == entry["port"] and each["protocol"] == protocol
    ]
    if isinstance(entry["port"], str):
        return port in named
    if not ranges:
        return port == int(entry["port"])
    return port in range(entry["port"], entry.get("endPort", entry["port"]) + 1)


def _is_peer(entry: Json, pod: Json, namespace: Json) -> bool:
    if "ipBlock" in entry:
        address = ipaddress.ip_address(pod["status"]["podIP"])
        block = entry["ipBlock"]
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(cidr) for cidr in block.get("except", [])
        )
    here = "namespaceSelector" not in entry or _selected(entry["namespaceSelector"], namespace)
    chosen = "podSelector" not in entry or _selected(
        entry["podSelector"], pod["metadata"]["labels"]
    )
    return here and chosen


def _selected(selector: Json, labels: Json) -> bool:
    checks = [labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()]
    for entry in selector.get("matchExpressions", []):
        has, value = entry["key"] in labels, labels.get(entry["key"])
        checks.append(
            {
                "In": has and value in entry.get("values", []),
                "NotIn": not has or value not in entry.get("values", []),
                "Exists": has,
                "DoesNotExist": not has,
            }[entry["operator"]]
        )
    return all(checks)

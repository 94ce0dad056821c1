"""Which NetworkPolicies open again what a cut closes, by working out what all of them together allow. Pure.

A connection passes if the source may send it and the target may receive it. A pod that policies of a direction select may do
what any of them allows, and nothing else; one that none selects may do anything. (Kubernetes, NetworkPolicySpec v1.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.observed import Object
from gossipswarm_operator.partition.model import SwarmPartition
from gossipswarm_operator.partition.observed import Observed, labels_of
from gossipswarm_operator.partition.severing import Pair, pair, severed_by

Direction = Literal["ingress", "egress"]
PROTOCOLS: Final = ("TCP", "UDP")


class Place(msgspec.Struct, frozen=True):
    """A pod, as policies see it."""

    name: str
    region: str
    labels: Mapping[str, str]
    address: str | None
    ports: Mapping[tuple[str, str], int]
    """Ports by name and protocol."""


def place(found: Object) -> Place:
    """A pod as the API server gives it."""
    labels = labels_of(found)
    return Place(
        found["metadata"]["name"],
        labels.get(names.REGION_LABEL, ""),
        labels,
        (found.get("status") or {}).get("podIP"),
        {
            (port["name"], port.get("protocol", "TCP")): port["containerPort"]
            for container in found["spec"].get("containers") or ()
            for port in container.get("ports") or ()
            if "name" in port
        },
    )


def reopening(observed: Observed, partition: SwarmPartition) -> tuple[str, ...]:
    """Names of policies, not made for the swarm by us, that together open what a SwarmPartition closes."""
    foreign = [
        found
        for found in observed.policies.values()
        if labels_of(found).get(names.MANAGED_BY_LABEL) != names.MANAGER_NAME
        or labels_of(found).get(names.SWARM_LABEL) != partition.swarm
    ]
    if not foreign:
        return ()
    places = [place(found) for found in observed.pod_objects]
    severed = severed_by(partition, observed.regions)
    return opened(foreign, places, severed, observed.namespace_labels, ranges=observed.ports.ranges)


def opened(
    policies: Sequence[Object],
    places: Sequence[Place],
    severed: frozenset[Pair],
    namespace_labels: Mapping[str, str],
    port: int = names.GOSSIP_PORT,
    *,
    ranges: bool = True,
) -> tuple[str, ...]:
    """Names of those of ``policies`` that let gossip pass between severed regions, by name.

    ``policies`` are those beside the cut's own, which isolate every pod of a severed region in both directions; so what passes
    is what some of these allow at both ends. ``ranges``: the network knows ``endPort``; otherwise a range is its first port.
    """
    places = _distinct(policies, places, port, namespace_labels, ranges)
    sending = {p.name: _rules(policies, "egress", p, ranges) for p in places}
    receiving = {p.name: _rules(policies, "ingress", p, ranges) for p in places}
    culprits: set[str] = set()
    for source in places:
        if not sending[source.name]:
            continue
        for target in places:
            if not receiving[target.name] or pair(source.region, target.region) not in severed:
                continue
            for protocol in PROTOCOLS:
                # A named port is one of the pod that is connected to.
                out = _allowing(
                    sending[source.name], target, target, protocol, port, namespace_labels
                )
                into = _allowing(
                    receiving[target.name], source, target, protocol, port, namespace_labels
                )
                if out and into:
                    culprits |= out | into
    return tuple(sorted(culprits))


def _distinct(
    policies: Sequence[Object],
    places: Sequence[Place],
    port: int,
    namespace_labels: Mapping[str, str],
    ranges: bool,
) -> list[Place]:
    """One of each kind of places that no policy tells apart: every pair of a thousand agents takes seconds to go through."""
    specs = [policy["spec"] for policy in policies]
    rules = [
        rule if ranges else _without_ranges(rule)
        for spec in specs
        for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ()))
    ]
    kinds: dict[tuple[Any, ...], Place] = {}
    for each in places:
        selected = tuple(selects(spec.get("podSelector") or {}, each.labels) for spec in specs)
        matched = tuple(
            (
                _matches_peer(rule.get("from") or rule.get("to"), each, namespace_labels),
                *(_matches_port(rule.get("ports"), each, protocol, port) for protocol in PROTOCOLS),
            )
            for rule in rules
        )
        kinds.setdefault((each.region, selected, matched), each)
    return list(kinds.values())


def described(overrides: Sequence[str]) -> str:
    """What to say about them."""
    who = ", ".join(overrides[:3]) + (f" and {len(overrides) - 3} more" if overrides[3:] else "")
    kind = "NetworkPolicy" if len(overrides) == 1 else "NetworkPolicies"
    verb = "opens" if len(overrides) == 1 else "open"
    return f"{kind} {who} {verb} the gossip ports across the cut again; delete or narrow"


# --- what one policy says -------------------------------------------------------------------------

_Rule = tuple[str, Mapping[str, Any]]
"""Name of the policy, and a rule of it."""


def _rules(
    policies: Sequence[Object], direction: Direction, of: Place, ranges: bool
) -> list[_Rule]:
    """Rules of a direction of the policies that select a pod."""
    return [
        (policy["metadata"]["name"], rule if ranges else _without_ranges(rule))
        for policy in policies
        if direction in _directions(policy["spec"])
        and selects(policy["spec"].get("podSelector") or {}, of.labels)
        for rule in policy["spec"].get(direction) or ()
    ]


def _without_ranges(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    ports = [
        {field: value for field, value in entry.items() if field != "endPort"}
        for entry in rule.get("ports") or ()
    ]
    return {**rule, "ports": ports}


def _directions(spec: Mapping[str, Any]) -> set[str]:
    types = spec.get("policyTypes")
    if types:
        return {str(kind).lower() for kind in types}
    return {"ingress", "egress"} if spec.get("egress") else {"ingress"}


def _allowing(
    rules: Sequence[_Rule],
    peer: Place,
    target: Place,
    protocol: str,
    port: int,
    namespace_labels: Mapping[str, str],
) -> set[str]:
    """Policies with a rule for this peer and port."""
    return {
        name
        for name, rule in rules
        if _matches_peer(rule.get("from") or rule.get("to"), peer, namespace_labels)
        and _matches_port(rule.get("ports"), target, protocol, port)
    }


def _matches_peer(
    peers: Sequence[Mapping[str, Any]] | None, peer: Place, namespace_labels: Mapping[str, str]
) -> bool:
    if not peers:
        return True
    return any(_is_peer(entry, peer, namespace_labels) for entry in peers)


def _is_peer(entry: Mapping[str, Any], peer: Place, namespace_labels: Mapping[str, str]) -> bool:
    block = entry.get("ipBlock")
    if block is not None:
        return _in_block(block, peer.address)
    spaces = entry.get("namespaceSelector")
    if spaces is not None and not selects(spaces, namespace_labels):
        return False
    pods = entry.get("podSelector")
    return (spaces is not None and pods is None) or selects(pods, peer.labels)


def _in_block(block: Mapping[str, Any], address: str | None) -> bool:
    if address is None:
        return False
    try:
        ip = ipaddress.ip_address(address)
        inside = ip in ipaddress.ip_network(block["cidr"], strict=False)
        excepted = any(
            ip in ipaddress.ip_network(cidr, strict=False) for cidr in block.get("except") or ()
        )
    except ValueError:
        return False
    return inside and not excepted


def _matches_port(
    ports: Sequence[Mapping[str, Any]] | None, target: Place, protocol: str, port: int
) -> bool:
    if not ports:
        return True
    for entry in ports:
        if entry.get("protocol", "TCP") != protocol:
            continue
        first = entry.get("port")
        if first is None:
            return True
        if isinstance(first, str):
            if target.ports.get((first, protocol)) == port:
                return True
        elif first <= port <= entry.get("endPort", first):
            return True
    return False


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects an object with these labels; an empty one selects all, none at all nothing."""
    if selector is None:
        return False
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    return all(_fulfils(entry, labels) for entry in selector.get("matchExpressions") or ())


def _fulfils(entry: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(entry["key"]), entry.get("values") or ()
    match entry["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False

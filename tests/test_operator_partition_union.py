"""Which policies open a cut again, held against what NetworkPolicies mean by their definition."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_operator import model
from gossipswarm_operator.builders.policies import network_policy
from gossipswarm_operator.builders.ports import RANGES, OpenPorts, listed
from gossipswarm_operator.partition import union
from gossipswarm_operator.partition.model import parse
from gossipswarm_operator.partition.policies import side_policies
from gossipswarm_operator.partition.severing import combined, pair
from gossipswarm_operator.partition.union import described, opened, place
from operator_world import START, swarm_source
from policy_semantics import passes

REGIONS = ("us-east", "us-west", "eu-central")
PORT = 7600
NAMESPACE = {"kubernetes.io/metadata.name": "prod", "team": "core"}


def pod(region: str, ordinal: int, number: int, **labels: str) -> dict[str, Any]:
    name = f"demo-{region}-{ordinal}"
    identity = {
        "gossipswarm.io/swarm": "demo",
        "gossipswarm.io/role": "agent",
        "gossipswarm.io/region": region,
    }
    ports = [
        {"name": "gossip-udp", "containerPort": PORT, "protocol": "UDP"},
        {"name": "gossip-tcp", "containerPort": PORT, "protocol": "TCP"},
        {"name": "api", "containerPort": 7601, "protocol": "TCP"},
    ]
    return {
        "metadata": {"name": name, "labels": {**identity, **labels}},
        "spec": {"containers": [{"name": "agent", "ports": ports}]},
        "status": {"podIP": f"10.0.{number}.{ordinal + 1}"},
    }


PODS = [
    pod(region, ordinal, number, **({"canary": "yes"} if ordinal else {}))
    for number, region in enumerate(REGIONS)
    for ordinal in range(2)
]


def partition(*groups: list[str], **spec: Any) -> Any:
    source = {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "SwarmPartition",
        "metadata": {"name": "drill", "namespace": "prod", "uid": "u", "generation": 1},
        "spec": {"swarmRef": {"name": "demo"}, "groups": [list(g) for g in groups], **spec},
        "status": {"appliedAt": START.isoformat()},
    }
    return parse(source)


LISTED = listed(["53/UDP", "53/TCP", "443/TCP"])
"""On a network that does not know ``endPort``."""


def ours(
    found: Any, ports: OpenPorts = RANGES
) -> tuple[list[dict[str, Any]], frozenset[tuple[str, str]]]:
    """Every policy of the operator while a cut lives, and what it severs."""
    swarm = model.parse(swarm_source(regions=[{"name": region} for region in REGIONS]))
    cut = combined([found], REGIONS)
    baseline = [network_policy(swarm, region, cut, REGIONS, ports) for region in REGIONS]
    return baseline + side_policies(swarm, found, cut, REGIONS, ports), cut.severed


# --- policies of somebody else, of all kinds --------------------------------------------------------

LABELS = st.sampled_from(
    [
        ("gossipswarm.io/region", "us-east"),
        ("gossipswarm.io/region", "us-west"),
        ("gossipswarm.io/swarm", "demo"),
        ("canary", "yes"),
        ("app", "other"),
    ]
)
EXPRESSIONS = st.builds(
    lambda label, operator: {
        "key": label[0],
        "operator": operator,
        **({"values": [label[1]]} if operator in ("In", "NotIn") else {}),
    },
    LABELS,
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
)
SELECTORS = st.one_of(
    st.just({}),
    LABELS.map(lambda label: {"matchLabels": dict([label])}),
    st.lists(EXPRESSIONS, min_size=1, max_size=2).map(lambda found: {"matchExpressions": found}),
)
SPACES = st.sampled_from([{}, {"matchLabels": {"team": "core"}}, {"matchLabels": {"team": "web"}}])
BLOCKS = st.sampled_from(
    [
        {"cidr": "10.0.0.0/16"},
        {"cidr": "10.0.1.0/24"},
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/24"]},
        {"cidr": "192.168.0.0/16"},
    ]
)
PEERS = st.one_of(
    SELECTORS.map(lambda found: {"podSelector": found}),
    SPACES.map(lambda found: {"namespaceSelector": found}),
    st.builds(lambda p, n: {"podSelector": p, "namespaceSelector": n}, SELECTORS, SPACES),
    BLOCKS.map(lambda found: {"ipBlock": found}),
)
PORTS = st.sampled_from(
    [
        {},
        {"protocol": "UDP"},
        {"port": 7600},
        {"protocol": "UDP", "port": 7600},
        {"protocol": "TCP", "port": 7000, "endPort": 7599},
        {"protocol": "TCP", "port": 7000, "endPort": 7700},
        {"protocol": "UDP", "port": "gossip-udp"},
        {"protocol": "TCP", "port": "gossip-udp"},
        {"protocol": "TCP", "port": "api"},
        {"protocol": "SCTP", "port": 7600},
    ]
)


def rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                side: st.lists(PEERS, min_size=1, max_size=2),
                "ports": st.lists(PORTS, min_size=1, max_size=2),
            },
        ),
        max_size=2,
    )


SPECS = st.fixed_dictionaries(
    {"podSelector": SELECTORS},
    optional={
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": rules("from"),
        "egress": rules("to"),
    },
)
CUTS = st.sampled_from(
    [
        partition(["us-east"]),
        partition(["us-east"], ["us-west"], transit="Enabled"),
        partition(["us-east"], ["us-west"], ["eu-central"]),
    ]
)


@settings(max_examples=300)
@given(CUTS, st.lists(SPECS, max_size=3), st.sampled_from([RANGES, LISTED]))
def test_what_policies_of_others_open_is_what_the_union_of_all_of_them_lets_through(
    found, specs, ports
):
    foreign = [
        {"metadata": {"name": f"other-{number}"}, "spec": spec} for number, spec in enumerate(specs)
    ]
    own, severed = ours(found, ports)
    named = opened(foreign, [place(p) for p in PODS], severed, NAMESPACE, ranges=ports.ranges)
    crossing = [
        (source, target, protocol)
        for source in PODS
        for target in PODS
        if pair(*(p["metadata"]["labels"]["gossipswarm.io/region"] for p in (source, target)))
        in severed
        for protocol in ("TCP", "UDP")
    ]

    def leaks(policies: list[dict[str, Any]]) -> bool:
        return any(
            passes([*own, *policies], a, b, p, PORT, NAMESPACE, ranges=ports.ranges)
            for a, b, p in crossing
        )

    assert bool(named) == leaks(foreign)
    innocent = [policy for policy in foreign if policy["metadata"]["name"] not in named]
    assert not leaks(innocent), "whoever deletes what is named has the cut"


@settings(max_examples=60)
@given(CUTS, st.sampled_from(PODS), st.sampled_from(PODS))
def test_a_cut_closes_gossip_across_it_and_nothing_else(found, source, target):
    own, severed = ours(found)
    regions = [p["metadata"]["labels"]["gossipswarm.io/region"] for p in (source, target)]
    crosses = pair(*regions) in severed
    for protocol in ("TCP", "UDP"):
        assert passes(own, source, target, protocol, PORT, NAMESPACE) is not crosses
        for port in (1, 53, 443, 7599, 7601, 65_535):
            assert passes(own, source, target, protocol, port, NAMESPACE)


@settings(max_examples=60)
@given(CUTS, st.sampled_from(PODS), st.sampled_from(PODS))
def test_where_ranges_are_not_known_listed_ports_stay_open_and_gossip_does_not(
    found, source, target
):
    own, severed = ours(found, LISTED)

    def through(protocol: str, port: int) -> bool:
        return passes(own, source, target, protocol, port, NAMESPACE, ranges=False)

    regions = [p["metadata"]["labels"]["gossipswarm.io/region"] for p in (source, target)]
    crosses = pair(*regions) in severed
    assert through("TCP", PORT) is through("UDP", PORT) is not crosses
    assert through("TCP", 7601)
    assert through("TCP", 443)
    assert not through("TCP", 7602)


def test_a_range_that_its_network_takes_for_one_port_opens_no_more():
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 7000, "endPort": 7700}]}],
        "egress": [{"ports": [{"port": 7000, "endPort": 7700}]}],
    }
    foreign = [{"metadata": {"name": "range"}, "spec": spec}]
    _, severed = ours(partition(["us-east"]))
    places = [place(p) for p in PODS]
    assert opened(foreign, places, severed, NAMESPACE) == ("range",)
    assert opened(foreign, places, severed, NAMESPACE, ranges=False) == ()


def test_name_servers_scrapers_and_clients_are_not_cut_off():
    own, _ = ours(partition(["us-east"]))
    stranger = {
        "metadata": {"name": "dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"containers": [{"name": "dns", "ports": []}]},
        "status": {"podIP": "10.96.0.10"},
    }
    assert passes(own, PODS[0], stranger, "UDP", 53, NAMESPACE)
    assert passes(own, stranger, PODS[0], "TCP", 7601, NAMESPACE)
    assert not passes(own, stranger, PODS[0], "UDP", PORT, NAMESPACE)
    own, _ = ours(partition(["us-east"]), LISTED)
    # A name server's pod may listen on another port than its Service.
    assert passes(own, PODS[0], stranger, "UDP", 5353, NAMESPACE, ranges=False)
    assert passes(own, stranger, PODS[0], "TCP", 7601, NAMESPACE, ranges=False)
    assert not passes(own, stranger, PODS[0], "UDP", PORT, NAMESPACE, ranges=False)


def test_agents_of_another_swarm_of_the_namespace_are_not_touched():
    own, _ = ours(partition(["us-east"]))
    others = [pod("us-east", 0, 9), pod("us-west", 0, 8)]
    for other in others:
        other["metadata"]["labels"]["gossipswarm.io/swarm"] = "billing"
    for protocol in ("TCP", "UDP"):
        assert passes(own, others[0], others[1], protocol, PORT, NAMESPACE)


def test_a_thousand_agents_are_no_more_to_reckon_with_than_the_kinds_of_them(monkeypatch):
    calls = 0
    real = union.selects

    def counted(*arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        return real(*arguments)

    monkeypatch.setattr(union, "selects", counted)
    pods = [pod(region, n, number) for number, region in enumerate(REGIONS) for n in range(300)]
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
        "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 53}]}],
    }
    _, severed = ours(partition(["us-east"]))
    places = [place(p) for p in pods]
    assert opened([{"metadata": {"name": "dns"}, "spec": spec}], places, severed, NAMESPACE) == ()
    assert calls < 10 * len(pods)


def test_one_end_alone_opens_nothing():
    opens = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    _, severed = ours(partition(["us-east"]))
    places = [place(p) for p in PODS]
    egress = {"metadata": {"name": "egress"}, "spec": opens}
    ingress = {"metadata": {"name": "ingress"}, "spec": {"podSelector": {}, "ingress": [{}]}}
    assert opened([egress], places, severed, NAMESPACE) == ()
    assert opened([ingress], places, severed, NAMESPACE) == ()
    assert opened([egress, ingress], places, severed, NAMESPACE) == ("egress", "ingress")
    assert described(("egress", "ingress")).startswith("NetworkPolicies egress, ingress open")

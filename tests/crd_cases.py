"""Specs that the API server must take, and specs that it must refuse, with words of what it says."""

from __future__ import annotations

from typing import Any, NamedTuple

Spec = dict[str, Any]


class Case(NamedTuple):
    """One object. ``says`` is part of the refusal; empty where the object is taken."""

    title: str
    kind: str
    spec: Spec
    says: str = ""
    name: str = "demo"


class Change(NamedTuple):
    """A change of an object that exists, as a merge patch of its spec."""

    title: str
    kind: str
    before: Spec
    change: Spec
    says: str = ""


EAST = {"name": "us-east"}
WEST = {"name": "us-west"}


def swarm(**spec: Any) -> Spec:
    """A swarm of one region, with what else is given."""
    return {"regions": [EAST], **spec}


def gossip(**parameters: Any) -> Spec:
    """A swarm with these parameters."""
    return swarm(gossip=parameters)


def config(**spec: Any) -> Spec:
    """A SwarmConfig with one value, with what else is given; None takes a field away."""
    found = {"swarmRef": {"name": "demo"}, "prefix": "app.config", "data": {"ttl": 60}, **spec}
    return {name: value for name, value in found.items() if value is not None}


def cut(**spec: Any) -> Spec:
    """A SwarmPartition of one region against the rest, with what else is given."""
    return {"swarmRef": {"name": "demo"}, "groups": [["us-east"]], **spec}


def regions(*names: str) -> list[Spec]:
    return [{"name": name} for name in names]


def many_regions(size: str) -> list[Spec]:
    """As many regions as there can be, with names as long as they can be."""
    storage = {"size": size, "storageClassName": "c" * 253}
    return [{"name": f"{'r' * 38}{n:02}", "storage": storage} for n in range(64)]


TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {"matchLabels": {"app": "demo"}},
}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
}

TAKEN = [
    Case("regions alone", "GossipSwarm", swarm()),
    Case(
        "three regions", "GossipSwarm", swarm(regions=regions("us-east", "us-west", "eu-central"))
    ),
    Case("64 regions", "GossipSwarm", swarm(regions=regions(*(f"r{n}" for n in range(64))))),
    Case("as many agents as maxAgents", "GossipSwarm", swarm(replicasPerRegion=7, maxAgents=7)),
    Case("a region without agents", "GossipSwarm", swarm(regions=[{**EAST, "replicas": 0}])),
    Case("names of 47 characters", "GossipSwarm", swarm(regions=regions("r" * 40)), name="s" * 7),
    Case(
        "every parameter of the gossip",
        "GossipSwarm",
        gossip(
            fanout=16,
            interval="10ms",
            mode="Push",
            eager="Disabled",
            redundancy=4,
            convergenceThreshold="1",
            antiEntropy="Disabled",
            antiEntropyInterval="1h",
            partitionDetection="Disabled",
            partitionTimeout="1m",
            healingStrategy="Manual",
            conflictResolution="Union",
            conflictPolicies=[
                {"prefix": "counters", "resolution": "Max"},
                {"prefix": r"files.app\.yaml", "resolution": "LastWriteWins"},
            ],
            compression="None",
            regionAffinity="0.825",
            crossRegionFanout=8,
            maxClockSkew="1ms",
            degradedMode="Enabled",
            probeInterval="60000ms",
            suspicionTimeout="10m",
        ),
    ),
    Case("a fraction of a second", "GossipSwarm", gossip(interval="1.5s")),
    Case(
        "an image of a registry with a port",
        "GossipSwarm",
        swarm(image={"repository": "localhost:5000/team/agent", "tag": "1.4.0-rc.1"}),
    ),
    Case(
        "an image by digest with a pull secret",
        "GossipSwarm",
        swarm(image={"digest": "sha256:" + "4f" * 32, "pullSecrets": [{"name": "registry"}]}),
    ),
    Case(
        "the API by a load balancer with TLS",
        "GossipSwarm",
        swarm(
            api={
                "service": {
                    "type": "LoadBalancer",
                    "annotations": {"example.com/internal": "true"},
                },
                "tls": {"secretName": "api-tls"},
            }
        ),
    ),
    Case("hooks", "GossipSwarm", swarm(hooks={"configMapName": "hooks"})),
    Case(
        "a region with larger volumes",
        "GossipSwarm",
        swarm(
            regions=[{**EAST, "storage": {"size": "10Gi", "storageClassName": "fast"}}],
            storage={"size": "512Mi", "retention": "Delete"},
        ),
    ),
    Case(
        "no volumes and no sync",
        "GossipSwarm",
        swarm(storage={"type": "Ephemeral"}, durability="Memory"),
    ),
    Case(
        "an update that goes on at a share",
        "GossipSwarm",
        swarm(update={"strategy": "AllRegions", "minReady": "80%", "timeout": "1h"}),
    ),
    Case("an update that goes on at a number", "GossipSwarm", swarm(update={"minReady": 2})),
    Case("a budget as a share", "GossipSwarm", swarm(pdb={"maxUnavailable": "100%"})),
    Case(
        "keys of one's own, rotated",
        "GossipSwarm",
        swarm(encryption={"secretName": "keys", "rotation": {"generation": 3}}),
    ),
    Case(
        "everything switched off",
        "GossipSwarm",
        swarm(
            encryption={"mode": "Disabled"},
            pdb={"mode": "Disabled"},
            networkPolicy={"mode": "Disabled"},
            reconciliation="Paused",
        ),
    ),
    Case(
        "a full pod template",
        "GossipSwarm",
        swarm(
            podTemplate={
                "metadata": {"labels": {"team": "a"}, "annotations": {"example.com/x": "y"}},
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": 1, "memory": "256Mi"},
                },
                "priorityClassName": "high",
                "runtimeClassName": "gvisor",
                "terminationGracePeriodSeconds": 60,
                "env": [
                    {"name": "GOSSIPSWARM_LOG_LEVEL", "value": "debug"},
                    {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "nodeSelector": {"disk": "ssd"},
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 10, "podAffinityTerm": TERM}
                        ]
                    }
                },
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}],
                "topologySpreadConstraints": [SPREAD],
            }
        ),
    ),
    Case(
        "a region on nodes of its own",
        "GossipSwarm",
        swarm(
            regions=[
                {
                    **EAST,
                    "nodeSelector": {"topology.kubernetes.io/region": "us-east"},
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {"key": "a", "operator": "In", "values": ["b"]}
                                        ]
                                    }
                                ]
                            }
                        },
                        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]},
                    },
                    "tolerations": [{"operator": "Exists"}],
                    "topologySpreadConstraints": [{**SPREAD, "minDomains": 2}],
                }
            ]
        ),
    ),
    Case("values", "SwarmConfig", config()),
    Case("no value at all", "SwarmConfig", config(data={})),
    Case(
        "values of any shape",
        "SwarmConfig",
        config(data={"a": {"b.c": [1, "x", None, {"d": True}], "e": 0.5}, "f": {}}),
    ),
    Case(
        "values of a ConfigMap and a Secret",
        "SwarmConfig",
        config(
            data=None,
            valuesFrom=[
                {"configMapRef": {"name": "base"}},
                {"secretRef": {"name": "s", "key": "k.yaml", "optional": True}, "path": "db.login"},
            ],
        ),
    ),
    Case("a prefix with an escaped dot", "SwarmConfig", config(prefix=r"files.app\.yaml")),
    Case("a prefix of other letters", "SwarmConfig", config(prefix="app.größe_1.$x")),
    Case(
        "a canary",
        "SwarmConfig",
        config(
            rollout={"canaryRegions": ["us-east"], "timeout": "90s"},
            conflictPolicy="KeepLive",
            prune="Disabled",
        ),
    ),
    Case("one region against the rest", "SwarmPartition", cut()),
    Case(
        "three groups for five minutes",
        "SwarmPartition",
        cut(
            groups=[["us-east"], ["us-west", "ap-south"], ["eu-central"]],
            duration="5m",
            transit="Enabled",
            mechanism="NetworkPolicy",
            onUnenforced="Fail",
        ),
    ),
    Case(
        "64 regions in one group",
        "SwarmPartition",
        cut(groups=[[f"{n:02}{'r' * 38}" for n in range(64)]]),
    ),
    Case(
        "64 regions in 16 groups",
        "SwarmPartition",
        cut(groups=[[f"{'r' * 36}-{g:02}{n}" for n in range(4)] for g in range(16)]),
    ),
]

DURATION = "must be a duration from"

REFUSED = [
    # --- regions and their number
    Case("no regions", "GossipSwarm", {}, "spec.regions: Required value"),
    Case("an empty list of regions", "GossipSwarm", swarm(regions=[]), "at least 1 item"),
    Case(
        "65 regions",
        "GossipSwarm",
        swarm(regions=regions(*(f"r{n}" for n in range(65)))),
        "spec.regions: Too many: 65: must have at most 64 items",
    ),
    Case("a region without a name", "GossipSwarm", swarm(regions=[{}]), "spec.regions[0].name"),
    Case(
        "a region twice",
        "GossipSwarm",
        swarm(regions=[EAST, WEST, EAST]),
        'spec.regions[2]: Duplicate value: {"name":"us-east"}',
    ),
    Case(
        "a region in capitals",
        "GossipSwarm",
        swarm(regions=regions("US-East")),
        'spec.regions[0].name: is "US-East", but must be lower-case letters, digits and inner hyphens',
    ),
    Case(
        "a region with a hyphen last",
        "GossipSwarm",
        swarm(regions=regions("us-")),
        "must be lower-case letters, digits and inner hyphens, such as us-east",
    ),
    Case("a long name of a region", "GossipSwarm", swarm(regions=regions("r" * 41)), "Too long"),
    Case(
        "negative replicas",
        "GossipSwarm",
        swarm(regions=[{**EAST, "replicas": -1}]),
        "spec.regions[0].replicas in body should be greater than or equal to 0",
    ),
    Case(
        "replicas as text", "GossipSwarm", swarm(replicasPerRegion="3"), "must be of type integer"
    ),
    Case(
        "too many replicas a region",
        "GossipSwarm",
        swarm(replicasPerRegion=1001),
        "spec.replicasPerRegion in body should be less than or equal to 1000",
    ),
    Case(
        "more agents than maxAgents",
        "GossipSwarm",
        swarm(regions=[{**EAST, "replicas": 9}, WEST], maxAgents=11),
        "the regions have 12 agents together, but spec.maxAgents is 11; it may be up to 10000",
    ),
    Case(
        "more agents than are admitted by default",
        "GossipSwarm",
        swarm(regions=[EAST, WEST], replicasPerRegion=501),
        "the regions have 1002 agents together, but spec.maxAgents is 1000",
    ),
    Case("no agents admitted", "GossipSwarm", swarm(maxAgents=0), "spec.maxAgents"),
    Case("too many admitted", "GossipSwarm", swarm(maxAgents=10_001), "spec.maxAgents"),
    # --- names
    Case(
        "a long name",
        "GossipSwarm",
        swarm(regions=regions("eu-central", "us")),
        f'names may have 47 characters together, but {"s" * 38} has 38, which is too long with ["eu-central"]',
        name="s" * 38,
    ),
    Case("a name with a dot", "GossipSwarm", swarm(), "metadata.name is a.b, but must", "a.b"),
    Case("a name with a digit first", "GossipSwarm", swarm(), "and begin with a letter", "1st"),
    # --- unknown fields
    Case(
        "a misspelt field", "GossipSwarm", swarm(replicaPerRegion=3), 'unknown field "spec.replica'
    ),
    Case(
        "a misspelt parameter", "GossipSwarm", gossip(fanOut=3), 'unknown field "spec.gossip.fanOut'
    ),
    Case("paused as elsewhere", "GossipSwarm", swarm(paused=True), 'unknown field "spec.paused"'),
    # --- gossip
    Case("no fanout", "GossipSwarm", gossip(fanout=0), "greater than or equal to 1"),
    Case("a wide fanout", "GossipSwarm", gossip(fanout=17), "less than or equal to 16"),
    Case("a fraction of a peer", "GossipSwarm", gossip(fanout=2.5), "must be of type integer"),
    Case("redundancy", "GossipSwarm", gossip(redundancy=5), "less than or equal to 4"),
    Case(
        "crossRegionFanout", "GossipSwarm", gossip(crossRegionFanout=9), "less than or equal to 8"
    ),
    Case(
        "the agent's own spelling of a mode",
        "GossipSwarm",
        gossip(mode="push-pull"),
        'Unsupported value: "push-pull": supported values: "Push", "Pull", "PushPull"',
    ),
    Case(
        "a boolean for a switch", "GossipSwarm", gossip(antiEntropy=True), "must be of type string"
    ),
    Case("a word for a switch", "GossipSwarm", gossip(eager="on"), 'values: "Enabled", "Disabled"'),
    Case("healing", "GossipSwarm", gossip(healingStrategy="Ask"), '"MergeLastWriteWins", "Merge"'),
    Case("resolution", "GossipSwarm", gossip(conflictResolution="First"), '"VectorClock"'),
    Case("compression", "GossipSwarm", gossip(compression="gzip"), '"None", "Delta", "Zstd"'),
    Case(
        "a number for a duration",
        "GossipSwarm",
        gossip(interval=100),
        "spec.gossip.interval in body must be of type string",
    ),
    Case(
        "a duration without a unit",
        "GossipSwarm",
        gossip(interval="100"),
        'spec.gossip.interval: is "100", but must be a duration from 10ms to 1m, such as 100ms',
    ),
    Case("a duration of words", "GossipSwarm", gossip(interval="soon"), f"{DURATION} 10ms to 1m"),
    Case("two units", "GossipSwarm", gossip(interval="1s500ms"), f"{DURATION} 10ms to 1m"),
    Case("a negative duration", "GossipSwarm", gossip(interval="-1s"), f"{DURATION} 10ms to 1m"),
    Case("a short interval", "GossipSwarm", gossip(interval="9ms"), f"{DURATION} 10ms to 1m"),
    Case("a long interval", "GossipSwarm", gossip(interval="61s"), f"{DURATION} 10ms to 1m"),
    Case(
        "anti-entropy", "GossipSwarm", gossip(antiEntropyInterval="2h"), f"{DURATION} 100ms to 1h"
    ),
    Case("detection", "GossipSwarm", gossip(partitionTimeout="99ms"), f"{DURATION} 100ms to 1m"),
    Case("clock skew", "GossipSwarm", gossip(maxClockSkew="0ms"), f"{DURATION} 1ms to 1h"),
    Case("probes", "GossipSwarm", gossip(probeInterval="1h"), f"{DURATION} 10ms to 1m"),
    Case("suspicion", "GossipSwarm", gossip(suspicionTimeout="11m"), f"{DURATION} 10ms to 10m"),
    Case(
        "a share above one",
        "GossipSwarm",
        gossip(convergenceThreshold="1.01"),
        'spec.gossip.convergenceThreshold: is "1.01", but must be a decimal from 0 to 1, such as 0.95',
    ),
    Case(
        "a share in percent", "GossipSwarm", gossip(regionAffinity="80%"), "must be a decimal from"
    ),
    Case(
        "a share as a number", "GossipSwarm", gossip(regionAffinity=0.8), "must be of type string"
    ),
    Case(
        "a prefix of the swarm's own",
        "GossipSwarm",
        gossip(conflictPolicies=[{"prefix": "$swarm.config", "resolution": "Max"}]),
        "what begins with $ is for the swarm itself",
    ),
    Case(
        "a prefix twice",
        "GossipSwarm",
        gossip(conflictPolicies=[{"prefix": "a", "resolution": r} for r in ("Max", "Min")]),
        "spec.gossip.conflictPolicies[1]: Duplicate value",
    ),
    # --- image, API, storage
    Case(
        "a tag in the repository",
        "GossipSwarm",
        swarm(image={"repository": "example.com/agent:1.0"}),
        "the tag belongs into image.tag",
    ),
    Case(
        "a tag with a space",
        "GossipSwarm",
        swarm(image={"tag": "1 0"}),
        "must be a tag of an image",
    ),
    Case(
        "a short digest",
        "GossipSwarm",
        swarm(image={"digest": "sha256:4f"}),
        "64 hexadecimal digits",
    ),
    Case("pulling", "GossipSwarm", swarm(image={"pullPolicy": "Sometimes"}), '"IfNotPresent"'),
    Case(
        "a Service", "GossipSwarm", swarm(api={"service": {"type": "ExternalName"}}), '"ClusterIP"'
    ),
    Case("durability", "GossipSwarm", swarm(durability="fsync"), 'supported values: "Fsync"'),
    Case("storage", "GossipSwarm", swarm(storage={"type": "Memory"}), '"Persistent", "Ephemeral"'),
    Case("retention", "GossipSwarm", swarm(storage={"retention": "Keep"}), '"Retain", "Delete"'),
    Case(
        "a size of words",
        "GossipSwarm",
        swarm(storage={"size": "large"}),
        'spec.storage.size: is "large", but must be a quantity of at least 1Mi, such as 512Mi or 1Gi',
    ),
    Case("a size of nothing", "GossipSwarm", swarm(storage={"size": "0"}), "at least 1Mi"),
    Case("a size as a number", "GossipSwarm", swarm(storage={"size": 1}), "must be of type string"),
    Case(
        "a size of a region",
        "GossipSwarm",
        swarm(regions=[{**EAST, "storage": {"size": "1GiB"}}]),
        'spec.regions[0].storage.size: is "1GiB", but must be a quantity',
    ),
    # --- updates, keys, budgets
    Case("a strategy", "GossipSwarm", swarm(update={"strategy": "Rolling"}), '"RegionByRegion"'),
    Case(
        "a share of more than all",
        "GossipSwarm",
        swarm(update={"minReady": "101%"}),
        'spec.update.minReady: is "101%", but must be a number from 0 to 10000 or a share from 0% to 100%',
    ),
    Case(
        "a share of words", "GossipSwarm", swarm(update={"minReady": "most"}), "or a share from 0%"
    ),
    Case(
        "a negative number", "GossipSwarm", swarm(pdb={"maxUnavailable": -1}), "or a share from 0%"
    ),
    Case("a timeout", "GossipSwarm", swarm(update={"timeout": "25h"}), f"{DURATION} 1s to 24h"),
    Case(
        "a negative rotation",
        "GossipSwarm",
        swarm(encryption={"rotation": {"generation": -1}}),
        "spec.encryption.rotation.generation",
    ),
    Case("a short form", "GossipSwarm", swarm(encryption="Disabled"), "must be of type object"),
    Case("a switch", "GossipSwarm", swarm(networkPolicy={"mode": "Off"}), '"Enabled", "Disabled"'),
    Case("a state", "GossipSwarm", swarm(reconciliation="Stopped"), '"Active", "Paused"'),
    # --- pods
    Case(
        "a label of the operator",
        "GossipSwarm",
        swarm(podTemplate={"metadata": {"labels": {"gossipswarm.io/swarm": "other"}}}),
        "may not hold labels of gossipswarm.io/ and app.kubernetes.io/: the operator sets those",
    ),
    Case(
        "an annotation of the operator",
        "GossipSwarm",
        swarm(podTemplate={"metadata": {"annotations": {"gossipswarm.io/drain": "now"}}}),
        "may not hold annotations of gossipswarm.io/",
    ),
    Case(
        "a variable of the operator",
        "GossipSwarm",
        swarm(podTemplate={"env": [{"name": "GOSSIPSWARM_SEEDS", "value": "x:1"}]}),
        "spec.podTemplate.env[0].name: is GOSSIPSWARM_SEEDS, which the operator sets",
    ),
    Case(
        "a variable with a hyphen",
        "GossipSwarm",
        swarm(podTemplate={"env": [{"name": "LOG-LEVEL", "value": "x"}]}),
        "must be letters, digits and underscores",
    ),
    Case(
        "a variable with two values",
        "GossipSwarm",
        swarm(
            podTemplate={
                "env": [
                    {"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec"}}}
                ]
            }
        ),
        "must have value or valueFrom, not both",
    ),
    Case(
        "no time to say goodbye",
        "GossipSwarm",
        swarm(podTemplate={"terminationGracePeriodSeconds": 5}),
        "greater than or equal to 30",
    ),
    Case(
        "an amount of words",
        "GossipSwarm",
        swarm(podTemplate={"resources": {"limits": {"memory": "much"}}}),
        "spec.podTemplate.resources.limits.memory",
    ),
    Case(
        "a toleration",
        "GossipSwarm",
        swarm(podTemplate={"tolerations": [{"operator": "Maybe"}]}),
        'supported values: "Exists", "Equal"',
    ),
    Case(
        "a spread over nothing",
        "GossipSwarm",
        swarm(podTemplate={"topologySpreadConstraints": [{"maxSkew": 1}]}),
        "topologyKey: Required value",
    ),
    Case(
        "an affinity of the wrong shape",
        "GossipSwarm",
        swarm(regions=[{**EAST, "affinity": {"nodeAffinity": []}}]),
        "nodeAffinity in body must be of type object",
    ),
    # --- SwarmConfig
    Case("no swarm", "SwarmConfig", config(swarmRef=None), "spec.swarmRef: Required value"),
    Case("no prefix", "SwarmConfig", config(prefix=None), "spec.prefix: Required value"),
    Case("an empty prefix", "SwarmConfig", config(prefix=""), "spec.prefix"),
    Case(
        "an empty segment",
        "SwarmConfig",
        config(prefix="app..config"),
        'spec.prefix: is "app..config", but must be dotted segments, none of them empty, such as app.config',
    ),
    Case("a dot first", "SwarmConfig", config(prefix=".app"), "must be dotted segments"),
    Case("a dot last", "SwarmConfig", config(prefix="app."), "must be dotted segments"),
    Case(
        "a prefix of the swarm itself",
        "SwarmConfig",
        config(prefix="$swarm.config"),
        'spec.prefix: is "$swarm.config", but may not begin with $',
    ),
    Case("a long prefix", "SwarmConfig", config(prefix="a" * 257), "Too long"),
    Case(
        "no values",
        "SwarmConfig",
        config(data=None),
        "spec: data or valuesFrom must be given, or both",
    ),
    Case("no sources", "SwarmConfig", config(data=None, valuesFrom=[]), "at least 1 item"),
    Case(
        "a list as data",
        "SwarmConfig",
        config(data=[1]),
        "spec.data in body must be of type object",
    ),
    Case(
        "a source of nothing",
        "SwarmConfig",
        config(valuesFrom=[{"path": "a"}]),
        "spec.valuesFrom[0]: must have exactly one of configMapRef and secretRef",
    ),
    Case(
        "a source of two",
        "SwarmConfig",
        config(valuesFrom=[{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]),
        "must have exactly one of configMapRef and secretRef",
    ),
    Case(
        "a source without a name",
        "SwarmConfig",
        config(valuesFrom=[{"secretRef": {"key": "a"}}]),
        "spec.valuesFrom[0].secretRef.name: Required value",
    ),
    Case(
        "a path with an empty segment",
        "SwarmConfig",
        config(valuesFrom=[{"secretRef": {"name": "a"}, "path": "a..b"}]),
        'spec.valuesFrom[0].path: is "a..b", but must be dotted segments',
    ),
    Case("a policy", "SwarmConfig", config(conflictPolicy="Merge"), '"Override", "KeepLive"'),
    Case("pruning", "SwarmConfig", config(prune=True), "must be of type string"),
    Case("patience", "SwarmConfig", config(rollout={"timeout": "1ms"}), f"{DURATION} 1s to 24h"),
    Case(
        "a canary twice",
        "SwarmConfig",
        config(rollout={"canaryRegions": ["a", "a"]}),
        "spec.rollout.canaryRegions[1]: Duplicate value",
    ),
    # --- SwarmPartition
    Case("no groups", "SwarmPartition", cut(groups=[]), "spec.groups"),
    Case("an empty group", "SwarmPartition", cut(groups=[["a"], []]), "at least 1 item"),
    Case(
        "a region in two groups",
        "SwarmPartition",
        cut(groups=[["a", "b"], ["b", "c"]]),
        'spec.groups: a region may be in one group only, but some are in several: [["b"], ["b"]]',
    ),
    Case(
        "16 groups of 64 regions",
        "SwarmPartition",
        cut(groups=[[f"r-{group}-{n}" for n in range(64)] for group in range(16)]),
        "spec.groups: hold 1024 regions, but a swarm has 64 at most",
    ),
    Case("a region twice", "SwarmPartition", cut(groups=[["a", "a"]]), "Duplicate value"),
    Case("a cut of no time", "SwarmPartition", cut(duration="0s"), f"{DURATION} 1s to 24h"),
    Case("a cut of days", "SwarmPartition", cut(duration="48h"), f"{DURATION} 1s to 24h"),
    Case("transit as a boolean", "SwarmPartition", cut(transit=True), "must be of type string"),
    Case("a mechanism", "SwarmPartition", cut(mechanism="Iptables"), '"NetworkPolicy", "Agent"'),
    Case("a reaction", "SwarmPartition", cut(onUnenforced="Ignore"), '"Fail", "Warn", "Fallback"'),
]

LARGE_EAST = {**EAST, "storage": {"size": "5Gi", "storageClassName": "fast"}}

CHANGES = [
    Change("more agents", "GossipSwarm", swarm(), {"replicasPerRegion": 9}),
    Change("another region", "GossipSwarm", swarm(), {"regions": [EAST, WEST]}),
    Change(
        "another region instead", "GossipSwarm", swarm(regions=[LARGE_EAST]), {"regions": [WEST]}
    ),
    Change("larger volumes", "GossipSwarm", swarm(), {"storage": {"size": "2Gi"}}),
    Change(
        "larger volumes of a region",
        "GossipSwarm",
        swarm(),
        {"regions": [{**EAST, "storage": {"size": "2Gi"}}]},
    ),
    Change(
        "smaller directories",
        "GossipSwarm",
        swarm(storage={"type": "Ephemeral", "size": "2Gi"}),
        {"storage": {"size": "1Gi"}},
    ),
    Change(
        "a rotation",
        "GossipSwarm",
        swarm(encryption={"rotation": {"generation": 1}}),
        {"encryption": {"rotation": {"generation": 2}}},
    ),
    Change(
        "larger volumes of 64 regions",
        "GossipSwarm",
        swarm(regions=many_regions("500Mi")),
        {"regions": many_regions("1500Mi")},
    ),
    Change("another image", "GossipSwarm", swarm(), {"image": {"tag": "2"}}),
    Change(
        "a type of storage",
        "GossipSwarm",
        swarm(),
        {"storage": {"type": "Ephemeral"}},
        "spec.storage.type: Forbidden: cannot be changed from Persistent to Ephemeral in a swarm that exists",
    ),
    Change(
        "a class where there was none",
        "GossipSwarm",
        swarm(),
        {"storage": {"storageClassName": "fast"}},
        "spec.storage.storageClassName: Forbidden: cannot be changed, because volumes stay in their class",
    ),
    Change(
        "the whole of storage taken away",
        "GossipSwarm",
        swarm(storage={"storageClassName": "fast", "size": "2Gi"}),
        {"storage": None},
        "spec.storage.size: Forbidden: is 1Gi, but was 2Gi already: volumes can only grow",
    ),
    Change(
        "a class of a region",
        "GossipSwarm",
        swarm(regions=[LARGE_EAST]),
        {"regions": [{**EAST, "storage": {"size": "5Gi", "storageClassName": "slow"}}]},
        "spec.regions: Forbidden: storageClassName of a region that exists cannot be changed",
    ),
    Change(
        "smaller volumes",
        "GossipSwarm",
        swarm(storage={"size": "2Gi"}),
        {"storage": {"size": "1536Mi"}},
        "is 1536Mi, but was 2Gi already: volumes can only grow",
    ),
    Change(
        "smaller volumes of a region",
        "GossipSwarm",
        swarm(regions=[LARGE_EAST]),
        {"regions": [{**EAST, "storage": {"size": "4Gi", "storageClassName": "fast"}}]},
        "storage.size of a region that exists can only grow",
    ),
    Change(
        "smaller volumes of a region that had none of its own",
        "GossipSwarm",
        swarm(storage={"size": "2Gi"}),
        {"regions": [{**EAST, "storage": {"size": "1Gi"}}]},
        "storage.size of a region that exists can only grow",
    ),
    Change(
        "encryption switched off",
        "GossipSwarm",
        swarm(),
        {"encryption": {"mode": "Disabled"}},
        "spec.encryption.mode: Forbidden: cannot be changed from Enabled to Disabled in a swarm that exists",
    ),
    Change(
        "a rotation taken back",
        "GossipSwarm",
        swarm(encryption={"rotation": {"generation": 2}}),
        {"encryption": {"rotation": {"generation": 1}}},
        "spec.encryption.rotation.generation: is 1, but was 2 already: it can only be raised",
    ),
    Change(
        "a rotation left out",
        "GossipSwarm",
        swarm(encryption={"rotation": {"generation": 2}}),
        {"encryption": None},
        "is 0, but was 2 already",
    ),
    Change(
        "too many agents later",
        "GossipSwarm",
        swarm(maxAgents=5),
        {"replicasPerRegion": 6},
        "the regions have 6 agents together, but spec.maxAgents is 5",
    ),
    Change("other values", "SwarmConfig", config(), {"data": {"ttl": 61}, "prefix": "app.other"}),
    Change(
        "values for another swarm",
        "SwarmConfig",
        config(),
        {"swarmRef": {"name": "other"}},
        "spec.swarmRef: Forbidden: cannot be changed from demo to other: make another SwarmConfig",
    ),
    Change("a longer cut", "SwarmPartition", cut(duration="1m"), {"duration": "5m"}),
    Change("a cut without an end", "SwarmPartition", cut(duration="1m"), {"duration": None}),
    Change(
        "a cut of another swarm",
        "SwarmPartition",
        cut(),
        {"swarmRef": {"name": "other"}},
        "cannot be changed from demo to other: make another SwarmPartition",
    ),
    Change(
        "other groups",
        "SwarmPartition",
        cut(),
        {"groups": [["us-west"]]},
        "spec.groups: Forbidden: cannot be changed while the cut lives: delete this object and make",
    ),
    Change(
        "another mechanism",
        "SwarmPartition",
        cut(),
        {"mechanism": "Agent"},
        "spec.mechanism: Forbidden: cannot be changed while the cut lives",
    ),
    Change(
        "transit during a cut",
        "SwarmPartition",
        cut(),
        {"transit": "Enabled"},
        "spec.transit: Forbidden: cannot be changed while the cut lives",
    ),
]

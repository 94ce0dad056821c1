"""Objects that the API server must refuse, with words of what it says."""

from __future__ import annotations

from crd_specs import EAST, WEST, Case, config, cut, gossip, regions, swarm

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
    Case(
        "a prefix of trials", "SwarmConfig", config(prefix="canary.us-east"), "not be below canary"
    ),
    Case(
        "trials themselves", "SwarmConfig", config(prefix="canary-rejected"), "not be below canary"
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
    Case("soaking", "SwarmConfig", config(rollout={"soak": "2d"}), f"{DURATION} 0s to 24h"),
    Case(
        "optional as a boolean",
        "SwarmConfig",
        config(valuesFrom=[{"secretRef": {"name": "a", "optional": True}}]),
        "spec.valuesFrom[0].secretRef.optional",
    ),
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

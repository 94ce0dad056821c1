"""Objects that the API server must take."""

from __future__ import annotations

from crd_specs import EAST, Case, config, cut, gossip, regions, swarm

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
                {
                    "secretRef": {"name": "s", "key": "k.yaml", "optional": "True"},
                    "path": "db.login",
                },
            ],
        ),
    ),
    Case("a prefix with an escaped dot", "SwarmConfig", config(prefix=r"files.app\.yaml")),
    Case("a prefix of other letters", "SwarmConfig", config(prefix="app.größe_1.$x")),
    Case(
        "a canary",
        "SwarmConfig",
        config(
            rollout={"canaryRegions": ["us-east"], "timeout": "90s", "soak": "0s"},
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

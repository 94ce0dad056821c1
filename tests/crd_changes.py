"""Changes of objects that exist: what the API server lets pass, and what not."""

from __future__ import annotations

from crd_specs import EAST, WEST, Change, Spec, config, cut, swarm


def many_regions(size: str) -> list[Spec]:
    """As many regions as there can be, with names as long as they can be."""
    storage = {"size": size, "storageClassName": "c" * 253}
    return [{"name": f"{'r' * 38}{n:02}", "storage": storage} for n in range(64)]


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
    Change("other values", "SwarmConfig", config(), {"data": {"ttl": 61}}),
    Change(
        "values for another swarm",
        "SwarmConfig",
        config(),
        {"swarmRef": {"name": "other"}},
        "spec.swarmRef: Forbidden: cannot be changed from demo to other: make another SwarmConfig",
    ),
    Change(
        "values elsewhere",
        "SwarmConfig",
        config(),
        {"prefix": "app.other"},
        "spec.prefix: Forbidden: cannot be changed from app.config to app.other: make another SwarmConfig",
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

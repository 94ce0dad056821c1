"""The objects of a swarm, against golden files: what changes here changes what users' clusters run.

Write them anew with ``python tests/test_operator_builders.py``, and read the difference.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipswarm_agent.core.settings import DEFAULTS, merge
from gossipswarm_agent.runtime import configuration
from gossipswarm_operator import model
from gossipswarm_operator.builders import Facts, RegionFacts, build
from gossipswarm_operator.keyring import Key, Ring
from operator_world import IMAGE, swarm_source

GOLDEN = Path(__file__).parent / "golden" / "operator"
KEY = Key(base64.b64encode(bytes(range(32))).decode())

SWARMS: dict[str, dict[str, Any]] = {
    "two-lines": {"regions": [{"name": "us-east"}]},
    "everything": {
        "regions": [
            {
                "name": "us-east",
                "replicas": 5,
                "nodeSelector": {"topology.kubernetes.io/region": "us-east"},
                "tolerations": [{"key": "dedicated", "operator": "Exists"}],
                "storage": {"size": "5Gi", "storageClassName": "fast"},
            },
            {"name": "eu-west"},
        ],
        "replicasPerRegion": 2,
        "maxAgents": 50,
        "durability": "Memory",
        "image": {
            "repository": "mirror.example/agent",
            "digest": "sha256:" + "0" * 64,
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "mirror"}],
        },
        "gossip": {"fanout": 4, "regionAffinity": "0.8", "eager": "Disabled"},
        "api": {
            "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
            "tls": {"secretName": "agents-tls"},
        },
        "hooks": {"configMapName": "agents-hooks"},
        "storage": {"size": "2Gi", "retention": "Delete"},
        "pdb": {"maxUnavailable": "25%"},
        "podTemplate": {
            "metadata": {"labels": {"team": "core"}, "annotations": {"example.com/a": "b"}},
            "resources": {"limits": {"memory": "512Mi"}},
            "priorityClassName": "high",
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "env": [{"name": "GOSSIPSWARM_LOG_LEVEL", "value": "debug"}],
            "terminationGracePeriodSeconds": 60,
        },
    },
    "bare": {
        "regions": [{"name": "us-east", "replicas": 1}],
        "encryption": {"mode": "Disabled"},
        "storage": {"type": "Ephemeral", "size": "64Mi"},
        "pdb": {"mode": "Disabled"},
        "networkPolicy": {"mode": "Disabled"},
        "update": {"strategy": "OnDelete"},
    },
}


def objects(spec: dict[str, Any]) -> list[dict[str, Any]]:
    swarm = model.parse(swarm_source(**spec))
    ring = Ring((KEY,))
    declared = {
        f"demo-{region}-{n}": region
        for region in swarm.regions
        for n in range(swarm.replicas(region))
    }
    facts = Facts(
        default_image=IMAGE,
        regions={region: RegionFacts(swarm.replicas(region)) for region in swarm.regions},
        declared=declared,
        settings=swarm.settings,
        keys=ring.data() if swarm.encrypted else {},
        key_annotations=ring.annotations() if swarm.encrypted else {},
        read_token="read-token",
        write_token="write-token",
        restart={"gossipswarm.io/hooks": "abc"} if swarm.spec.hooks.config_map_name else {},
    )
    return build(swarm, facts)


def text(spec: dict[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(objects(spec), Dumper=Plain, sort_keys=False, width=120)


@pytest.mark.parametrize("name", SWARMS)
def test_objects_are_as_in_the_golden_file(name):
    assert text(SWARMS[name]) == (GOLDEN / f"{name}.yaml").read_text("utf-8")


def containers(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [
        (body["spec"]["template"]["spec"], container)
        for body in objects(SWARMS[name])
        if body["kind"] == "StatefulSet"
        for container in body["spec"]["template"]["spec"]["containers"]
    ]


@pytest.mark.parametrize("name", SWARMS)
def test_pods_keep_to_the_restricted_pod_security_standard(name):
    for pod, container in containers(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        kinds = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        assert all(volume.keys() - {"name"} <= kinds for volume in pod["volumes"])


@pytest.mark.parametrize("name", SWARMS)
def test_everything_is_named_labelled_and_owned(name):
    for body in objects(SWARMS[name]):
        labels = body["metadata"]["labels"]
        assert labels["gossipswarm.io/swarm"] == "demo"
        assert labels["app.kubernetes.io/managed-by"] == "gossipswarm-operator"
        (owner,) = body["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-demo", True)


@pytest.mark.parametrize("name", SWARMS)
def test_the_agent_understands_its_environment_and_its_file(name):
    (config,) = (body for body in objects(SWARMS[name]) if body["kind"] == "ConfigMap")
    document = yaml.safe_load(config["data"]["agent.yaml"])
    for _, container in containers(name):
        environment = {
            entry["name"]: entry.get("value", "10.0.0.1").replace("$(NODE_NAME)", "worker")
            for entry in container["env"]
        }
        told = configuration._from_environment(
            {
                name: value
                for name, value in environment.items()
                if name.startswith(configuration.PREFIX)
            }
        )
        options = configuration.build({**document, **told})
        assert options.labels == {"node": "worker"}
        configuration.parse_seeds(options.seeds)


@pytest.mark.parametrize("name", SWARMS)
def test_agents_accept_the_parameters_that_they_are_told(name):
    (config,) = (body for body in objects(SWARMS[name]) if body["kind"] == "ConfigMap")
    merge(DEFAULTS, yaml.safe_load(config["data"]["agent.yaml"])["settings"])


def test_an_agent_is_open_to_its_swarm_only_on_the_gossip_port():
    (policy,) = (b for b in objects(SWARMS["two-lines"]) if b["kind"] == "NetworkPolicy")
    anybody, swarm = policy["spec"]["ingress"]
    ranges = [(p["protocol"], p["port"], p["endPort"]) for p in anybody["ports"]]
    assert [r for r in ranges if r[1] <= 7600 <= r[2]] == []
    assert {r[:2] for r in ranges} >= {("TCP", 7601), ("UDP", 7601)}
    assert swarm["from"] == [
        {
            "podSelector": {
                "matchLabels": {"gossipswarm.io/swarm": "demo", "gossipswarm.io/role": "agent"}
            }
        }
    ]


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for swarm_name, swarm_spec in SWARMS.items():
        (GOLDEN / f"{swarm_name}.yaml").write_text(text(swarm_spec), "utf-8")

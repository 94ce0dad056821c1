"""The GossipSwarm manifest as the local backend reads it."""

from __future__ import annotations

import pytest

from gossipctl.local.errors import LocalError
from gossipctl.local.manifest import parse


def manifest(**spec):
    return {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "GossipSwarm",
        "metadata": {"name": "demo"},
        "spec": {"regions": [{"name": "us-east"}], **spec},
    }


def refusal(document):
    with pytest.raises(LocalError) as refused:
        parse(document)
    assert refused.value.exit == 2
    return refused.value


def test_regions_alone_make_a_swarm():
    desired = parse(manifest())
    assert (desired.name, desired.regions) == ("demo", {"us-east": 3})
    assert (desired.settings, desired.max_agents, desired.encryption) == ({}, None, None)


def test_replicas_of_a_region_win_over_those_of_all():
    regions = [{"name": "us-east", "replicas": 1}, {"name": "us-west"}]
    assert parse(manifest(regions=regions, replicasPerRegion=50)).regions == {
        "us-east": 1,
        "us-west": 50,
    }


def test_gossip_parameters_get_the_agents_names_and_numbers():
    gossip = {
        "fanout": 4,
        "antiEntropyInterval": "10s",
        "convergenceThreshold": "0.95",
        "mode": "PushPull",
        "interval": "100ms",
        "antiEntropy": "Enabled",
        "conflictPolicies": [{"prefix": "counters", "resolution": "Max"}],
    }
    assert parse(manifest(gossip=gossip)).settings == {
        "fanout": 4,
        "anti_entropy_interval": 10_000,
        "convergence_threshold": 0.95,
        "mode": "push-pull",
        "interval": 100,
        "anti_entropy": True,
        "conflict_resolution_prefixes": {"counters": "max"},
    }


def test_what_the_crd_has_above_gossip_is_read_there():
    desired = parse(manifest(durability="Memory", maxAgents=7))
    assert (desired.settings, desired.max_agents) == ({"durability": "memory"}, 7)


def test_encryption_can_be_turned_off():
    assert parse(manifest(encryption={"mode": "Disabled"})).encryption is False


def test_encryption_with_a_secret_is_on_and_its_secret_ignored():
    desired = parse(manifest(encryption={"secretName": "keys"}))
    assert (desired.encryption, desired.ignored) == (True, ("spec.encryption.secretName",))


def test_what_only_a_cluster_understands_is_named_and_ignored():
    regions = [{"name": "us-east", "nodeSelector": {"zone": "a"}}]
    desired = parse(manifest(regions=regions, storage={"size": "1Gi"}, reconciliation="Paused"))
    assert desired.ignored == (
        "spec.storage",
        "spec.reconciliation",
        "spec.regions[0].nodeSelector",
    )


def test_a_misspelt_field_gets_a_suggestion():
    assert refusal(manifest(replicasPerRegoin=3)).hint == "did you mean replicasPerRegion?"
    assert refusal(manifest(gossip={"fanuot": 3})).hint == "did you mean fanout?"
    assert "it is spec.maxAgents" in refusal(manifest(gossip={"maxAgents": 3})).hint
    assert "unknown field spec.paused" in refusal(manifest(paused=True)).message
    error = refusal(manifest(regions=[{"name": "a", "replica": 3}]))
    assert (error.message, error.hint) == (
        "unknown field spec.regions[0].replica",
        "did you mean replicas?",
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"regions": []}, "spec.regions must be a list of at least one region"),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "region a is there twice"),
        (
            {"regions": [{"name": "a", "replicas": -1}]},
            "spec.regions[0].replicas must be an integer",
        ),
        ({"regions": [{"name": "a", "replicas": True}]}, "must be an integer from 0"),
        ({"regions": ["a"]}, "spec.regions[0] must be an object, not a string"),
        ({"regions": [{"name": "US East"}]}, "'US East' is no valid name for a region"),
        ({"regions": [{"name": "a", "replicas": 9}], "maxAgents": 5}, "9 replicas"),
        ({"gossip": []}, "spec.gossip must be an object, not a list"),
        ({"gossip": {"mode": "push-pull"}}, "spec.gossip.mode: expected Push, Pull or PushPull"),
        ({"gossip": {"antiEntropy": True}}, "antiEntropy: expected Enabled or Disabled"),
        ({"gossip": {"interval": 100}}, "interval: expected a duration with a unit"),
        ({"gossip": {"regionAffinity": 0.7}}, "regionAffinity: expected a decimal in quotes"),
        ({"gossip": {"fanout": "3"}}, "fanout: expected a whole number"),
        ({"gossip": {"conflictPolicies": {"a": "Max"}}}, "expected a list of prefixes"),
        ({"durability": "fsync"}, "spec.durability: expected Fsync or Memory, not 'fsync'"),
        ({"encryption": {"mode": "Perhaps"}}, "mode: expected Enabled or Disabled"),
        ({"encryption": "Disabled"}, "spec.encryption must be an object, not a string"),
    ],
)
def test_an_invalid_field_is_named_with_what_was_expected(spec, message):
    assert message in refusal(manifest(**spec)).message


def test_another_kind_is_refused():
    assert "expected apiVersion" in refusal({"kind": "Deployment"}).message
    assert "must be an object" in refusal(["a"]).message

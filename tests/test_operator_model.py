"""Reading a GossipSwarm: defaults, parameters, and errors that name the field."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core.settings import DEFAULTS
from gossipswarm_operator import model, parameters, quantities
from gossipswarm_operator.model import InvalidSpec
from operator_world import swarm_source


def test_two_lines_are_enough():
    swarm = model.parse(swarm_source(regions=[{"name": "us-east"}]))
    assert (swarm.total, swarm.encrypted, swarm.paused) == (3, True, False)
    assert swarm.settings == {}


def test_what_the_spec_sets_is_told_agents_in_their_words():
    swarm = model.parse(
        swarm_source(
            gossip={
                "mode": "PushPull",
                "eager": "Disabled",
                "interval": "1.5s",
                "regionAffinity": "0.8",
                "healingStrategy": "MergeLastWriteWins",
                "conflictPolicies": [{"prefix": "counters", "resolution": "Max"}],
                "compression": "None",
            },
            durability="Memory",
            maxAgents=50,
        )
    )
    assert swarm.settings == {
        "mode": "push-pull",
        "eager": False,
        "interval": 1500,
        "region_affinity": 0.8,
        "healing_strategy": "merge-last-write-wins",
        "conflict_resolution_prefixes": {"counters": "max"},
        "compression": "none",
        "durability": "memory",
        "max_agents": 50,
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"regions": []}, "spec.regions: at least one"),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "spec.regions: a is there twice"),
        ({"regions": [{"name": "a", "replicas": "x"}]}, "spec.regions[0].replicas: expected"),
        ({"regions": [{}]}, "spec.regions[0]: object missing required field `name`"),
        ({"gossip": {"interval": "soon"}}, "spec.gossip.interval: 'soon' is no duration"),
        ({"gossip": {"fanuot": 3}}, "spec.gossip.fanuot: no such parameter"),
        ({"gossip": {"eager": "Maybe"}}, "spec.gossip.eager: expected Enabled or Disabled"),
        ({"update": {"timeout": "long"}}, "spec.update.timeout"),
        ({"storage": {"type": "Tape"}}, "spec.storage.type: invalid enum value 'Tape'"),
    ],
)
def test_what_cannot_be_used_is_named(spec, message):
    with pytest.raises(InvalidSpec) as refused:
        model.parse(swarm_source(**spec))
    assert message in str(refused.value)


def test_every_parameter_of_the_agent_is_known_with_its_default():
    known = {name: parameter.default for name, parameter in parameters.PARAMETERS.items()}
    assert known == msgspec.to_builtins(DEFAULTS)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "reg:5000/agent:1"),
        ({"tag": "2"}, "reg:5000/agent:2"),
        ({"repository": "other/agent"}, "other/agent:1"),
        ({"digest": "sha256:ab"}, "reg:5000/agent@sha256:ab"),
        ({"digest": "sha256:ab", "tag": "2"}, "reg:5000/agent@sha256:ab"),
    ],
)
def test_what_an_image_does_not_say_is_the_operators_default(image, reference):
    assert msgspec.convert(image, model.Image).reference("reg:5000/agent:1") == reference


def test_a_default_image_by_digest_is_kept():
    assert model.Image().reference("agent@sha256:ab") == "agent@sha256:ab"
    assert model.Image().reference("agent") == "agent:latest"


@pytest.mark.parametrize(
    ("text", "expected"), [("100ms", 100), ("1.5s", 1500), ("5m", 300_000), ("1h30m", 5_400_000)]
)
def test_durations(text, expected):
    assert quantities.milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5s", "5mm"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is no duration"):
        quantities.milliseconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("1Gi", 1 << 30), ("1G", 10**9), ("1500m", 1.5), ("2", 2), ("1e3", 1000)]
)
def test_quantities(text, expected):
    assert quantities.quantity(text) == expected


@given(st.text(max_size=8))
def test_no_text_makes_a_quantity_fail_otherwise_than_by_value_error(text):
    with contextlib.suppress(ValueError):
        quantities.quantity(text)


@pytest.mark.parametrize(
    ("limit", "total", "expected"), [(2, 10, 2), ("2", 10, 2), ("25%", 10, 3), ("0%", 10, 0)]
)
def test_shares_of_a_count_are_rounded_up(limit, total, expected):
    assert quantities.share_of(limit, total) == expected

"""Agents start again when what they read at their start changes, and not because it is not there."""

from __future__ import annotations

import pytest

from gossipswarm_operator.names import HOOKS_ANNOTATION
from operator_world import World, swarm_source


@pytest.fixture
def world() -> World:
    made = World(
        swarm_source(
            regions=[{"name": "us-east", "replicas": 2}, {"name": "eu-west", "replicas": 1}],
            hooks={"configMapName": "hooks"},
        ),
        restart={HOOKS_ANNOTATION: "first"},
    )
    made.settle()
    return made


def uids(world: World) -> set[str]:
    return {agent.pod.uid for agent in world.agents.values()}


def test_a_change_replaces_every_agent_one_after_the_other(world):
    before = uids(world)
    world.restart[HOOKS_ANNOTATION] = "second"
    world.settle()
    assert not before & uids(world)
    assert world.lost_ready == 1


def test_nobody_is_replaced_because_it_is_gone_and_nobody_when_the_same_is_back(world):
    before, held = uids(world), world.restart.pop(HOOKS_ANNOTATION)
    world.settle()
    assert uids(world) == before
    world.restart[HOOKS_ANNOTATION] = held
    world.settle()
    assert uids(world) == before


def test_what_the_spec_does_not_name_any_more_is_gone_from_the_pods(world):
    before = uids(world)
    del world.source["spec"]["hooks"], world.restart[HOOKS_ANNOTATION]
    world.source["metadata"]["generation"] += 1
    world.settle()
    assert not before & uids(world)

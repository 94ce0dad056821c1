"""What a swarm's status says of trouble, and how loud."""

from __future__ import annotations

import msgspec
import pytest

from gossipswarm_operator import model, planner, status
from gossipswarm_operator.conditions import Condition, Transition, find
from operator_world import IMAGE, START, World, ready_world, swarm_source


@pytest.mark.parametrize(
    ("before", "now", "tone"),
    [
        ("Unknown", ("Ready", "True", "AgentsReady"), "Normal"),
        ("Unknown", ("Ready", "False", "AgentsNotReady"), "Normal"),
        ("True", ("Ready", "False", "AgentsNotReady"), "Warning"),
        ("False", ("Ready", "False", "ImagePullBackOff"), "Warning"),
        ("False", ("Ready", "False", "AgentsNotReady"), None),
        ("False", ("Progressing", "False", "NameTaken"), "Warning"),
        ("True", ("Progressing", "False", "UpToDate"), "Normal"),
        ("False", ("Progressing", "True", "Updating"), "Normal"),
        ("True", ("Progressing", "True", "Draining"), None),
        ("False", ("Partitioned", "True", "RegionsCutOff"), "Warning"),
        ("True", ("Partitioned", "False", "Whole"), "Normal"),
        ("True", ("Converged", "Unknown", "NotSeenYet"), None),
    ],
)
def test_an_event_tells_of_a_condition_that_got_better_or_worse(before, now, tone):
    assert status.tone(Transition(before, Condition(*now))) == tone


def ready(world: World, **observed: object) -> tuple[str, str]:
    """Reason and message of Ready, with this much else observed."""
    seen = msgspec.structs.replace(world.observe(), **observed)
    swarm = model.parse(world.source)
    made = planner.plan(swarm, seen, world.fresh(), IMAGE, START)
    found = find(status.status(swarm, seen, made, [], START), "Ready")
    assert found is not None
    return found["reason"], found["message"]


def test_ready_says_what_is_known_of_the_cause():
    world = ready_world()
    pods = tuple(
        msgspec.structs.replace(pod, ready=False, trouble="ErrImagePull: no such image")
        for pod in world.observe().pods
    )
    assert ready(world)[0] == "AgentsReady"
    reason, message = ready(world, pods=pods)
    assert reason == "ErrImagePull"
    assert "0 of 6 agents are ready; demo-us-east-0: ErrImagePull: no such image" in message
    lost = {"data-demo-us-east-0": 'class "fast" not found'}
    reason, message = ready(world, pods=pods, claim_failures=lost)
    assert reason == "VolumesMissing"
    assert 'volume claim data-demo-us-east-0: class "fast" not found' in message
    refused = {"demo-us-east": "exceeded quota"}
    reason, message = ready(world, pods=(), creation_failures=refused)
    assert reason == "PodsRefused"
    assert "demo-us-east: exceeded quota" in message


def test_keys_that_no_secret_holds_are_not_in_the_status():
    world = World(swarm_source())
    for _ in range(2):
        found = status.status(world.swarm, world.observe(), world.plan(), [], START)
        assert found["keyring"] is None
        in_sync = find(found, "KeyringInSync")
        assert in_sync is not None
        assert in_sync["reason"] == "NoKeys"

"""Trials of a version in canary regions, step by step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gossipswarm_operator.swarmconfig import status, trial
from gossipswarm_operator.swarmconfig.model import RolloutPolicy
from gossipswarm_operator.swarmconfig.status import Outcome
from gossipswarm_operator.swarmconfig.trial import CanaryAgent, Step, Trial

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
POLICY = RolloutPolicy(("east",), timeout=60.0, soak=10.0)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def agents(*states: tuple[bool, bool]) -> list[CanaryAgent]:
    """(holds, ready) of agents of the canary region."""
    return [
        CanaryAgent(f"demo-east-{n}", "east", ready=ready, holds=holds)
        for n, (holds, ready) in enumerate(states)
    ]


WELL = agents((True, True), (True, True))


def step(
    current: Trial | None,
    found: list[CanaryAgent],
    seconds: float,
    *,
    policy: RolloutPolicy = POLICY,
    version: str = "v2",
    generation: int = 2,
    rejections: dict[str, str] | None = None,
) -> Step:
    return trial.step(policy, current, version, generation, found, rejections or {}, at(seconds))


def begun() -> Trial:
    return step(None, [], 0).trial


# --- trials ---------------------------------------------------------------------------------------


def test_a_trial_begins_by_writing() -> None:
    first = step(None, [], 0)
    assert first.action == "write"
    assert first.trial == Trial(
        version="v2",
        state="Canary",
        started_at="2024-05-01T12:00:00Z",
        regions=("east",),
        generation=2,
    )


def test_it_succeeds_when_all_were_well_for_the_soak_time() -> None:
    holding = step(begun(), WELL, 5)
    assert (holding.action, holding.trial.healthy_since) == ("wait", "2024-05-01T12:00:05Z")
    assert step(holding.trial, WELL, 14).action == "wait"
    assert step(holding.trial, WELL, 15).action == "promote"


def test_an_agent_that_is_unwell_starts_the_soak_time_anew() -> None:
    holding = step(begun(), WELL, 5).trial
    shaken = step(holding, agents((True, True), (True, False)), 14)
    assert (shaken.action, shaken.trial.healthy_since) == ("wait", None)
    assert "not Ready: demo-east-1" in shaken.message
    recovered = step(shaken.trial, WELL, 15)
    assert recovered.trial.healthy_since == "2024-05-01T12:00:15Z"
    assert step(recovered.trial, WELL, 24).action == "wait"
    assert step(recovered.trial, WELL, 25).action == "promote"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "region east has no agents"),
        (agents((False, True), (True, True)), "1 of 2 agents do not hold it: demo-east-0"),
        (agents((True, False)), "1 of 1 agents are not Ready"),
    ],
)
def test_it_fails_by_itself_at_the_timeout_and_says_why(
    found: list[CanaryAgent], says: str
) -> None:
    waiting = step(begun(), found, 59)
    assert waiting.action in ("wait", "write")
    failed = step(waiting.trial, found, 60)
    assert (failed.action, failed.trial.state) == ("fail", "Failed")
    assert says in failed.message


def test_being_well_too_late_is_a_failure() -> None:
    late = step(begun(), WELL, 55).trial
    failed = step(late, WELL, 61)
    assert failed.action == "fail"
    assert "well for 6 s of 10 s" in failed.message


def test_an_application_that_rejects_it_ends_it_at_once() -> None:
    holding = step(begun(), WELL, 5).trial
    failed = step(holding, WELL, 6, rejections={"east": "error rate 12 %"})
    assert failed.action == "fail"
    assert "region east rejects it: error rate 12 %" in failed.message


def test_a_failed_version_is_not_tried_again_until_something_is_edited() -> None:
    failed = step(begun(), [], 60).trial
    assert step(failed, WELL, 70).action == "stopped"
    assert step(failed, WELL, 70, generation=3).action == "write"
    assert step(failed, WELL, 70, version="v3").action == "write"
    elsewhere = RolloutPolicy(("east", "west"), 60.0, 10.0)
    assert step(failed, WELL, 70, policy=elsewhere).trial.regions == ("east", "west")


def test_a_new_version_during_a_trial_starts_another_one() -> None:
    holding = step(begun(), WELL, 5).trial
    again = step(holding, WELL, 30, version="v3")
    assert (again.action, again.trial.started_at) == ("write", "2024-05-01T12:00:30Z")
    assert again.trial.healthy_since is None


def test_a_trial_goes_on_where_it_was_after_a_restart_of_the_operator() -> None:
    holding = step(begun(), WELL, 5).trial
    stored = trial.stored(holding)
    assert trial.read({"rollout": stored}) == holding
    assert trial.read({"rollout": {"version": 5}}) is None
    assert trial.read({}) is None


def test_a_trial_is_in_the_status_while_it_lasts() -> None:
    holding = step(begun(), WELL, 5).trial
    found = status.patch({}, Outcome(trial=holding), generation=2, now=START)
    assert found["rollout"]["healthySince"] == "2024-05-01T12:00:05Z"
    assert trial.read(found) == holding
    unwell = step(holding, agents((False, True)), 6).trial
    patch = status.patch(found, Outcome(trial=unwell), generation=2, now=START)
    assert patch["rollout"]["healthySince"] is None
    assert status.patch(found, Outcome(trial=None), generation=2, now=START)["rollout"] is None

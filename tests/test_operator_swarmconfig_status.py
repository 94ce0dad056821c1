"""Who owns a prefix, and what the status of a SwarmConfig says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gossipswarm_operator.conditions import find
from gossipswarm_operator.swarmconfig import claims, ledger, status
from gossipswarm_operator.swarmconfig.claims import Claim
from gossipswarm_operator.swarmconfig.status import Drift, Outcome, Spread

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# --- claims ---------------------------------------------------------------------------------------


def claim(name: str, prefix: str, created: int) -> Claim:
    return Claim(f"2024-05-01T12:00:{created:02}Z", name, prefix)


@pytest.mark.parametrize(
    ("claimed", "name", "owner"),
    [
        ([claim("a", "app", 1), claim("b", "app", 2)], "a", None),
        ([claim("a", "app", 1), claim("b", "app", 2)], "b", "a"),
        ([claim("b", "app", 1), claim("a", "app", 1)], "b", "a"),
        ([claim("a", "app", 1), claim("b", "app.x", 2)], "b", "a"),
        ([claim("a", "app.x", 1), claim("b", "app", 2)], "b", "a"),
        ([claim("a", "app", 1), claim("b", "apple", 2)], "b", None),
        ([claim("a", "app.x", 1), claim("b", "app.y", 2)], "b", None),
        # Whoever has to stand back itself keeps nobody from anything.
        ([claim("a", "a.b", 1), claim("b", "a", 2), claim("c", "a.c", 3)], "c", None),
    ],
)
def test_the_oldest_of_overlapping_prefixes_counts(
    claimed: list[Claim], name: str, owner: str | None
) -> None:
    found = claims.owner_over(claimed, name)
    assert (found.name if found else None) == owner


def config_object(name: str, prefix: str, swarm: str = "demo", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": "2024-05-01T12:00:00Z"},
        "spec": {"swarmRef": {"name": swarm}, "prefix": prefix},
        **more,
    }


def test_claims_are_those_of_one_swarm_and_of_sound_prefixes() -> None:
    owning = {"status": {"keysOwned": [{"key": "x.y", "digest": "00000000"}]}}
    found = claims.read(
        [
            config_object("b", "app", **owning),
            config_object("a", "other", swarm="elsewhere"),
            config_object("c", "..."),
        ],
        "demo",
    )
    assert [claimed.name for claimed in found] == ["b"]
    assert claims.foreign_keys(found, "a", "app") == ["x.y"]
    assert claims.foreign_keys(found, "a", "app.x") == ["y"]
    assert claims.foreign_keys(found, "b", "app") == []


# --- status ---------------------------------------------------------------------------------------


def stored(before: dict[str, Any], outcome: Outcome, seconds: float = 0) -> dict[str, Any]:
    patch = status.patch(before, outcome, generation=3, now=at(seconds))
    merged = {**before, **patch}
    return {field: value for field, value in merged.items() if value is not None}


def delivered(
    spread: Spread, before: dict[str, Any] | None = None, drift: Drift | None = None
) -> Outcome:
    before = before or {}
    said = status.drift_of(drift or Drift(), before, "v1", START, repaired=True)
    return status.delivered(
        "v1", 3, spread, said, before, ahead={"a": ("1", "2"), "b": ("3",)}, after={"a": ("2",)}
    )


def states(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


def test_all_conditions_are_there_from_the_start() -> None:
    found = stored({}, status.blocked("SwarmNotFound", "no", None, agents_asked=False))
    assert states(found) == {
        "Synced": ("False", "SwarmNotFound"),
        "Converged": ("Unknown", "NotSynced"),
        "Drifted": ("Unknown", "NotSeenYet"),
    }
    assert found["observedGeneration"] == 3
    assert "version" not in found


def test_converged_means_every_agent() -> None:
    found = stored({}, delivered(Spread(9, 9)))
    assert states(found) == {
        "Synced": ("True", "Delivered"),
        "Converged": ("True", "AllAgents"),
        "Drifted": ("False", "InSync"),
    }
    assert (found["version"], found["convergedVersion"], found["keys"]) == ("v1", "v1", 3)
    assert found["convergedAgents"] == "9/9"
    assert found["keysOwned"] == [{"key": "a", "digest": "2"}]


@pytest.mark.parametrize(
    ("spread", "reason", "says"),
    [
        (
            Spread(3, 2, ("demo-a-0",)),
            "Spreading",
            "2 of 3 agents hold version v1; not yet: demo-a-0",
        ),
        (Spread(3, 2, (), ("demo-a-1",)), "AgentsSilent", "no answer: demo-a-1"),
        (Spread(9, 4, tuple("abcde")), "Spreading", "not yet: a, b, c and 2 more"),
        (Spread(0, 0), "AgentsSilent", "0 of 0"),
    ],
)
def test_short_of_every_agent_it_says_who_is_missing(
    spread: Spread, reason: str, says: str
) -> None:
    found = stored({}, delivered(spread))
    condition = find(found, "Converged")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert says in condition["message"]
    assert found["keysOwned"] == [{"key": "a", "digest": "1 2"}, {"key": "b", "digest": "3"}]
    assert "convergedVersion" not in found


def test_an_unchanged_outcome_patches_nothing_and_keeps_times() -> None:
    found = stored({}, delivered(Spread(9, 9)))
    assert status.patch(found, delivered(Spread(9, 9), found), generation=3, now=at(99)) == {}
    later = stored(found, delivered(Spread(9, 8, ("x",)), found), 50)
    since = {c["type"]: c["lastTransitionTime"] for c in later["conditions"]}
    assert since["Synced"] == "2024-05-01T12:00:00Z"
    assert since["Converged"] == "2024-05-01T12:00:50Z"


def test_a_repair_is_remembered_until_the_next_version() -> None:
    found = stored({}, delivered(Spread(9, 9), None, Drift(("a", "b"))))
    condition = find(found, "Drifted")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "Repaired")
    assert "2 keys that somebody else had changed were set back" in condition["message"]
    calm = stored(found, delivered(Spread(9, 9), found), 60)
    assert find(calm, "Drifted") == condition
    other = status.drift_of(Drift(), found, "v2", START, repaired=True)
    assert other.reason == "InSync"


def test_what_keep_live_leaves_is_reported() -> None:
    found = stored({}, delivered(Spread(9, 9), None, Drift(("a",), ("a",))))
    condition = find(found, "Drifted")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("True", "KeptLive")
    assert condition["message"] == "1 key left as somebody else wrote them: a"


def test_a_ledger_survives_the_status() -> None:
    held = {"a": ("1", "2"), "b": ("3",)}
    assert ledger.read({"keysOwned": ledger.stored(held)}) == held
    assert ledger.with_written(held, {"a": "1", "c": "4"}) == {
        "a": ("2", "1"),
        "b": ("3",),
        "c": ("4",),
    }

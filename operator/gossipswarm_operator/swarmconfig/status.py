"""From the outcome of a reconcile to the status of a SwarmConfig: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from gossipswarm_operator import conditions
from gossipswarm_operator.conditions import Condition, false, true, unknown
from gossipswarm_operator.swarmconfig import ledger as ledgers
from gossipswarm_operator.swarmconfig import trial as trials
from gossipswarm_operator.swarmconfig.ledger import Ledger
from gossipswarm_operator.swarmconfig.trial import Trial, named

REPAIRED: Final = "Repaired"


class Spread(msgspec.Struct, frozen=True):
    """Which agents hold what they are to hold."""

    total: int
    holding: int
    lacking: tuple[str, ...] = ()
    """Agents that answered and lack something."""
    silent: tuple[str, ...] = ()
    """Agents that did not answer, or have no address yet."""

    @property
    def is_complete(self) -> bool:
        """Every agent holds it, and there are any."""
        return 0 < self.total == self.holding

    def __str__(self) -> str:
        return f"{self.holding}/{self.total}"


class Drift(msgspec.Struct, frozen=True):
    """What somebody else changed."""

    found: tuple[str, ...] = ()
    """Keys that were delivered and are other than delivered now."""
    kept: tuple[str, ...] = ()
    """Keys that KeepLive leaves as they are."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconcile came to. What is None stays as the status has it."""

    synced: Condition | None = None
    converged: Condition | None = None
    drifted: Condition | None = None
    version: str | None = None
    settled_version: str | None = None
    """Version that every agent has held."""
    keys: int | None = None
    converged_agents: str | None = None
    ledger: Ledger | None = None
    trial: Trial | None = None
    """None is no trial."""


def blocked(
    reason: str, message: str, trial: Trial | None, *, agents_asked: bool = True
) -> Outcome:
    """Nothing could be delivered."""
    say = false if agents_asked else unknown
    return Outcome(
        synced=false("Synced", reason, message),
        converged=say("Converged", "NotSynced", message),
        trial=trial,
    )


def delivered(
    version: str,
    count: int,
    spread: Spread,
    drift: Condition,
    before: Mapping[str, Any],
    *,
    ahead: Ledger,
    after: Ledger,
) -> Outcome:
    """The version stands at one agent at least. ``before`` is the status so far."""
    settled = version if spread.is_complete else None
    return Outcome(
        synced=true("Synced", "Delivered", f"{_keys(count)} of version {version}"),
        converged=convergence(version, spread),
        drifted=drift,
        version=version,
        settled_version=settled or before.get("convergedVersion"),
        keys=count,
        converged_agents=str(spread),
        ledger=after if spread.is_complete else ahead,
    )


def convergence(version: str, spread: Spread) -> Condition:
    """Whether every agent holds a version."""
    if spread.is_complete:
        return true("Converged", "AllAgents", f"all {spread.total} agents hold version {version}")
    parts = [f"{spread.holding} of {spread.total} agents hold version {version}"]
    if spread.lacking:
        parts.append(f"not yet: {named(spread.lacking)}")
    if spread.silent:
        parts.append(f"no answer: {named(spread.silent)}")
    reason = "Spreading" if spread.lacking else "AgentsSilent"
    return false("Converged", reason, "; ".join(parts))


def drift_of(
    drift: Drift, before: Mapping[str, Any], version: str, now: datetime, *, repaired: bool
) -> Condition:
    """What to say about drift once it has been dealt with. ``repaired``: what was found was set back."""
    if drift.kept:
        return true(
            "Drifted",
            "KeptLive",
            f"{_keys(len(drift.kept))} left as somebody else wrote them: {named(drift.kept)}",
        )
    if drift.found and not repaired:
        return found_drift(drift)
    if drift.found:
        return false(
            "Drifted",
            REPAIRED,
            f"{_keys(len(drift.found))} that somebody else had changed were set back"
            f" at {conditions.timestamp(now)}: {named(drift.found)}",
        )
    held = conditions.find(before, "Drifted")
    if held is not None and held["reason"] == REPAIRED and before.get("version") == version:
        return false("Drifted", REPAIRED, held["message"])
    return false("Drifted", "InSync", "nobody else changed what was delivered")


def found_drift(drift: Drift) -> Condition:
    """What to say about drift before it is dealt with."""
    return true(
        "Drifted",
        "ChangedLive",
        f"somebody else changed {_keys(len(drift.found))}: {named(drift.found)}",
    )


def patch(
    before: Mapping[str, Any], outcome: Outcome, *, generation: int, now: datetime
) -> dict[str, Any]:
    """What has to be merged into the status; empty if nothing changed."""
    named_now = (outcome.synced, outcome.converged, outcome.drifted)
    wanted = [condition for condition in named_now if condition is not None]
    after: dict[str, Any] = {
        "conditions": conditions.merge(
            conditions.CONFIG_CONDITIONS,
            before.get("conditions"),
            wanted,
            generation=generation,
            now=now,
        ),
        "rollout": trials.stored(outcome.trial),
    }
    optional = {
        "version": outcome.version,
        "convergedVersion": outcome.settled_version,
        "keys": outcome.keys,
        "convergedAgents": outcome.converged_agents,
        "keysOwned": None if outcome.ledger is None else ledgers.stored(outcome.ledger),
    }
    after |= {field: value for field, value in optional.items() if value is not None}
    if outcome.converged is not None:
        # Not with what is only remembered on the way: conditions are still those of the generation before.
        after["observedGeneration"] = generation
    return {field: value for field, value in after.items() if _differs(before.get(field), value)}


def _differs(before: Any, after: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        present = {field: value for field, value in after.items() if value is not None}
        return dict(before) != present
    return bool(before != after)


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"


def is_trouble(condition: Condition) -> bool:
    """Whether an event about this condition is a warning."""
    if condition.type == "Synced":
        return condition.status != "True" and condition.reason != trials.IN_PROGRESS
    if condition.type == "Drifted":
        return condition.status == "True" or condition.reason == REPAIRED
    return False

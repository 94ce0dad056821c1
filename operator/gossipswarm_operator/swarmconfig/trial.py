"""Trying a version in some regions before everybody gets it: pure. Why it works like this: docs/decisions/0014.

A trial starts when the overlays are to be written, and ends in one of two ways. It *succeeds* once every agent of the
canary regions has held the overlay and been Ready, without a break, for the soak time. It *fails* if that has not come
about by the timeout, or at once if an application rejects the version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from gossipswarm_operator.conditions import timestamp
from gossipswarm_operator.swarmconfig.model import RolloutPolicy

IN_PROGRESS = "CanaryInProgress"
FAILED = "CanaryFailed"
_NAMED = 3
"""Agents that a message names."""


class Trial(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A trial as the status remembers it. Times are RFC 3339."""

    version: str
    state: Literal["Canary", "Failed"]
    started_at: str
    regions: tuple[str, ...]
    generation: int
    """Of the object when the trial started: an edit gives a failed version another chance."""
    healthy_since: str | None = None
    message: str = ""


class CanaryAgent(msgspec.Struct, frozen=True):
    """One agent of a canary region."""

    name: str
    region: str
    ready: bool
    """Its pod is Ready."""
    holds: bool
    """It said that it holds the overlay."""


class Step(msgspec.Struct, frozen=True):
    """What to do now, and the trial as it is then."""

    action: Literal["write", "wait", "promote", "fail", "stopped"]
    """write: the overlays, in all regions. stopped: it has failed already."""
    trial: Trial
    message: str
    seconds: float | None = None
    """When to look again at the latest."""


def read(status: Mapping[str, Any]) -> Trial | None:
    """The trial in the status of a SwarmConfig; None if there is none, or none that makes sense."""
    found = status.get("rollout")
    if not found:
        return None
    present = {field: value for field, value in found.items() if value is not None}
    try:
        return msgspec.convert(present, Trial)
    except msgspec.ValidationError:
        return None


def stored(trial: Trial | None) -> dict[str, Any] | None:
    """The trial as it stands in the status; absent fields are there as None, to replace what was there."""
    if trial is None:
        return None
    absent = {"healthySince": None, "message": None}
    return {**absent, **msgspec.to_builtins(trial), "regions": list(trial.regions)}


def step(
    policy: RolloutPolicy,
    current: Trial | None,
    version: str,
    generation: int,
    agents: Sequence[CanaryAgent],
    rejections: Mapping[str, str],
    now: datetime,
) -> Step:
    """The next step towards ``version``.

    ``rejections``: region -> what an application there has against the version on trial.
    """
    if current is None or not _is_about(current, policy, version, generation):
        trial = Trial(
            version=version,
            state="Canary",
            started_at=timestamp(now),
            regions=policy.regions,
            generation=generation,
        )
        return Step("write", trial, "the trial starts", 0.0)
    if current.state == "Failed":
        return Step("stopped", current, current.message)
    for region, reason in sorted(rejections.items()):
        return _failed(current, f"an application in region {region} rejects it: {reason}")
    waiting = _waiting(policy.regions, agents)
    elapsed = (now - _at(current.started_at)).total_seconds()
    left = policy.timeout - elapsed
    if waiting:
        if left <= 0:
            return _failed(current, f"after {policy.timeout:g} s {waiting}")
        unwell = msgspec.structs.replace(current, healthy_since=None)
        all_hold = bool(agents) and all(agent.holds for agent in agents)
        return Step("wait" if all_hold else "write", unwell, waiting, min(left, 2.0))
    since = current.healthy_since or timestamp(now)
    well = msgspec.structs.replace(current, healthy_since=since)
    soaked = (now - _at(since)).total_seconds()
    if soaked >= policy.soak:
        return Step("promote", well, f"all agents of the canary regions were well for {soaked:g} s")
    if left <= 0:
        return _failed(
            current, f"after {policy.timeout:g} s it was well for {soaked:g} s of {policy.soak:g} s"
        )
    rest = policy.soak - soaked
    return Step("wait", well, f"all agents hold it; {rest:g} s to go", min(rest, left, 2.0))


def _is_about(trial: Trial, policy: RolloutPolicy, version: str, generation: int) -> bool:
    """Whether the trial is the one of this version. One that failed is over once the object is edited."""
    if trial.version != version or trial.regions != policy.regions:
        return False
    return trial.state == "Canary" or trial.generation == generation


def _failed(trial: Trial, message: str) -> Step:
    failed = msgspec.structs.replace(trial, state="Failed", healthy_since=None, message=message)
    return Step("fail", failed, message)


def _waiting(regions: Sequence[str], agents: Sequence[CanaryAgent]) -> str:
    """What is not as it should be; empty if all is well."""
    empty = [region for region in regions if all(agent.region != region for agent in agents)]
    if empty:
        return f"region {', '.join(empty)} has no agents"
    absent = [agent.name for agent in agents if not agent.holds]
    if absent:
        return f"{len(absent)} of {len(agents)} agents do not hold it: {named(absent)}"
    unready = [agent.name for agent in agents if not agent.ready]
    if unready:
        return f"{len(unready)} of {len(agents)} agents are not Ready: {named(unready)}"
    return ""


def named(found: Sequence[str]) -> str:
    """The first few of some names."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(sorted(found)[:_NAMED]) + more


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

"""Whether a cut is in force, by agents that try to reach others beyond it. Pure; asking them is done elsewhere.

A round asks one agent of each region on one side for each region on the other, in both directions, others each time. Each
tries by a new UDP flow and a new TCP connection, and by what its gossip uses at the moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.agent_documents import Flows
from gossipswarm_operator.observed import Pod
from gossipswarm_operator.partition.actions import Ask, Probe
from gossipswarm_operator.partition.model import SwarmPartition
from gossipswarm_operator.partition.observed import Memory, Observed, Reach, Trial
from gossipswarm_operator.partition.severing import severed_by

GRACE: Final = timedelta(seconds=10)
"""Within which a network is expected to have applied a policy."""
ROUNDS: Final = 2
"""Rounds in a row that show something. Of closed ones the last is after everybody gave up old connections; of open ones as
well, so that nothing is held against a network that was slower than ``GRACE``, or against an operator that was held up.
"""
AGAIN: Final = timedelta(seconds=20)
"""Between two rounds once a cut has been shown."""
MOST: Final = 64
"""Probes of one round."""


class Verdict(msgspec.Struct, frozen=True):
    """What probes have shown."""

    state: Literal["trying", "closed", "open", "unknown"]
    message: str = ""


TRYING: Final = Verdict("trying", "agents are about to try it")


def verdict(trial: Trial, now: datetime) -> Verdict:
    """What the rounds so far mean."""
    if trial.closed >= ROUNDS:
        return Verdict("closed", f"nothing passed in {trial.probed} probes of agents")
    if trial.open:
        more = f", and {len(trial.open) - 1} more" if len(trial.open) > 1 else ""
        passed = f"{trial.open[0]}{more}; {trial.probed} probes"
        return Verdict("open" if trial.opened >= ROUNDS else "trying", passed)
    if now - trial.since <= GRACE:
        return TRYING
    return Verdict(
        "unknown", trial.failure or "there are no agents on both sides that could try it"
    )


def rounds(
    observed: Observed, memory: Memory, live: Sequence[SwarmPartition], now: datetime
) -> list[Probe]:
    """The rounds that are due."""
    found = []
    for partition in live:
        trial = memory.trial(partition, now)
        shown = trial.closed >= ROUNDS
        if shown and trial.at is not None and now - trial.at < AGAIN:
            continue
        # Also where there is nobody to ask: how long that lasts is to be known.
        found.append(Probe(partition, _asks(observed, partition, trial.rounds)))
    return found


def _asks(observed: Observed, partition: SwarmPartition, number: int) -> tuple[Ask, ...]:
    by_region: dict[str, list[Pod]] = {}
    for pod in sorted(observed.pods, key=lambda pod: pod.name):
        if pod.name in observed.agents and pod.address and not pod.deleting:
            by_region.setdefault(pod.region, []).append(pod)
    ways = [
        (source, target)
        for pair in sorted(severed_by(partition, observed.regions))
        for source, target in (pair, pair[::-1])
        if source in by_region and target in by_region
    ]
    start = number * MOST % len(ways) if ways else 0
    asks = []
    for place, (source, target) in enumerate((ways[start:] + ways[:start])[:MOST]):
        # Agents on both sides change from round to round, not in step.
        one = by_region[source][(number + place) % len(by_region[source])]
        other = by_region[target][(number // 2 + place) % len(by_region[target])]
        asks.append(Ask(one.name, other.name, gossip_address(other.address)))
    return tuple(asks)


def gossip_address(host: str | None) -> str:
    """Where the agent of a pod is gossiped with."""
    return f"[{host}]:{names.GOSSIP_PORT}" if ":" in str(host) else f"{host}:{names.GOSSIP_PORT}"


def judged(
    trial: Trial,
    asks: Sequence[Ask],
    answers: Mapping[tuple[str, str], Flows | str],
    now: datetime,
) -> Trial:
    """The trial after another round. ``answers`` by source and target; text is why there is none."""
    passed, probed, failure = [], 0, ""
    for ask in asks:
        answer = answers[ask.source, ask.target]
        if isinstance(answer, str):
            failure = failure or f"{ask.source} cannot try {ask.target}: {answer}"
            continue
        probed += 1
        passed += [
            Reach(ask.source, ask.target, f"{flow.age} {flow.kind}")
            for flow in answer.flows
            if flow.open
        ]
    was_shown = trial.closed >= ROUNDS
    if not probed:
        return msgspec.structs.replace(
            trial,
            rounds=trial.rounds + 1,
            opened=0,
            open=(),
            failure=failure,
            at=now,
        )
    return Trial(
        # What held and does not any more is given as long to come right as at first.
        since=now if was_shown and passed else trial.since,
        rounds=trial.rounds + 1,
        closed=0 if passed else trial.closed + 1,
        opened=trial.opened + 1 if passed and now - trial.since > GRACE else 0,
        sealed=not any(reach.flow.startswith("fresh") for reach in passed),
        open=tuple(passed),
        probed=probed,
        failure=failure,
        at=now,
    )

"""Reconciles the SwarmPartitions of a swarm, all of them at once: what each does depends on the others.

The same reconcile serves every cause: it looks at everything anew, and does what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from gossipswarm_operator import conditions
from gossipswarm_operator import status as statuses
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.client import PARTITIONS, KubeClient, Object
from gossipswarm_operator.events import Events
from gossipswarm_operator.failures import Failure
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.partition import probing, status
from gossipswarm_operator.partition.actions import HandOver
from gossipswarm_operator.partition.applying import Applier, Checkpoint, Result
from gossipswarm_operator.partition.model import FINALIZER, SwarmPartition, parse, swarm_of
from gossipswarm_operator.partition.observed import Memory, Observed
from gossipswarm_operator.partition.observing import Key, observe
from gossipswarm_operator.partition.planning import Plan, plan

KIND: Final = "SwarmPartition"
MOVING_SECONDS: Final = 0.5
"""Between two looks while something is about to change."""
STEADY_SECONDS: Final = 5.0
"""Between two looks at a cut that is as it is to be."""
WAITING_SECONDS: Final = 10.0
"""Between two looks whether what stands in the way of a cut is gone; most of it is seen at once."""
MERGED_SECONDS: Final = 30.0
"""Between two looks at agents that do not hear each other long after their cut was undone."""
FAILED_SECONDS: Final = 2.0
"""Until what was refused is tried again."""
YOUNG: Final = timedelta(seconds=30)
"""For so long agents are asked often whether they have noticed."""
_SILENT: Final = frozenset({status.PENDING, status.PROBING, "NotApplied", "NotNoticed", "InForce"})
"""Reasons that are no news."""
_TROUBLE: Final = frozenset(
    {"NotEnforced", "OverriddenByPolicy", "StillCut", "UnknownRegion", "NothingToCut"}
)


class Reconciler:
    """Brings the cuts of swarms about. Calls for one swarm must not overlap; those for different ones may."""

    def __init__(
        self,
        kube: KubeClient,
        api: AgentsApi,
        events: Events,
        metrics: Metrics,
        *,
        ports: OpenPorts = RANGES,
        checkpoint: Checkpoint | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``ports``: what policies leave open. ``checkpoint`` is called after each action, and may stop the operator there by raising."""
        self._kube = kube
        self._api = api
        self._events = events
        self._metrics = metrics
        self._ports = ports
        self._checkpoint = checkpoint
        self._now = now
        self._memories: dict[Key, Memory] = {}
        self._shown: dict[Key, set[str]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile of all SwarmPartitions of a swarm; seconds until the next is due, None if there are none left.

        Raises ApiError if the API server did not do its part.
        """
        loop = asyncio.get_running_loop()
        started, outcome = loop.time(), "failed"
        try:
            seconds = await self._reconcile(key)
            outcome = "done"
            return seconds
        finally:
            self._metrics.reconciled(KIND, outcome, loop.time() - started)

    async def _reconcile(self, key: Key) -> float | None:
        listed = await self._kube.list_all(PARTITIONS, key[0])
        sources = [found for found in listed if swarm_of(found) == key[1]]
        self._show(key, sources)
        if all(_is_over(source) for source in sources):
            self._memories.pop(key, None)
            return None
        memory = self._memories.setdefault(key, Memory())
        seen = await observe(self._kube, self._api, key, sources, self._now(), self._ports)
        observed, now = seen.observed, self._now()
        memory.keep({p.uid for p in observed.partitions}, set(observed.agents))
        made = plan(observed, memory, now)
        applier = Applier(
            self._kube,
            self._api,
            key[0],
            memory,
            observed,
            seen.addresses,
            self._now,
            self._checkpoint,
        )
        result = await applier.apply(made.actions)
        for action in result.done:
            if isinstance(action, HandOver):
                said = f"the network does not enforce it: {action.message}; agents make the cut"
                await self._events.warning(action.partition.source, "NotEnforced", said)
        for partition in made.live:
            uid = partition.uid
            if result.failures(uid) or uid in made.refused or made.overrides.get(uid):
                memory.begin_anew(partition)
        now = self._now()
        shown = {p.uid: probing.verdict(memory.trial(p, now), now) for p in made.live}
        made = msgspec.structs.replace(made, verdicts=shown)
        await self._say(sources, observed, made, applier, result)
        return _due(observed, made, memory, result, self._now())

    # --- what objects say -------------------------------------------------------------------------

    async def _say(
        self,
        sources: Sequence[Object],
        observed: Observed,
        made: Plan,
        applier: Applier,
        result: Result,
    ) -> None:
        """Write each status that says something new, and tell of every transition."""
        for source in sources:
            name = source["metadata"]["name"]
            if name in observed.invalid:
                await self._save_invalid(source, observed.invalid[name])
        for partition in observed.partitions:
            source = applier.source(partition)
            if "deletionTimestamp" in source["metadata"] and not parse(source).held:
                continue  # it is gone
            failures = result.failures(partition.uid)
            new = self._status(partition, parse(source), observed, made, failures)
            if new is not None:
                await self._write(source, new, before=partition.source)

    def _status(
        self,
        found: SwarmPartition,
        now_is: SwarmPartition,
        observed: Observed,
        made: Plan,
        failures: tuple[Failure, ...],
    ) -> Mapping[str, Any] | None:
        """What is to be said of one that was ``found`` and is by now; None = nothing new, for good."""
        if _holds(found.source, "Healed"):
            return None
        if now_is.healed_at is None:
            return status.status(now_is, observed, made, failures, self._now())
        if found.healed_at is None:
            # What agents said is from before the cut was undone.
            return dict(now_is.source["status"])
        return status.merging(now_is, observed, made, self._now())

    async def _save_invalid(self, source: Object, message: str) -> None:
        if "deletionTimestamp" in source["metadata"]:
            await self._let_go(source)
            return
        await self._write(source, status.invalid(source, message, self._now()), before=source)

    async def _let_go(self, source: Object) -> None:
        metadata = source["metadata"]
        held = metadata.get("finalizers") or []
        if FINALIZER in held:
            rest = [name for name in held if name != FINALIZER]
            seen = {field: metadata[field] for field in ("uid", "resourceVersion")}
            patch = {"metadata": {"finalizers": rest or None, **seen}}
            await self._kube.merge(PARTITIONS, metadata["namespace"], metadata["name"], patch)

    async def _write(self, source: Object, new: Mapping[str, Any], before: Object) -> None:
        metadata = source["metadata"]
        patch = statuses.changed(source.get("status"), new)
        self._metrics.show(KIND, metadata["namespace"], metadata["name"], new["conditions"])
        if patch:
            await self._kube.patch_status(
                PARTITIONS, metadata["namespace"], metadata["name"], patch
            )
        about = {**source, "apiVersion": PARTITIONS.api_version, "kind": KIND}
        told: set[str] = set()
        held = (before.get("status") or {}).get("conditions")
        for found in conditions.transitions(held, new["conditions"]):
            said = found.now
            if said.reason in _SILENT or said.reason in told:
                continue
            told.add(said.reason)
            tell = self._events.warning if said.reason in _TROUBLE else self._events.normal
            await tell(about, said.reason, f"{said.type}: {said.message}")

    def _show(self, key: Key, sources: Sequence[Object]) -> None:
        """Conditions as metrics."""
        shown = {str(source["metadata"]["name"]): source for source in sources}
        for name in self._shown.get(key, set()) - shown.keys():
            self._metrics.show(KIND, key[0], name, ())
        for name, source in shown.items():
            found = (source.get("status") or {}).get("conditions") or ()
            self._metrics.show(KIND, key[0], name, found)
        if shown:
            self._shown[key] = set(shown)
        else:
            self._shown.pop(key, None)


def _is_over(source: Object) -> bool:
    """Nothing is left to do or to say."""
    if FINALIZER in (source["metadata"].get("finalizers") or ()):
        return False
    if "deletionTimestamp" in source["metadata"]:
        return True
    return _holds(source, "Healed")


def _holds(source: Object, kind: str) -> bool:
    found = conditions.find(source.get("status"), kind)
    return found is not None and found["status"] == "True"


def _due(
    observed: Observed,
    made: Plan,
    memory: Memory,
    result: Result,
    now: datetime,
) -> float | None:
    """Seconds until the next look."""
    due = [FAILED_SECONDS] if result.refused else []
    if made.refused or observed.invalid:
        due.append(WAITING_SECONDS)
    for partition in made.live:
        assert partition.applied_at is not None
        verdict = probing.verdict(memory.trial(partition, now), now)
        hopeless = partition.uid in made.refused or made.overrides.get(partition.uid)
        undecided = verdict.state == "trying" and not hopeless
        unseen = not _holds(partition.source, "Detected")
        is_young = now - partition.applied_at < YOUNG
        due.append(MOVING_SECONDS if undecided or (unseen and is_young) else STEADY_SECONDS)
        if partition.expires_at is not None:
            due.append(max(0.0, (partition.expires_at - now).total_seconds()))
    for partition in observed.partitions:
        if partition.healed_at is not None and not _holds(partition.source, "Healed"):
            late = now - partition.healed_at > status.HEALING
            due.append(MERGED_SECONDS if late else MOVING_SECONDS)
    if made.ended:
        due.append(MOVING_SECONDS)
    return min(due, default=None)

"""One reconcile of a GossipSwarm: observe, plan, apply, say so. The same for every cause."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from gossipswarm_operator import conditions, status
from gossipswarm_operator.access import address_of, authority
from gossipswarm_operator.actions import Action, Apply, Delete, described
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.apply import Applier, Checkpoint
from gossipswarm_operator.builders.ports import RANGES, OpenPorts
from gossipswarm_operator.client import SWARMS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.events import Events
from gossipswarm_operator.failures import Failure, of_api
from gossipswarm_operator.keyring import KEY_BYTES, Key
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.model import InvalidSpec, Swarm, parse
from gossipswarm_operator.observe import Observer
from gossipswarm_operator.observed import Observed
from gossipswarm_operator.planner import Fresh, Plan, plan
from gossipswarm_operator.queue import backoff_seconds

PROGRESS_SECONDS: Final = 2.0
"""Between two looks while something is under way."""
TOLD_ACTIONS: Final = 12
"""Actions that an event names; beyond, it says how many more there were."""


class SwarmReconciler:
    """Brings GossipSwarms about. Calls for one object must not overlap; those for different ones may."""

    def __init__(
        self,
        kube: KubeClient,
        agents: AgentsApi,
        events: Events,
        metrics: Metrics,
        default_image: str,
        *,
        ports: OpenPorts = RANGES,
        resync_seconds: float = 30.0,
        progress_seconds: float = PROGRESS_SECONDS,
        relist_seconds: float = 0.0,
        checkpoint: Checkpoint | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``ports``: what policies leave open. ``relist_seconds``: for how long what was listed of a swarm is good, unless there is ``notice`` of a change; 0
        where nobody watches. ``checkpoint`` is called after each action, and may stop the operator there by raising.
        """
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._default_image = default_image
        self._ports = ports
        self._resync = resync_seconds
        self._progress = progress_seconds
        self._now = now
        self._observer = Observer(kube, agents, now, relist_seconds=relist_seconds)
        self._applier = Applier(kube, agents, checkpoint)
        self._failed: dict[tuple[str, str], int] = {}
        self._unheard: dict[tuple[str, str], int] = {}
        """Looks in a row at which no agent of a swarm answered and nothing was to be done."""

    def notice(self, key: tuple[str, str]) -> None:
        """Something of a swarm changed: the next look at it lists everything anew."""
        self._observer.notice(key)

    async def reconcile(self, key: tuple[str, str]) -> float | None:
        """One reconcile; seconds until the next is due, None if the object is gone.

        Raises ApiError if the API server did not even say what there is.
        """
        loop = asyncio.get_running_loop()
        started, outcome = loop.time(), "failed"
        try:
            seconds = await self._reconcile(key)
            outcome = "failed" if key in self._failed else "done"
            return seconds
        finally:
            self._metrics.reconciled("GossipSwarm", outcome, loop.time() - started)

    async def _reconcile(self, key: tuple[str, str]) -> float | None:
        source = await self._kube.get(SWARMS, *key)
        if source is None or "deletionTimestamp" in source["metadata"]:
            # What belongs to it is taken away by the garbage collector.
            self._metrics.show("GossipSwarm", *key, ())
            self._failed.pop(key, None)
            self._unheard.pop(key, None)
            self._observer.forget(key)
            return None
        source.setdefault("apiVersion", SWARMS.api_version)
        source.setdefault("kind", SWARMS.kind)
        try:
            swarm = parse(source)
        except InvalidSpec as error:
            await self._save(source, status.refused(source, str(error), self._now()))
            return self._resync
        try:
            observed = await self._observer.observe(swarm)
        except ApiError as error:
            return await self._not_seen(swarm, error)
        except ExceptionGroup as group:
            return await self._not_seen(swarm, _first(group))
        return await self._act(swarm, observed)

    async def _act(self, swarm: Swarm, observed: Observed) -> float:
        made = plan(swarm, observed, _fresh(), self._default_image, self._now(), self._ports)
        tokens = observed.tokens
        ca = await authority(self._kube, swarm) if made.actions else None
        addresses = {
            pod.name: address_of(swarm, pod, tokens[1], ca)
            for pod in observed.pods
            if tokens is not None and pod.address
        }
        if made.actions:
            # What comes of them is heard of later than the next look may be.
            self.notice((swarm.namespace, swarm.name))
        result = await self._applier.apply(swarm.namespace, made.actions, addresses)
        for reason, actions in groupby(result.done, _reason):
            tell = self._events.warning if reason == "Repaired" else self._events.normal
            await tell(swarm.source, reason, _told(list(actions)))
        for failure in result.failures:
            await self._events.warning(swarm.source, failure.reason, failure.message)
        new = status.status(swarm, observed, made, result.failures, self._now())
        await self._save(swarm.source, new)
        return self._next(swarm, observed, made, result.failures)

    def _next(
        self, swarm: Swarm, observed: Observed, made: Plan, failures: tuple[Failure, ...]
    ) -> float:
        key = (swarm.namespace, swarm.name)
        if failures:
            count = self._failed[key] = self._failed.get(key, 0) + 1
            asked = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
            return max(backoff_seconds(count), asked)
        self._failed.pop(key, None)
        moving = any(not wait.blocked for wait in made.waits) or made.actions
        if not moving and made.convergence.holds is True:
            self._unheard.pop(key, None)
            return self._resync
        # A thousand agents are not asked every other second.
        seconds = self._progress + swarm.total * 0.01
        if observed.agents or made.actions:
            self._unheard.pop(key, None)
            return seconds
        # No agent answers, and that one begins to run is watched.
        looks = self._unheard[key] = self._unheard.get(key, 0) + 1
        return float(max(seconds, min(self._resync, seconds * 2 ** min(looks - 1, 10))))

    async def _not_seen(self, swarm: Swarm, error: ApiError) -> float:
        """The API server did not say what there is: nothing may be concluded, and nothing is done."""
        failure = of_api(error, "cannot see what the swarm consists of")
        message = failure.message
        if error.status == 403 and "secrets" in error.message:
            message = (
                f"the operator may not touch Secrets in namespace {swarm.namespace}: add it to the chart's "
                "swarmNamespaces, or bind the ClusterRole gossipswarm-operator-secrets there"
            )
        await self._events.warning(swarm.source, failure.reason, message)
        wanted = [conditions.false("Progressing", failure.reason, message)]
        if error.kind == "refused":
            wanted.append(conditions.false("Ready", failure.reason, message))
        held = (swarm.source.get("status") or {}).get("conditions")
        merged = conditions.merge(
            conditions.SWARM_CONDITIONS,
            held,
            wanted,
            generation=swarm.generation,
            now=self._now(),
        )
        await self._save(swarm.source, {"conditions": merged})
        key = (swarm.namespace, swarm.name)
        count = self._failed[key] = self._failed.get(key, 0) + 1
        return max(backoff_seconds(count), error.retry_after or 0.0)

    async def _save(self, source: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Write the status if it says something new, and tell of every transition."""
        metadata = source["metadata"]
        before = source.get("status") or {}
        patch = status.changed(before, new)
        self._metrics.show(
            "GossipSwarm", metadata["namespace"], metadata["name"], new["conditions"]
        )
        if not patch:
            return
        stored = await self._kube.patch_status(
            SWARMS, metadata["namespace"], metadata["name"], patch
        )
        dropped = sorted(patch.keys() - (stored.get("status") or {}).keys() - _absent(patch))
        if dropped:
            fields = ", ".join(f"status.{name}" for name in dropped)
            message = f"the CRD does not know {fields}: it is older than the operator, apply the CRDs of its version"
            await self._events.warning(source, "CRDOutdated", message)
        for found in conditions.transitions(before.get("conditions"), new["conditions"]):
            now, tone = found.now, status.tone(found)
            # What a swarm begins with is no news, unless it is trouble.
            if tone == "Warning" or (tone is not None and before.get("conditions")):
                tell = self._events.warning if tone == "Warning" else self._events.normal
                await tell(source, f"{now.type}{now.status}", f"{now.reason}: {now.message}")


def _absent(patch: Mapping[str, Any]) -> set[str]:
    return {name for name, value in patch.items() if value is None}


def _told(actions: Sequence[Action]) -> str:
    """Several actions of one kind in an event: there may be one for each of hundreds of agents."""
    more = f"; and {len(actions) - TOLD_ACTIONS} more" if len(actions) > TOLD_ACTIONS else ""
    return "; ".join(described(action) for action in actions[:TOLD_ACTIONS]) + more


def _reason(action: Action) -> str:
    match action:
        case Apply(why=why):
            return why
        case Delete():
            return "Deleted"
        case _:
            return type(action).__name__


def _first(group: ExceptionGroup[Exception]) -> ApiError:
    """The ApiError of several calls at once; anything else among them is a defect, and raised."""
    errors, others = group.split(ApiError)
    if others is not None or errors is None:
        raise group
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, ApiError)
    return found


def _fresh() -> Fresh:
    """New random secrets; most are never used."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return Fresh(Key(key), secrets.token_urlsafe(32), secrets.token_urlsafe(32))

"""Reconciles SwarmConfigs. The same reconcile serves every cause: it looks at everything anew, and does what is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import msgspec

from gossipswarm_operator.agent_documents import AgentError
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import CONFIGS, KubeClient
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.swarmconfig import delivery, removal, status, trial
from gossipswarm_operator.swarmconfig.dependents import Key
from gossipswarm_operator.swarmconfig.model import InvalidConfig, parse
from gossipswarm_operator.swarmconfig.record import Record, TooLarge
from gossipswarm_operator.swarmconfig.rendering import Unrenderable
from gossipswarm_operator.swarmconfig.run import WAITING_SECONDS, Blocked, Glance, Result, Run

KIND: Final = "SwarmConfig"
GLANCE_SECONDS: Final = 5.0
"""Between two looks at one agent, whether anything below the prefix changed."""
RESYNC_SECONDS: Final = 60.0
"""After which everything is looked at anew, and every agent asked."""
AGAIN_SECONDS: Final = 0.2
SILENT_SECONDS: Final = 2.0


class _Settled(msgspec.Struct, frozen=True):
    """Nothing was left to do."""

    glance: Glance
    until: float
    """On the monotonic clock: everything is looked at anew then."""


class Reconciler:
    """Brings SwarmConfigs about. Calls for one object must not overlap; those for different ones may."""

    def __init__(
        self,
        kube: KubeClient,
        api: AgentsApi,
        events: Events,
        *,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``clock`` gives seconds and never goes back."""
        self._kube = kube
        self._api = api
        self._events = events
        self._metrics = metrics or Metrics()
        self._now = now
        self._clock = clock
        self._settled: dict[Key, _Settled] = {}
        self._notices: dict[Key, int] = {}
        """How often something changed, for objects that there are."""

    def notice(self, key: Key) -> None:
        """Something that the object depends on changed: its next reconcile looks at everything."""
        self._settled.pop(key, None)
        if key in self._notices:
            self._notices[key] += 1

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile; seconds until the next one is due, None if there is nothing to come back for.

        Raises ApiError if the API server did not do its part.
        """
        started = self._clock()
        outcome = "failed"
        try:
            due = await self._look(key)
            outcome = "done"
        finally:
            self._metrics.reconciled(KIND, outcome, self._clock() - started)
        return due

    async def _look(self, key: Key) -> float | None:
        settled = self._settled.get(key)
        is_still = settled is not None and await self._is_still(settled)
        # Unless something was noticed while the agent was asked.
        if is_still and self._settled.get(key) is settled:
            return GLANCE_SECONDS
        self._settled.pop(key, None)
        noticed = self._notices.setdefault(key, 0)
        source = await self._kube.get(CONFIGS, *key)
        if source is None:
            del self._notices[key]
            self._metrics.show(KIND, *key, ())
            return None
        record = Record(self._kube, self._events, source, self._now)
        if record.deleted_at is not None:
            return await removal.remove(self._kube, self._api, record)
        result = await self._deliver(record)
        if result is None:
            return AGAIN_SECONDS
        await record.save(result.outcome)
        self._metrics.show(KIND, *key, record.status.get("conditions") or ())
        if result.glance is None:
            return result.seconds
        if self._notices[key] == noticed:
            self._settled[key] = _Settled(result.glance, self._clock() + RESYNC_SECONDS)
        return GLANCE_SECONDS

    async def _is_still(self, settled: _Settled) -> bool:
        """Whether all is as it was, by all that one agent knows."""
        if self._clock() >= settled.until:
            return False
        glance = settled.glance
        try:
            found = await self._api.read_unless(glance.address, glance.key, glance.etag or None)
        except AgentError:
            return False
        return found is True or (found is None and not glance.etag)

    async def _deliver(self, record: Record) -> Result | None:
        """What came of a delivery; None if it has to be tried again at once."""
        try:
            config = parse(record.source)
            return await Run(self._kube, self._api, record, config).deliver()
        except Blocked as error:
            return self._blocked(
                record, error.reason, error, error.seconds, agents_asked=error.agents_asked
            )
        except (InvalidConfig, Unrenderable) as error:
            return self._blocked(record, error.reason, error, WAITING_SECONDS)
        except TooLarge as error:
            return self._blocked(record, "TooLarge", error, WAITING_SECONDS)
        except delivery.Refused as error:
            return self._blocked(record, error.reason, error, SILENT_SECONDS)
        except AgentError as error:
            return self._blocked(record, "AgentsUnreachable", error, SILENT_SECONDS)
        except delivery.Changed:
            return None

    def _blocked(
        self,
        record: Record,
        reason: str,
        error: Exception,
        seconds: float,
        *,
        agents_asked: bool = True,
    ) -> Result:
        held = trial.read(record.status)
        outcome = status.blocked(reason, str(error), held, agents_asked=agents_asked)
        return Result(outcome, seconds)

"""Watches SwarmConfigs and what they depend on, and asks for a reconcile of those that a change is about.

Secrets are not watched, since that would take the right to read them all: each look at everything asks for those that
are referred to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import kopf

from gossipswarm_operator.names import GROUP, VERSION
from gossipswarm_operator.swarmconfig.dependents import Dependents, Key
from gossipswarm_operator.swarmconfig.reconciler import Reconciler

_GONE: Final = "DELETED"


def register(
    registry: kopf.OperatorRegistry, reconciler: Reconciler, enqueue: Callable[[Key], object]
) -> None:
    """Have ``enqueue`` called with each SwarmConfig that ``reconciler`` has to look at, as things change.

    The queue behind it must reconcile one object once at a time, and again after the seconds that the reconcile
    returns.
    """
    dependents = Dependents()

    def wake(keys: set[Key]) -> None:
        for key in sorted(keys):
            reconciler.notice(key)
            enqueue(key)

    async def config_seen(event: kopf.RawEvent, **_: Any) -> None:
        wake(dependents.config(event["object"], gone=event["type"] == _GONE))

    async def config_map_seen(event: kopf.RawEvent, **_: Any) -> None:
        wake(dependents.config_map(event["object"], gone=event["type"] == _GONE))

    async def swarm_seen(event: kopf.RawEvent, **_: Any) -> None:
        wake(dependents.swarm(event["object"], gone=event["type"] == _GONE))

    on = kopf.on.event
    on(GROUP, VERSION, "swarmconfigs", id="swarmconfig", registry=registry)(config_seen)
    on("", "v1", "configmaps", id="swarmconfig-source", registry=registry)(config_map_seen)
    on(GROUP, VERSION, "gossipswarms", id="swarmconfig-swarm", registry=registry)(swarm_seen)

"""What a SwarmConfig leaves behind: on deletion its keys are deleted at the agents, if it prunes, and its trial ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import CONFIGS, SWARMS, KubeClient
from gossipswarm_operator.swarmconfig import (
    claims,
    delivery,
    ledger,
    planning,
    survey,
    trial,
    writing,
)
from gossipswarm_operator.swarmconfig.digests import Digests
from gossipswarm_operator.swarmconfig.keys import Leaves
from gossipswarm_operator.swarmconfig.model import InvalidConfig, SwarmConfig, parse
from gossipswarm_operator.swarmconfig.record import Record
from gossipswarm_operator.swarmconfig.run import Blocked, find_agents, first, unreachable
from gossipswarm_operator.swarmconfig.status import Outcome

PATIENCE_SECONDS: Final = 600.0
"""After which an object goes although its keys could not be deleted: nobody wants one that is Terminating for ever."""
RETRY_SECONDS: Final = 2.0


async def remove(kube: KubeClient, api: AgentsApi, record: Record) -> float | None:
    """Take back what was delivered, then let the object go.

    Seconds until the next attempt; None if there is nothing left to do. Raises ApiError.
    """
    if not record.is_held:
        return None
    try:
        config = parse(record.source)
        done = await _take_back(kube, api, record, config)
    except InvalidConfig:
        done = True
    except (Blocked, delivery.Refused) as error:
        since = record.deleted_at
        if since is None or (record.now - since).total_seconds() < PATIENCE_SECONDS:
            await record.warn("DeletionWaits", f"its keys cannot be deleted yet: {error}")
            return RETRY_SECONDS
        await record.warn("KeysLeftBehind", f"its keys stay in the swarm: {error}")
        done = True
    if not done:
        return RETRY_SECONDS
    await record.release()
    return None


async def _take_back(kube: KubeClient, api: AgentsApi, record: Record, config: SwarmConfig) -> bool:
    """Delete what is left; True once no agent that answers has any of it."""
    owned = ledger.read(record.status) if config.prune else {}
    current = trial.read(record.status)
    regions = current.regions if current is not None else ()
    swarm = await kube.get(SWARMS, config.namespace, config.swarm)
    if swarm is None or "deletionTimestamp" in swarm["metadata"] or not (owned or regions):
        return True
    agents, token = await find_agents(kube, swarm)
    held = await survey.take(api, agents, config.prefix)
    # Whoever has most of it has seen most of what was written, and a deletion covers what it has seen.
    writer = held.best(agents, lambda leaves: -_left(leaves, owned))
    if writer is None:
        raise unreachable(held)
    claimed = claims.read(await kube.list_all(CONFIGS, config.namespace), config.swarm)
    delta = planning.plan(
        {},
        held.holdings[writer.name].leaves,
        owned,
        Digests(token.encode()),
        override=config.override,
        prune=True,
        delivered=False,
        foreign=claims.foreign_keys(claimed, config.name, config.prefix),
    )
    lines = writing.base_lines(config.prefix, delta) + writing.removal_lines(config.prefix, regions)
    if lines:
        await delivery.deliver(api, first(writer, agents), lines)
        await record.save(Outcome(trial=None))
        held = await survey.take(api, agents, config.prefix)
    return all(held.judge(lambda leaves: not _left(leaves, delta.gone)).values())


def _left(leaves: Leaves, keys: Sequence[str] | ledger.Ledger) -> int:
    return sum(key in leaves for key in keys)

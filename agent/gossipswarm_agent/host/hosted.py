"""One agent in a worker: the agent itself, its HTTP API, and what the worker observes about it."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import msgspec

from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.host import orders
from gossipswarm_agent.host.cutwatch import CutWatch
from gossipswarm_agent.host.orders import Refused
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import AgentConfig, ConfigError, Seed, Tokens
from gossipswarm_agent.runtime.drops import DropList
from gossipswarm_agent.runtime.journal import DiskFull, JournalError, JournalLocked
from gossipswarm_agent.runtime.ports import PortInUse, bind_api

DATAGRAM_LIMIT: Final = 60_000
"""Loopback carries large datagrams without fragments, so nearly nothing needs a stream."""
FIRST_LOOK_SECONDS: Final = 0.002
LAST_LOOK_SECONDS: Final = 0.05
DRAIN_SECONDS: Final = 5.0
"""For how long a leaving agent looks for a peer that has everything it has."""
COMPARE_SECONDS: Final = 1.5

_log = logging.getLogger(__name__)


class Hosted:
    """A running agent of this worker. Made by ``start``, given back by ``stop``."""

    def __init__(self, agent: Agent, server: Server, api_port: int) -> None:
        self.agent = agent
        self.api_port = api_port
        self.cuts = CutWatch()
        self._server = server
        agent.subscribe(self._notice)
        self.cuts.cut(agent.drops)

    @classmethod
    async def start(
        cls,
        order: orders.Start,
        common: orders.Configure,
        keys: list[bytes] | None,
        executor: Executor,
    ) -> Hosted:
        """Bring up the agent and its API; Refused says why it cannot be."""
        tokens = Tokens(common.read_token, common.write_token)
        try:
            api = _bind_api(common.host, order.api_port, order.name)
            try:
                config = _config(order, common, keys, tokens, api.getsockname()[1])
                agent = await _start_agent(config, executor)
                try:
                    server = await serve(agent, sockets=[api], tokens=tokens)
                except BaseException:
                    await agent.stop(leave=False)
                    raise
            except BaseException:
                api.close()
                raise
        except (ConfigError, JournalError, OSError) as error:
            raise _refusal(order.name, error) from error
        return cls(agent, server, config.api_port)

    @property
    def gossip_port(self) -> int:
        """UDP and TCP port."""
        return self.agent.node.identity.port

    async def joined(self, seconds: float) -> bool:
        """Whether the agent knows a live peer, waiting this long for one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pause = FIRST_LOOK_SECONDS
        # Meeting the swarm is no event: an agent that finds it after a start has seen nobody come up.
        while not self.agent.node.membership.live():
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_LOOK_SECONDS)
        return True

    def _notice(self, notice: Notify) -> None:
        self.cuts.notice(notice)
        if notice.event != "member-up":
            config = self.agent.config
            _log.info("%s", notice.event, extra={"agent": config.name, "detail": notice.detail})

    def set_drops(self, drops: orders.Drops) -> None:
        """Drop packets of and to these regions from now on, in place of those before."""
        wanted = drop_list(drops)
        if wanted != self.cuts.drops:
            self.agent.set_drops(wanted)
            self.cuts.cut(wanted)

    async def set_peers(self, seeds: list[orders.Seed], declared: dict[str, str]) -> None:
        """Where to look for the swarm, and who belongs to it."""
        await self.agent.set_peers([Seed(*seed) for seed in seeds], declared)

    async def hand_over(self, heirs: list[str]) -> None:
        """Return once one of the heirs has everything that this agent has; Refused if none will."""
        trouble = "it knows none of them"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while True:
            for heir in heirs:
                try:
                    if not (await self.agent.compare(heir, COMPARE_SECONDS)).buckets_different:
                        return
                    trouble = f"{heir} still differs"
                except WriteRefused as refused:
                    trouble = refused.detail
            # Who has only just joined is not known to everybody yet.
            if loop.time() >= deadline:
                break
            await asyncio.sleep(LAST_LOOK_SECONDS)
        raise Refused(
            "not-drained",
            f"no peer has confirmed to hold all data of {self.agent.config.name}: {trouble}",
            "heal the network, or stop it without --remove",
        )

    async def stop(self, *, leave: bool) -> None:
        """End its API, then the agent."""
        await self._server.close()
        await self.agent.stop(leave=leave)

    # --- what can be seen -------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """The agent in a few figures."""
        agent, node = self.agent, self.agent.node
        state, transport = node.state, agent.transport.counters
        return {
            "name": agent.config.name,
            "region": agent.config.region,
            "ready": agent.ready,
            "origin": state.origin,
            "state_hash": f"{state.state_hash:016x}",
            "losses_hash": f"{state.losses_hash:016x}",
            "vector_hash": f"{state.vector.hash:016x}",
            "sequence": state.sequence,
            "leaves": state.leaf_count,
            "tombstones": state.tombstone_count,
            "held": state.held_count,
            "members_alive": len(node.membership.live()),
            "groups": [list(group) for group in node.regions.groups()],
            "degraded": node.parameters.degraded,
            "settings_version": node.parameters.version,
            "loop_lag_ms": round(agent.loop_lag_seconds * 1000, 3),
            "newest_trace": node.receipts.newest(),
            "counters": {
                **node.counters,
                "bytes_in": transport.bytes_in,
                "bytes_out": transport.bytes_out,
                "datagrams_in": transport.datagrams_in,
                "datagrams_out": transport.datagrams_out,
                **{f"dropped_{reason}": count for reason, count in transport.dropped.items()},
            },
        }

    def cut_report(self) -> dict[str, Any]:
        """What the agent drops at the moment, and when it noticed."""
        drops = self.agent.drops
        return {
            "name": self.agent.config.name,
            "region": self.agent.config.region,
            "inbound": sorted(drops.inbound),
            "outbound": sorted(drops.outbound),
            "dropped": self.agent.transport.counters.dropped.get("region", 0),
            "detected_ms": self.cuts.detected_ms,
            "healed_ms": self.cuts.healed_ms,
        }


def drop_list(drops: orders.Drops) -> DropList:
    """As the agent takes it."""
    return DropList(frozenset(drops.inbound), frozenset(drops.outbound), drops.until_ms)


def _config(
    order: orders.Start,
    common: orders.Configure,
    keys: list[bytes] | None,
    tokens: Tokens,
    api_port: int,
) -> AgentConfig:
    return AgentConfig(
        name=order.name,
        region=order.region,
        swarm=common.swarm,
        data_dir=Path(common.agents_dir) / order.name,
        keys=keys,
        host=common.host,
        gossip_port=order.gossip_port,
        api_host=common.host,
        api_port=api_port,
        tokens=tokens,
        seeds=[Seed(*seed) for seed in order.seeds],
        declared={**common.declared, order.name: order.region},
        settings=common.settings,
        labels=order.labels,
        datagram_limit=DATAGRAM_LIMIT,
        hooks=Path(common.hooks) if common.hooks else None,
        drop_inbound=order.drops.inbound,
        drop_outbound=order.drops.outbound,
        drop_expires_ms=order.drops.until_ms,
    )


def _bind_api(host: str, port: int, name: str) -> Any:
    try:
        return bind_api(host, port)
    except PortInUse as taken:
        _log.warning("takes another API port", extra={"agent": name, "detail": str(taken)})
        return bind_api(host)


async def _start_agent(config: AgentConfig, executor: Executor) -> Agent:
    try:
        return await Agent.start(config, executor=executor)
    except PortInUse as taken:
        if not config.gossip_port:
            raise
        # Peers know agents by name, so a new address is news and nothing more.
        _log.warning(
            "takes another gossip port", extra={"agent": config.name, "detail": str(taken)}
        )
        anew = msgspec.structs.replace(config, gossip_port=0)
        return await Agent.start(anew, executor=executor)


def _refusal(name: str, error: Exception) -> Refused:
    message = f"agent {name} cannot start: {error}"
    if isinstance(error, ConfigError):
        return Refused("invalid-config", message, status=2)
    if isinstance(error, DiskFull):
        return Refused("disk-full", message, "free some space; it is tried again by itself")
    if isinstance(error, JournalLocked):
        return Refused("journal-locked", message, "another process uses its data directory")
    if isinstance(error, JournalError):
        return Refused("journal", message, "check the owner and mode of its data directory")
    if isinstance(error, OSError) and error.errno in (23, 24):
        return Refused("too-many-files", message, "raise the limit on open files (ulimit -n)")
    return Refused("start-failed", message)

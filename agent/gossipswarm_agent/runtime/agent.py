"""One agent of a swarm: what everything outside the core and its machinery talks to."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import secrets
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from gossipswarm_agent.core.comparison import Report
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import (
    AwaitConvergence,
    Compare,
    Degrade,
    Leave,
    Mutation,
    PeerList,
    Release,
)
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.core.receipts import Convergence
from gossipswarm_agent.core.results import Reading, WriteResult
from gossipswarm_agent.project.projector import Projector
from gossipswarm_agent.runtime.clocks import read_clocks
from gossipswarm_agent.runtime.commits import AnyJournal, JournalStatus
from gossipswarm_agent.runtime.config import AgentConfig, Seed
from gossipswarm_agent.runtime.departure import Departure
from gossipswarm_agent.runtime.driver import Driver
from gossipswarm_agent.runtime.drops import CONFIGURED, DropList
from gossipswarm_agent.runtime.hooks import HookRunner
from gossipswarm_agent.runtime.hooks_file import load_hooks
from gossipswarm_agent.runtime.journal import JournalError, Recovery
from gossipswarm_agent.runtime.keys import KeyStore
from gossipswarm_agent.runtime.metrics import Metrics
from gossipswarm_agent.runtime.partitions import Partition, PartitionLog
from gossipswarm_agent.runtime.ports import GossipSockets, bind_gossip
from gossipswarm_agent.runtime.readiness import unreadiness
from gossipswarm_agent.runtime.records import Recorder
from gossipswarm_agent.runtime.seeds import SeedResolver
from gossipswarm_agent.runtime.starting import base_settings, open_journal, restored_node
from gossipswarm_agent.runtime.transport import Transport
from gossipswarm_agent.runtime.watch import Watcher, Watchers, covers
from gossipswarm_agent.runtime.writes import Writes

if TYPE_CHECKING:
    from gossipswarm_agent.edge.hub import Edges

Unsubscribe = Callable[[], None]

_log = logging.getLogger(__name__)


class Agent:
    """A running agent. Made by ``start``, given back by ``stop``; belongs to one event loop."""

    def __init__(
        self,
        config: AgentConfig,
        node: Node,
        keys: KeyStore,
        journal: AnyJournal,
        recovery: Recovery,
        rng: random.Random,
        executor: Executor | None,
    ) -> None:
        """Use ``start``."""
        self.config = config
        self.node = node
        started = read_clocks()
        self.started_ms = started.wall
        """Wall clock in milliseconds when this agent started."""
        self.started_mono = started.mono
        """The same moment in monotonic seconds."""
        self.recovery_summary = (recovery.torn_bytes, len(recovery.quarantined))
        """Bytes cut off a torn journal, and damaged files of it that were set aside."""
        self._journal = journal
        self._keys = keys
        self._rng = rng
        self._driver = Driver(node, journal, rng)
        self._driver.on_notify = self._announce
        # Not the incarnation: a restored disk may use one again, with other changes.
        stream = f"{self.started_ms:x}{secrets.token_hex(4)}"
        self._watchers = Watchers(stream, node.change, self._leaves)
        self.projector = Projector(config, node, executor)
        """Parts of the state that are kept as files."""
        self._driver.on_changed = self._note_changes
        self._subscribers: list[Callable[[Notify], None]] = []
        self._writes = Writes(self._driver)
        self.departure = Departure(node, self._driver, self._writes)
        """Whether this agent is on its way out."""
        self._declared = config.declared
        self._seeds: SeedResolver | None = None
        self._transport: Transport | None = None
        self._stopped = False
        self._recorder = Recorder(self)
        self.hooks: HookRunner | None = None
        """What an operator wants done on events; None = nothing."""
        self.metrics = Metrics(self)
        journal.on_fsync = self.metrics.fsync.observe
        node.receipts.on_converged = self.metrics.observe_convergence
        self._subscribers.append(self.metrics.observe_notice)
        self.partitions = PartitionLog(node, self._healed)
        """Partitions that this agent lived through."""
        self.edges: Edges | None = None
        """Edges that follow this agent; None = there was none yet."""

    # --- life -------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, config: AgentConfig, *, executor: Executor | None = None) -> Self:
        """Recover what the journal holds, listen, and look for the swarm.

        ``executor`` runs what blocks (two threads or more, may be shared by any number of agents); None is
        the event loop's own.

        Raises:
            ConfigError: the configuration cannot be used.
            JournalLocked: another agent uses the data directory.
            JournalError: the data directory cannot be used.
            PortInUse: another process has the port.
            OSError: the address cannot be listened on.
        """
        settings = base_settings(config)
        hooks = load_hooks(config.hooks) if config.hooks is not None else None
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as undo:
            journal, recovery = await loop.run_in_executor(executor, open_journal, config, executor)
            undo.push_async_callback(journal.close)
            keys = KeyStore(config)
            sockets = bind_gossip(config.host, config.gossip_port)
            undo.callback(sockets.close)
            rng = random.Random(secrets.randbits(64))
            restore = functools.partial(restored_node, config, settings, recovery, sockets, rng)
            node = await loop.run_in_executor(executor, restore)
            agent = cls(config, node, keys, journal, recovery, rng, executor)
            undo.push_async_callback(agent._driver.close)
            transport = agent._make_transport(sockets)
            undo.push_async_callback(transport.close)
            await transport.start()
            agent._begin(recovery)
            if hooks:
                agent.hooks = HookRunner(agent, hooks)
            await agent.set_peers(config.seeds, config.declared)
            agent.projector.start(lambda: agent._uncaught is None)
            undo.pop_all()
        _log.info(
            "agent started",
            extra={
                "agent": config.name,
                "region": config.region,
                "gossip": f"{config.host}:{sockets.port}",
                "leaves": node.state.leaf_count,
                "cut_off": sorted(transport.drops.inbound | transport.drops.outbound),
            },
        )
        return agent

    def _make_transport(self, sockets: GossipSockets) -> Transport:
        config = self.config
        transport = self._transport = Transport(
            sockets,
            (config.advertise or config.host, sockets.port),
            config.host,
            self._keys.keyring,
            self._driver.deliver,
            datagram_limit=sockets.largest_datagram(config.datagram_limit),
            rng=self._rng,
        )
        transport.region_of_address = self._region_of_address
        transport.region_of_member = self._region_of_member
        transport.reaching.name, transport.reaching.region = config.name, config.region
        both = frozenset(config.drop_regions)
        drops = DropList(
            both.union(config.drop_inbound),
            both.union(config.drop_outbound),
            config.drop_expires_ms,
            CONFIGURED if both or config.drop_inbound or config.drop_outbound else None,
        )
        transport.set_drops(drops, read_clocks().wall)
        return transport

    def _begin(self, recovery: Recovery) -> None:
        assert self._transport is not None
        self._apply_settings()
        self._driver.commits.append(self.node.state.identity_record(), None)
        if recovery.torn_bytes or recovery.quarantined:
            _log.warning(
                "the journal was damaged; peers make up for what is missing",
                extra={
                    "agent": self.config.name,
                    "torn_bytes": recovery.torn_bytes,
                    "set_aside": [str(found.path) for found in recovery.quarantined],
                },
            )
        if recovery.quarantined:
            self._driver.commits.start_snapshot()
        self._driver.start(self._transport)

    async def stop(self, *, leave: bool = True) -> None:
        """Say goodbye (``leave``), finish what is under way, and give back ports and directory."""
        if self._stopped:
            return
        self._stopped = True
        self.departure.close()
        if self.hooks is not None:
            await self.hooks.close()
        await self.projector.close()
        await self._recorder.close()
        if self._seeds is not None:
            await self._seeds.close()
        if leave:
            self._driver.handle_all((Leave(),))
        await self._watchers.close()
        self.partitions.close()
        await self._driver.close()
        if self._transport is not None:
            await self._transport.close()
        try:
            await self._journal.close()
        except JournalError as error:
            _log.error(
                "the journal is not complete",
                extra={"agent": self.config.name, "error": str(error)},
            )
        _log.info("agent stopped", extra={"agent": self.config.name})

    # --- state ------------------------------------------------------------------------------------

    async def write(
        self,
        mutations: Sequence[Mutation],
        *,
        traced: bool = False,
        system: bool = False,
        request_id: str | None = None,
    ) -> list[WriteResult]:
        """Apply all mutations or none, and return once they are as durable as the swarm asks for.

        Two calls with one ``request_id`` are one write, and both get its result; a refused one may be tried
        again. ``system`` writes are allowed under ``$`` and in degraded mode.

        Raises:
            WriteRefused: nothing was applied; its status and reason say why.
        """
        return await self._writes.write(mutations, traced, system, request_id)

    def read(self, key: str) -> Reading | None:
        """The visible value of a key; None if there is nothing at or below it."""
        return self.node.read(key)

    def list_keys(self, prefix: str, limit: int, after: str = "") -> list[str]:
        """Keys of visible leaves at and below a prefix that come after ``after``, in order."""
        return self.node.state.keys(prefix, limit, after)

    @property
    def degraded(self) -> bool:
        """Whether writes are refused here by order."""
        return self.node.parameters.degraded

    def watch(self, prefix: str, since: str | None) -> Watcher:
        """Changes at or below ``prefix`` from now on (None), or from the change with the id ``since`` on.

        Where that is too old, or of another agent, a Reset comes first and the whole state follows.
        Raises WriteRefused 429 if there are too many watchers.
        """
        return self._watchers.watch(prefix, since)

    def _leaves(self, prefix: str) -> list[str]:
        return [k for k in self.node.state.keys(prefix, sys.maxsize) if covers(prefix, k)]

    async def wait_converged(
        self, dot: str, threshold: float | None, seconds: float
    ) -> Convergence:
        """How far a traced write of this agent has come, once it reached the share or time is up.

        Raises WriteRefused 404 if this agent knows nothing of the write.
        """
        origin, _, digits = dot.rpartition(":")
        place = (origin, int(digits)) if digits.isascii() and digits.isdigit() else (dot, 0)
        known = self.node.receipts.report(place, threshold)
        if known is None:
            raise WriteRefused(
                404,
                "unknown-write",
                f"{dot!r} is no recent traced write of agent {self.config.name}; ask its origin",
            )
        if known.converged:
            return known
        token = self._driver.new_token()
        reply: asyncio.Future[Convergence] = self._driver.expect(token)
        self._driver.handle(AwaitConvergence(token, place, threshold))
        try:
            async with asyncio.timeout(seconds):
                return await reply
        except TimeoutError:
            return self.node.receipts.report(place, threshold) or known
        finally:
            self._driver.forget(token)
            self.node.receipts.cancel(token)

    async def compare(self, peer: str | None, seconds: float = 15.0) -> Report:
        """Compare everything with this peer (None: a random one) now, and repair what differs.

        Raises:
            WriteRefused: 404 no such live peer; 504 it did not answer in time.
        """
        try:
            async with asyncio.timeout(seconds):
                report: Report = await self._driver.request(lambda token: Compare(token, peer))
                return report
        except LookupError as error:
            raise WriteRefused(404, "no-peer", str(error)) from None
        except TimeoutError as error:
            detail = str(error) or f"no answer within {seconds:g} s"
            raise WriteRefused(504, "not-compared", detail, 1.0) from None

    # --- peers ------------------------------------------------------------------------------------

    @property
    def gossip_address(self) -> str:
        """``host:port`` where peers reach this agent, over UDP and TCP."""
        host, port = self.node.identity.host, self.node.identity.port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def ready(self) -> bool:
        """Whether clients should be sent here."""
        return self.unreadiness is None

    @property
    def unreadiness(self) -> str | None:
        """Why this agent is not ready, in words; None = it is."""
        return self._uncaught or self.projector.unreadiness

    @property
    def _uncaught(self) -> str | None:
        return unreadiness(self, self._declared)

    async def set_peers(self, seeds: Sequence[Seed], declared: dict[str, str] | None) -> None:
        """Where to look for the swarm from now on, and who ought to be in it."""
        former = self._seeds
        if former is not None:
            await former.close()
        self._declared = declared
        self._seeds = SeedResolver(seeds, self._found_seeds, self._rng, former=former)
        await self._seeds.start()

    def _found_seeds(self, addresses: tuple[Address, ...]) -> None:
        self._driver.handle_all((PeerList(addresses, self._declared),))

    @property
    def seed_failures(self) -> int:
        """Attempts to resolve a seed's name that failed."""
        return 0 if self._seeds is None else self._seeds.failures

    def _region_of_address(self, address: Address) -> str | None:
        known = self.node.membership.region_of_address(address)
        if known is None and self._seeds is not None:
            return self._seeds.regions.get(address)
        return known

    def _region_of_member(self, name: str) -> str | None:
        member = self.node.membership.members.get(name)
        return None if member is None else member.region

    @property
    def drops(self) -> DropList:
        """Regions that this agent is cut off from on purpose."""
        return self.transport.drops

    def set_drops(self, drops: DropList) -> None:
        """Cut this agent off from regions, in place of what it was cut off from before."""
        self.transport.set_drops(drops, read_clocks().wall)

    def reset_peers(self) -> int:
        """Make the network judge every flow afresh: a new source port, and all streams closed; how many."""
        return self.transport.reset_peers()

    @property
    def transport(self) -> Transport:
        """How this agent reaches its peers."""
        assert self._transport is not None
        return self._transport

    # --- keys, modes ------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Ids of the keys in use, the one that seals first; empty = no encryption."""
        return self._keys.ids() if self._keys.keyring.encrypted else []

    def install_key(self, key: str) -> str:
        """Accept frames under this key (32 bytes in base64) as well; its id. Raises KeyringError."""
        return self._keys.install(key)

    def use_key(self, name: str) -> None:
        """Seal under this key from now on. Raises KeyringError."""
        self._keys.use(name)

    def remove_key(self, name: str) -> None:
        """Refuse frames under this key from now on. Raises KeyringError."""
        self._keys.remove(name)

    async def release_held(self) -> list[str]:
        """Let the regions merge that wait for an operator (``healing_strategy: manual``); their names."""
        released: list[str] = await self._driver.request(Release)
        return released

    def degrade(self, enabled: bool) -> None:
        """Make this agent alone read-only, or writable again."""
        self._driver.handle(Degrade(enabled))

    # --- what happens -----------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[Notify], None]) -> Unsubscribe:
        """Tell ``callback`` of everything notable, on the event loop, soon after it happened."""
        self._subscribers.append(callback)
        return functools.partial(self._unsubscribe, callback)

    def _unsubscribe(self, callback: Callable[[Notify], None]) -> None:
        if callback in self._subscribers:
            self._subscribers.remove(callback)

    def _note_changes(self, keys: tuple[str, ...]) -> None:
        self.partitions.note_changes(keys)
        self._watchers.publish(keys)
        self.projector.changed(keys)
        self._recorder.changed(keys)

    def _announce(self, notice: Notify) -> None:
        self.partitions.observe(notice)
        if notice.event == "settings":
            self._apply_settings()
        elif notice.event == "region-cut":
            self._disconnect(notice.detail["a"], notice.detail["b"])
        # Not within the handling of an event: whoever listens may write, and must not do harm by failing.
        loop = asyncio.get_running_loop()
        for callback in self._subscribers:
            loop.call_soon(callback, notice)

    def _disconnect(self, one: str, other: str) -> None:
        home = self.config.region
        if home in (one, other):
            self.transport.disconnect(other if home == one else one)

    def _healed(self, partition: Partition) -> None:
        if partition.healing_ms is not None:
            self.metrics.healing.observe(partition.healing_ms / 1000)
        self._recorder.healed(partition)

    def _apply_settings(self) -> None:
        if self._transport is not None:
            self._transport.compresses = self.node.settings.compression != "none"

    # --- how it is doing --------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """What runs the core, for its figures."""
        return self._driver

    @property
    def watchers(self) -> Watchers:
        """Who watches, for the figures."""
        return self._watchers

    @property
    def loop_lag_seconds(self) -> float:
        """By how much the last tick came late."""
        return self._driver.lag

    @property
    def journal_status(self) -> JournalStatus:
        """How the journal is doing."""
        return self._driver.commits.status()

    @property
    def journal(self) -> AnyJournal:
        """The journal, for its figures."""
        return self._journal

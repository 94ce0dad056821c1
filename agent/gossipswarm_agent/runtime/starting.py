"""What an agent has before it runs: its parameters, its journal and, from that, its core."""

from __future__ import annotations

import random
import time
from concurrent.futures import Executor

from gossipswarm_agent.core.identity import NodeIdentity
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.core.settings import DEFAULTS, InvalidSetting, Settings, merge
from gossipswarm_agent.runtime.clocks import read_clocks
from gossipswarm_agent.runtime.commits import AnyJournal
from gossipswarm_agent.runtime.config import AgentConfig, ConfigError
from gossipswarm_agent.runtime.journal import Journal, JournalError, MemoryJournal, Recovery
from gossipswarm_agent.runtime.ports import GossipSockets
from gossipswarm_agent.runtime.transport import ENVELOPE_BYTES


def base_settings(config: AgentConfig) -> Settings:
    """Defaults with the configured parameters. Raises ConfigError naming the parameter."""
    try:
        return merge(DEFAULTS, config.settings)
    except InvalidSetting as error:
        raise ConfigError(f"settings: {error}") from None


def open_journal(config: AgentConfig, executor: Executor | None) -> tuple[AnyJournal, Recovery]:
    """The journal in the data directory, or one that keeps nothing. Blocks; raises JournalError."""
    if config.data_dir is None:
        return MemoryJournal.open()
    return Journal.open(config.data_dir / "journal", executor=executor)


def restored_node(
    config: AgentConfig,
    settings: Settings,
    recovery: Recovery,
    sockets: GossipSockets,
    rng: random.Random,
) -> Node:
    """The core, with what the journal held. Takes a while; raises JournalError.

    The records of ``recovery`` are used up.
    """
    host = config.advertise or config.host
    identity = NodeIdentity(
        name=config.name,
        region=config.region,
        host=host,
        port=sockets.port,
        api=f"{host}:{config.api_port}" if config.api_port else "",
        labels=config.labels,
        # Unique without a memory: no two starts of one name without a journal fall into one millisecond.
        origin=f"{config.name}/{time.time_ns() // 1_000_000}",
        datagram_limit=sockets.largest_datagram(config.datagram_limit) - ENVELOPE_BYTES,
    )
    node = Node(identity, settings, rng.getrandbits(64), read_clocks())
    try:
        node.restore(recovery.records, damaged=bool(recovery.quarantined))
    except ValueError as error:
        raise JournalError(
            f"the journal in {config.data_dir} holds what this version cannot read: {error}; start "
            "the version that wrote it, or remove the directory to fetch everything from peers"
        ) from error
    recovery.records.clear()
    return node

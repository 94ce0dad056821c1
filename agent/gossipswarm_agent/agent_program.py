"""What ``gossipswarm-agent`` does in the role of an agent."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from gossipswarm_agent.api.server import Server
from gossipswarm_agent.hosting import follow_until, reload, serving
from gossipswarm_agent.listening import Failure, Stamps, changes, listen, stamps, stop_signal, tls
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options
from gossipswarm_agent.runtime.drops import CONFIGURED
from gossipswarm_agent.runtime.journal import JournalError

_LIVE: Final = ("seeds", "declared", "read_token_file", "write_token_file", "cut_file")
"""Options that a running agent takes over."""

_log = logging.getLogger(__name__)


async def run_agent(options: Options, path: Path | None) -> None:
    """Be an agent until the process is told to end. ``path`` is the file that some options came from.

    Raises:
        ConfigError: the options are of no use.
        Failure, OSError: it cannot run.
    """
    try:
        await _run(options, path)
    except JournalError as error:
        raise Failure(str(error)) from None


async def _run(options: Options, path: Path | None) -> None:
    stopping = stop_signal()
    async with AsyncExitStack() as undo:
        bound = listen(options)
        undo.callback(bound.close)
        config = configuration.agent_config(options, bound.getsockname()[1])
        context = tls(options)
        agent = await Agent.start(config)
        undo.push_async_callback(agent.stop)
        server = await undo.enter_async_context(
            serving(agent, options, bound, config.tokens, context)
        )
        await follow_until(stopping, _follow(path, options, agent, server), context, options)
        # The API serves on meanwhile: who has not heard yet that this agent goes is told to ask another.
        await agent.departure.leave()


async def _follow(path: Path | None, options: Options, agent: Agent, server: Server) -> None:
    """Take seeds, declared members and tokens over whenever the files change that they stand in."""
    known, tokens = options, agent.config.tokens

    def look() -> Stamps:
        # By the options in force: they say in which files tokens and the cut stand.
        return stamps((path, known.read_token_file, known.write_token_file, known.cut_file))

    async for _ in changes(look):
        try:
            latest = reload(options, _LIVE)
            seeds = configuration.parse_seeds(latest.seeds)
            renewed = configuration.read_tokens(latest)
            cut = configuration.born_into(latest)
        except ConfigError as error:
            _log.error("the changed configuration is of no use", extra={"error": str(error)})
            continue
        if (latest.seeds, latest.declared) != (known.seeds, known.declared):
            await agent.set_peers(seeds, latest.declared)
            _log.info("peers as configured", extra={"seeds": latest.seeds})
        # What it was born into may be lifted here as well; a running agent is cut off by those who ask it.
        left = agent.drops.within(cut.regions, cut.until_ms)
        if agent.drops.by == CONFIGURED and left != agent.drops:
            agent.set_drops(left)
            _log.info("cut off as configured", extra={"regions": sorted(left.inbound)})
        if renewed != tokens:
            server.set_tokens(renewed)
            _log.info("tokens as configured")
        known, tokens = latest, renewed

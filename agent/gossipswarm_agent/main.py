"""``gossipswarm-agent``: one agent, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop

from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options
from gossipswarm_agent.runtime.drops import CONFIGURED
from gossipswarm_agent.runtime.journal import JournalError
from gossipswarm_agent.runtime.logs import log_to_stderr
from gossipswarm_agent.runtime.ports import bind_api

RELOAD_SECONDS: Final = 5.0
"""Between two looks at whether the configuration file has changed."""
FAILED, MISUSED = 1, 2

_log = logging.getLogger(__name__)


def run() -> None:
    """Run one agent; the process exits with 0, 1 (it failed) or 2 (it was told nonsense)."""
    faulthandler.enable()
    try:
        options, path = configuration.load(sys.argv[1:], os.environ)
        log_to_stderr(options.log_format, options.log_level)
        uvloop.run(_serve(options, path))
    except ConfigError as error:
        print(f"gossipswarm-agent: {error}", file=sys.stderr)
        sys.exit(MISUSED)
    except (JournalError, OSError) as error:
        print(f"gossipswarm-agent: {error}", file=sys.stderr)
        sys.exit(FAILED)


async def _serve(options: Options, path: Path | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as undo:
        bound = bind_api(options.api_host or options.host, options.api_port)
        undo.callback(bound.close)
        config = configuration.agent_config(options, bound.getsockname()[1])
        tls = _tls(options)
        agent = await Agent.start(config)
        undo.push_async_callback(agent.stop)
        server = await serve(agent, sockets=[bound], tokens=config.tokens, tls=tls)
        undo.push_async_callback(server.close)
        if options.local_api_port is not None:
            local = await serve(agent, sockets=[_bind_local(options.local_api_port)])
            undo.push_async_callback(local.close)
        # What is there now lives as long as the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(
                _follow(path, options, agent, server), name="configuration"
            )
            await stopping.wait()
            _log.info("stopping", extra={"agent": config.name})
            follower.cancel()
        # The API serves on meanwhile: who has not heard yet that this agent goes is told to ask another.
        await agent.departure.leave()


def _bind_local(port: int) -> socket.socket:
    return bind_api("127.0.0.1", port)


def _tls(options: Options) -> ssl.SSLContext | None:
    if options.tls_certificate is None and options.tls_key is None:
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise ConfigError("tls_certificate and tls_key go together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use the certificate {options.tls_certificate}: {error}"
        ) from None
    return context


async def _follow(path: Path | None, options: Options, agent: Agent, server: Server) -> None:
    """Take seeds, declared members and tokens over whenever the files change that they stand in."""
    known, tokens = options, agent.config.tokens
    seen = _stamps(path, known)
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        stamps = _stamps(path, known)
        if stamps == seen:
            continue
        seen = stamps
        try:
            latest, _ = configuration.load(sys.argv[1:], os.environ)
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


def _stamps(path: Path | None, options: Options) -> list[tuple[int, int] | None]:
    files = (path, options.read_token_file, options.write_token_file, options.cut_file)
    return [None if file is None else _stamp(Path(file)) for file in files]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino

"""What ``gossipswarm-agent`` does in the role of an edge."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack

from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.edge.config import edge_config
from gossipswarm_agent.edge.edge import Edge
from gossipswarm_agent.edge.serving import table
from gossipswarm_agent.listening import (
    changes,
    follow_certificate,
    listen,
    listen_locally,
    stamps,
    stop_signal,
    tls,
)
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options, read_tokens

_log = logging.getLogger(__name__)


async def run_edge(options: Options) -> None:
    """Be an edge until the process is told to end.

    Raises:
        ConfigError: the options are of no use.
        OSError: the address of the API cannot be listened on.
    """
    stopping = stop_signal()
    async with AsyncExitStack() as undo:
        bound = listen(options)
        undo.callback(bound.close)
        host, port = bound.getsockname()[:2]
        config = edge_config(options, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        context = tls(options)
        edge = await Edge.start(config)
        undo.push_async_callback(edge.stop)
        server = await serve(
            edge, sockets=[bound], table=table(), tokens=config.tokens, tls=context
        )
        undo.push_async_callback(server.close)
        if options.local_api_port is not None:
            socket = listen_locally(options.local_api_port)
            local = await serve(edge, sockets=[socket], table=table())
            undo.push_async_callback(local.close)
        # What is there now lives as long as the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(_follow_tokens(options, server), name="tokens")
            renewing = tasks.create_task(follow_certificate(context, options), name="certificate")
            await stopping.wait()
            _log.info("stopping", extra={"edge": config.name})
            follower.cancel()
            renewing.cancel()


async def _follow_tokens(options: Options, server: Server) -> None:
    """Ask callers for other tokens whenever the files change that they stand in."""
    files = (options.read_token_file, options.write_token_file)
    async for _ in changes(lambda: stamps(files)):
        try:
            server.set_tokens(read_tokens(options))
        except ConfigError as error:
            _log.error("the changed tokens are of no use", extra={"error": str(error)})
        else:
            _log.info("tokens as configured")

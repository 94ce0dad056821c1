"""What the programs of agents and of edges do alike: serve an API, and follow what changes around them until they are told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

from gossipswarm_agent.api.holder import Holder
from gossipswarm_agent.api.operations import Table
from gossipswarm_agent.api.server import Server, serve
from gossipswarm_agent.listening import follow_certificate, listen_locally
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.config import Tokens
from gossipswarm_agent.runtime.configuration import Options

_log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(
    holder: Holder,
    options: Options,
    bound: socket.socket,
    tokens: Tokens | None,
    context: ssl.SSLContext | None,
    table: Table | None = None,
) -> AsyncIterator[Server]:
    """Serve the API of an agent, or with a table of its own of an edge, where its options say. Yields the server that asks for
    tokens. Raises OSError.
    """
    async with AsyncExitStack() as undo:
        server = await serve(holder, sockets=[bound], table=table, tokens=tokens, tls=context)
        undo.push_async_callback(server.close)
        if options.local_api_port is not None:
            inside = listen_locally(options.local_api_port)
            local = await serve(holder, sockets=[inside], table=table)
            undo.push_async_callback(local.close)
        # What is there now lives as long as the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        yield server


async def follow_until(
    stopping: asyncio.Event,
    follower: Coroutine[None, None, None],
    context: ssl.SSLContext | None,
    options: Options,
) -> None:
    """Run ``follower`` and renew the certificate until it is time to stop."""
    async with asyncio.TaskGroup() as tasks:
        following = [
            tasks.create_task(follower, name="configuration"),
            tasks.create_task(follow_certificate(context, options), name="certificate"),
        ]
        await stopping.wait()
        _log.info("stopping")
        for task in following:
            task.cancel()


def reload(started: Options, live: Collection[str]) -> Options:
    """The options as they are told now. What differs from those that the program started with and is not among those that it takes
    over ``live`` is said in the log. Raises ConfigError.
    """
    latest, _ = configuration.load(sys.argv[1:], os.environ)
    waiting = [
        name
        for name in Options.__struct_fields__
        if name not in live and getattr(latest, name) != getattr(started, name)
    ]
    if waiting:
        _log.warning("changed options take a restart", extra={"options": waiting})
    return latest

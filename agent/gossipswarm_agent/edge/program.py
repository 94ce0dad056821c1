"""What ``gossipswarm-agent`` does in the role of an edge."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from gossipswarm_agent.api.server import Server
from gossipswarm_agent.edge.config import edge_config
from gossipswarm_agent.edge.edge import Edge
from gossipswarm_agent.edge.serving import table
from gossipswarm_agent.hosting import follow_until, reload, serving
from gossipswarm_agent.listening import Stamps, changes, listen, stamps, stop_signal, tls
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options, read_tokens

_LIVE: Final = ("read_token_file", "write_token_file")
"""Options that a running edge takes over."""

_log = logging.getLogger(__name__)


async def run_edge(options: Options, path: Path | None) -> None:
    """Be an edge until the process is told to end. ``path`` is the file that some options came from.

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
        server = await undo.enter_async_context(
            serving(edge, options, bound, config.tokens, context, table())
        )
        await follow_until(stopping, _follow(path, options, edge, server), context, options)


async def _follow(path: Path | None, options: Options, edge: Edge, server: Server) -> None:
    """Ask callers for other tokens whenever the files change that they stand in."""
    known, tokens = options, edge.config.tokens

    def look() -> Stamps:
        return stamps((path, known.read_token_file, known.write_token_file))

    async for _ in changes(look):
        try:
            latest = reload(options, _LIVE)
            renewed = read_tokens(latest)
        except ConfigError as error:
            _log.error("the changed configuration is of no use", extra={"error": str(error)})
            continue
        if renewed != tokens:
            server.set_tokens(renewed)
            _log.info("tokens as configured")
        known, tokens = latest, renewed

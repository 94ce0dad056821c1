"""``gossipswarm-agent``: one agent or one edge, until SIGTERM or SIGINT."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Coroutine
from pathlib import Path

import uvloop

from gossipswarm_agent.listening import Failure
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options
from gossipswarm_agent.runtime.logs import log_to_stderr

FAILED, MISUSED = 1, 2


def run() -> None:
    """Run it; the process exits with 0, 1 (it failed) or 2 (it was told nonsense)."""
    faulthandler.enable()
    try:
        options, path = configuration.load(sys.argv[1:], os.environ)
        log_to_stderr(options.log_format, options.log_level)
        uvloop.run(_in_role(options, path))
    except ConfigError as error:
        print(f"gossipswarm-agent: {error}", file=sys.stderr)
        sys.exit(MISUSED)
    except (Failure, OSError) as error:
        print(f"gossipswarm-agent: {error}", file=sys.stderr)
        sys.exit(FAILED)


def _in_role(options: Options, path: Path | None) -> Coroutine[None, None, None]:
    # Neither pays for what only the other one needs.
    if options.role == "edge":
        from gossipswarm_agent.edge.program import run_edge  # noqa: PLC0415

        return run_edge(options, path)
    from gossipswarm_agent.agent_program import run_agent  # noqa: PLC0415

    return run_agent(options, path)

"""A worker's log: JSON lines in a file that is rotated, each with the name of the agent it is about."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from gossipswarm_agent.runtime.logs import JsonLines

FILE_BYTES: Final = 4 << 20
FILES_KEPT: Final = 3


def log_to(path: Path) -> None:
    """Send everything this process logs to ``path``."""
    handler = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
    handler.setFormatter(JsonLines())
    logging.raiseExceptions = False  # a full disk must not make noise of its own
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

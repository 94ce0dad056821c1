"""Logs as JSON lines for machines or as text for people. Whatever a record has in ``extra`` stands beside it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, Literal

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOISE: Final = ("kopf", "aiohttp.access", "kubernetes")


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, whatever ``extra`` holds, error."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        line.pop("settings", None)  # kopf attaches its own, whole
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(form: Literal["json", "console"], level: str) -> None:
    """Send what this process logs to standard error; kopf only from warnings on, unless everything is wanted."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NOISE:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")

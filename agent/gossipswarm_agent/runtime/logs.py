"""Logs as JSON lines for machines or as text for people. Whatever a record has in ``extra`` stands beside it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, Literal

Format = Literal["json", "console"]

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _time_of(record: logging.LogRecord) -> str:
    milliseconds = int(record.created * 1000)
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{seconds}.{milliseconds % 1000:03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _ORDINARY}


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, whatever ``extra`` holds, error."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _extra(record)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleLines(logging.Formatter):
    """Time, level, message, and ``name=value`` of whatever ``extra`` holds."""

    def format(self, record: logging.LogRecord) -> str:
        clock = _time_of(record)[11:-1]
        facts = "".join(f"  {name}={value}" for name, value in _extra(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.getMessage()}{facts}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def log_to_stderr(form: Format, level: str) -> None:
    """Send what this process logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else ConsoleLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)

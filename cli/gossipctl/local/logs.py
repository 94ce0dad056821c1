"""Logs: JSON lines in rotated files, one file a process, read back by agent, worker or supervisor."""

from __future__ import annotations

import heapq
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from gossipctl.local.spec import timestamp

FILE_BYTES: Final = 4 << 20
FILES_KEPT: Final = 3
SUPERVISOR: Final = "supervisor"


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": timestamp(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_to(path: Path) -> None:
    """Send everything this process logs to ``path``."""
    handler = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
    handler.setFormatter(JsonLines())
    logging.raiseExceptions = False  # a full disk must not make noise of its own
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class LogReader:
    """Lines of one process, of one agent, or of all."""

    def __init__(self, directory: Path, name: str | None, *, is_process: bool) -> None:
        self._directory = directory
        self._pattern = f"{name}.log" if name and is_process else "*.log"
        self._agent = None if is_process else name
        self._positions: dict[str, tuple[int, int]] = {}

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last lines, oldest first."""
        by_file = []
        for path in self._files():
            kept: deque[dict[str, Any]] = deque(maxlen=count)
            for number in range(FILES_KEPT, 0, -1):
                kept += self._read(path.with_name(f"{path.name}.{number}"), path.stem)
            kept += self._read(path, path.stem)
            by_file.append(kept)
        return list(heapq.merge(*by_file, key=_time))[-count:]

    def new(self) -> list[dict[str, Any]]:
        """Lines that came since ``last`` or ``new``, oldest first."""
        return list(
            heapq.merge(*(list(self._read(path, path.stem)) for path in self._files()), key=_time)
        )

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(self._pattern))

    def _read(self, path: Path, source: str) -> Iterator[dict[str, Any]]:
        """Whole lines from where the last reading of this file ended; from its start once it was rotated."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            inode = os.fstat(file.fileno()).st_ino
            before, position = self._positions.get(path.name, (inode, 0))
            position = position if before == inode else 0
            file.seek(position)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # being written
                position += len(raw)
                line = self._parse(raw)
                if line is not None:
                    yield {**line, "source": source}
            self._positions[path.name] = (inode, position)

    def _parse(self, raw: bytes) -> dict[str, Any] | None:
        # A line of an agent holds its name in quotes, which is cheaper to look for than to parse.
        if self._agent is not None and f'"{self._agent}"'.encode() not in raw:
            return None
        try:
            line = json.loads(raw)
        except ValueError:
            return None
        wanted = isinstance(line, dict) and self._agent in (None, line.get("agent"))
        return line if wanted else None


def _time(line: dict[str, Any]) -> str:
    return str(line.get("time", ""))

"""Progress on stderr, for what takes longer than a second; nothing where stderr is not a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

QUIET_SECONDS = 0.8
REFRESH_SECONDS = 0.1
BAR_WIDTH = 30
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Waiting:
    """A spinner with a text and the time so far. Shows up only when the work takes a while."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _run(self) -> None:
        wait = QUIET_SECONDS
        turn = 0
        while not self._ended.wait(wait):
            wait = REFRESH_SECONDS
            self._shown = True
            turn += 1
            sys.stderr.write(f"\r\x1b[K{SPINNER[turn % len(SPINNER)]} {self.drawn()}")
            sys.stderr.flush()

    def drawn(self) -> str:
        """What stands behind the spinner."""
        return f"{self.text}  {time.monotonic() - self._started:.0f}s"


class Progress(Waiting):
    """A bar of ``total`` steps."""

    def __init__(self, text: str, total: int) -> None:
        super().__init__(text)
        self.total = max(total, 1)
        self.done = 0

    def advance(self, steps: int = 1) -> None:
        """Some more steps are done."""
        self.done = min(self.total, self.done + steps)

    def drawn(self) -> str:
        """Text, bar, numbers and time."""
        full = BAR_WIDTH * self.done // self.total
        bar = "━" * full + "╌" * (BAR_WIDTH - full)
        seconds = time.monotonic() - self._started
        return f"{self.text}  {bar}  {self.done}/{self.total}  {seconds:.0f}s"

"""A terminal of our own, to see what a person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from command_line import GOSSIPCTL

SECONDS = 120
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """gossipctl in a pseudo-terminal."""

    def __init__(
        self, environment: Mapping[str, str], *arguments: str, columns: int = 100, rows: int = 40
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            [Path(GOSSIPCTL), *arguments],
            env={**environment, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""

    @property
    def text(self) -> str:
        """Everything shown so far, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def until(self, text: str) -> None:
        """Read on until this was shown."""
        deadline = time.monotonic() + SECONDS
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} does not come: {self.text}"
            assert self._read(0.5) is not None, f"{text!r} did not come: {self.text}"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does in a shell."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(0.5) is not None:
            assert time.monotonic() < deadline, f"it does not end: {self.text}"
        os.close(self._ours)
        return self._process.wait(SECONDS)

    def _read(self, seconds: float) -> str | None:
        """What was shown within this time; None at the end."""
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return ""
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:
            return None
        self.raw += data.decode(errors="replace")
        return data.decode(errors="replace") or None

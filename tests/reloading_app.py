"""An application that reloads: it prints a line for each signal and each POST that it gets.

``python reloading_app.py PIDFILE [ANSWER...]`` answers POSTs with these statuses in turn, the last one for ever; its first line
is the port that it listens on.
"""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType


def say(line: str) -> None:
    """Print at once; a signal may come in the middle of another line, so not by ``print``."""
    os.write(1, f"{line}\n".encode())


def on_signal(number: int, _: FrameType | None) -> None:
    """Say which it was."""
    say(f"signal {signal.Signals(number).name}")


class Handler(BaseHTTPRequestHandler):
    """Prints what is posted."""

    answers = [int(status) for status in sys.argv[2:]] or [204]

    def do_POST(self) -> None:
        """Print the body and answer the next status."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        say(f"post {self.path} {body}")
        self.send_response(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing else."""


def main() -> None:
    """Serve until killed."""
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, on_signal)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    Path(sys.argv[1]).write_text(f"{os.getpid()}\n")
    say(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main()

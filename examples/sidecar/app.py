"""A shop with feature flags in a file: it shows them, reloads them, and remembers when it first saw each release.

    FLAGS=/config/flags.json,/configmap/flags.json PORT=8080 python app.py

Only the standard library: this is the application, and knows nothing of who writes its files.

    GET  /         what a customer sees
    GET  /seen     when each release was first seen in each file, in seconds of the wall clock
    POST /reload   read the files again now
"""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.02
"""Between two looks at the files: what nobody tells of is seen this much later, at most."""


class Flags:
    """The flags in one file, as they were read last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.seen: dict[str, float] = {}
        """Release to when it was first seen."""
        self._stamp: tuple[int, int] | None = None
        self._trouble = ""
        self._lock = threading.Lock()

    def look(self) -> None:
        """Read the file if it is another one than before."""
        with self._lock:
            try:
                status = self.path.stat()
                stamp = status.st_ino, status.st_mtime_ns
                if stamp == self._stamp:
                    return
                self.values = json.loads(self.path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                # The last flags stay: a shop does not close because of its configuration.
                if str(error) != self._trouble:
                    print(error, flush=True)
                self._trouble = str(error)
                return
            self._stamp = stamp
            release = str(self.values.get("release", ""))
            if release not in self.seen:
                self.seen[release] = time.time()


class Shop(ThreadingHTTPServer):
    """The shop, and what it reads."""

    daemon_threads = True

    def __init__(self, port: int, files: list[Flags]) -> None:
        super().__init__(("", port), Request)
        self.files = files

    def look(self) -> None:
        """Look at all files."""
        for each in self.files:
            each.look()

    def keep_looking(self) -> None:
        """Look at the files for ever."""
        while True:
            self.look()
            time.sleep(LOOK_SECONDS)


class Request(BaseHTTPRequestHandler):
    """One request."""

    server: Shop

    def do_GET(self) -> None:
        """A page for customers, or what the shop has seen."""
        if self.path == "/":
            flags = self.server.files[0].values
            page = "new" if flags.get("new_checkout") else "old"
            self._answer(200, {"checkout": page, "flags": flags})
        elif self.path == "/seen":
            self._answer(200, {str(each.path): each.seen for each in self.server.files})
        else:
            self._answer(404, {"error": f"there is no {self.path}"})

    def do_POST(self) -> None:
        """Read the files now."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/reload":
            self._answer(404, {"error": f"there is no {self.path}"})
            return
        self.server.look()
        self._answer(200, {"release": self.server.files[0].values.get("release")})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of every request."""


def main() -> None:
    """Serve until killed."""
    files = [Flags(Path(path)) for path in os.environ["FLAGS"].split(",")]
    shop = Shop(int(os.environ.get("PORT", "8080")), files)
    # Before there is another thread: two that print at once share their lines.
    print(f"listening on {shop.server_port}", flush=True)
    threading.Thread(target=shop.keep_looking, daemon=True).start()
    shop.serve_forever()


if __name__ == "__main__":
    main()

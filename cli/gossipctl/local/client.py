"""Client of local swarms, for the CLI: plain blocking sockets and JSON, nothing slow to import.

    swarm = LocalSwarm(None)                      # the selected swarm
    swarm.request("spawn", name="a-1", region="us-east")
    for line in swarm.stream("spawn", region="us-east", count=50): ...

Operations, their arguments and results are described in ``operations``. Every failure is a LocalError.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from gossipctl.local.errors import UNREACHABLE, USAGE, LocalError, storage_error, unknown
from gossipctl.local.layout import Layout, is_locked, state_root

REQUEST_SECONDS: Final = 120.0
EXIT_SECONDS: Final = 20.0

_SLICE: Final = 1 << 16


def names() -> list[str]:
    """Names of all local swarms, running or not."""
    try:
        return sorted(
            entry.name for entry in state_root().iterdir() if (entry / "spec.json").is_file()
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error("read the state directory", error) from None


def list_swarms() -> list[dict[str, Any]]:
    """Every local swarm: name, status (running or down), regions, agents, created_at, selected."""
    selected = _selected(names())
    swarms = []
    for name in names():
        layout = Layout(name)
        try:
            spec = json.loads(layout.spec.read_bytes())
        except (OSError, ValueError):
            spec = {}
        swarms.append(
            {
                "name": name,
                "status": "running" if is_locked(layout.lock) else "down",
                "regions": spec.get("regions", []),
                "agents": len(spec.get("agents", {})),
                "created_at": spec.get("created_at"),
                "selected": name == selected,
            }
        )
    return swarms


def _selected(known: list[str]) -> str | None:
    wanted = os.environ.get("GOSSIPSWARM_SWARM")
    if wanted:
        return wanted
    try:
        current = (state_root() / "current").read_text().strip()
    except OSError:
        current = ""
    if current in known:
        return current
    return known[0] if len(known) == 1 else None


def select(name: str | None = None) -> str:
    """Name of the swarm to use: the one named, $GOSSIPSWARM_SWARM, the last initialised, the only one.

    Raises:
        LocalError: there is none, or there are several and none is selected (exit 2).
    """
    known = names()
    chosen = name or _selected(known)
    if chosen is None:
        if known:
            raise LocalError(
                "no-swarm-selected",
                f"there are {len(known)} local swarms: {', '.join(known)}",
                "name one with --swarm or GOSSIPSWARM_SWARM",
                USAGE,
            )
        raise LocalError(
            "no-swarm", "there is no local swarm", "make one with: gossipctl swarm init", USAGE
        )
    if chosen not in known:
        raise unknown("swarm", chosen, known)
    return chosen


def has_swarm() -> bool:
    """Whether a local swarm is selected: what makes ``local`` the default backend."""
    return _selected(names()) is not None


def make_current(name: str | None) -> None:
    """Select ``name`` for later commands; None selects none."""
    path = state_root() / "current"
    try:
        if name is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_name(f"current.{os.getpid()}")
        draft.write_text(name + "\n")
        draft.replace(path)
    except OSError as error:
        raise storage_error("select the swarm", error) from None


class LocalSwarm:
    """One local swarm. Connects on first use; not for use from several threads."""

    def __init__(self, name: str | None = None) -> None:
        self.name = select(name)
        self.layout = Layout(self.name)
        self._socket: socket.socket | None = None
        self._buffer = b""

    # --- requests ---------------------------------------------------------------------------------

    def request(self, op: str, /, timeout: float = REQUEST_SECONDS, **arguments: Any) -> Any:
        """The result of one operation. ``timeout`` in seconds."""
        self._send({"op": op, **arguments}, timeout)
        return unwrap(self._line(timeout))

    def stream(
        self, op: str, /, timeout: float = REQUEST_SECONDS, **arguments: Any
    ) -> Iterator[dict[str, Any]]:
        """Lines of an operation as they come, the last one ``{"done": true, "result": ...}``.

        ``timeout`` is the longest wait for one line in seconds; 0 = for ever.
        """
        self._send({"op": op, "stream": True, **arguments}, timeout)
        while True:
            line = unwrap(self._line(timeout), stream=True)
            yield line
            if line.get("done"):
                return

    def _send(self, request: Mapping[str, Any], timeout: float) -> None:
        line = json.dumps(request, separators=(",", ":")).encode() + b"\n"
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.settimeout(timeout or None)
            self._socket.sendall(line)
        except OSError:
            self.close()
            raise self._gone() from None

    def _line(self, timeout: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            assert self._socket is not None
            try:
                data = self._socket.recv(_SLICE)
            except TimeoutError:
                self.close()
                raise LocalError(
                    "timeout",
                    f"the supervisor of {self.name} did not answer within {timeout:g} s",
                    f"see {self.layout.logs / 'supervisor.log'}",
                    UNREACHABLE,
                ) from None
            except OSError:
                data = b""
            if not data:
                self.close()
                raise self._gone()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _connect(self) -> socket.socket:
        try:
            path = json.loads(self.layout.endpoint.read_bytes())["socket"]
        except FileNotFoundError:
            raise self._down() from None
        except OSError as error:
            raise storage_error("find the supervisor", error) from None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise self._down() from None
        except OSError as error:
            connection.close()
            raise LocalError(
                "unreachable", f"cannot connect to {path}: {error.strerror}", exit=UNREACHABLE
            ) from None
        return connection

    def _down(self) -> LocalError:
        return LocalError(
            "swarm-down",
            f"swarm {self.name} is not running",
            f"start it with: gossipctl swarm up {self.name}",
            UNREACHABLE,
        )

    def _gone(self) -> LocalError:
        return LocalError(
            "supervisor-gone",
            f"the supervisor of {self.name} ended before it answered",
            f"see {self.layout.logs / 'supervisor.log'}; start it again with: "
            f"gossipctl swarm up {self.name}",
            UNREACHABLE,
        )

    def close(self) -> None:
        """Disconnect; the next request connects again."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- life cycle -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the supervisor lives."""
        return is_locked(self.layout.lock)

    def down(self) -> bool:
        """Stop every process of the swarm and keep its data; False if it was down already."""
        was_running = self.running
        if was_running:
            try:
                self.request("down", timeout=EXIT_SECONDS)
            except LocalError as error:
                if error.reason not in ("swarm-down", "supervisor-gone"):
                    raise
            finally:
                self.close()
        self._await_end()
        return was_running

    def _await_end(self) -> None:
        deadline = time.monotonic() + EXIT_SECONDS
        while is_locked(self.layout.lock) or is_locked(self.layout.workers_lock):
            if time.monotonic() > deadline:
                raise LocalError(
                    "still-running",
                    f"processes of {self.name} are still there after {EXIT_SECONDS:g} s",
                    f"see {self.layout.logs / 'supervisor.log'}",
                )
            time.sleep(0.01)

    def delete(self) -> None:
        """Stop the swarm and remove every file of it."""
        # No other call needs these.
        import shutil

        from gossipctl.local.endpoint import socket_directory

        self.down()
        try:
            places = [Path(json.loads(self.layout.endpoint.read_bytes())["socket"]).parent]
        except (OSError, ValueError, KeyError):
            places = []
        try:
            for place in [*places, socket_directory(self.layout), self.layout.directory]:
                if place.exists():
                    shutil.rmtree(place)
            selected = state_root() / "current"
            if selected.is_file() and selected.read_text().strip() == self.name:
                make_current(None)
        except OSError as error:
            raise storage_error("delete the swarm", error) from None
        for parent in {place.parent for place in places} | {state_root()}:
            if parent.name.startswith("gossipswarm") and not any(parent.iterdir()):
                parent.rmdir()


def unwrap(answer: dict[str, Any], *, stream: bool = False) -> Any:
    """The result in an answer (a whole line of a stream); LocalError if it is an error."""
    if "error" in answer and not answer.get("ok"):
        raise LocalError.from_dict(answer["error"])
    return answer if stream else answer.get("result")


def start_supervisor(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Start the supervisor of ``spec["name"]``; see ``lifecycle.start_supervisor``."""
    # Starting processes is for a few commands; the others do not pay for its imports.
    from gossipctl.local.lifecycle import start_supervisor

    return start_supervisor(spec)

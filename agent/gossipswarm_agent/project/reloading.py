"""Telling an application that its configuration has changed: a signal to its process, or an HTTP POST.

A signal is delivered, not answered; an answer 2xx to the POST is the application's own word that it has the version. A
process that is not there is no failure: it reads the file when it starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from gossipswarm_agent.project.projections import Reload

if TYPE_CHECKING:
    import aiohttp

Result: TypeAlias = Literal["acknowledged", "signalled", "absent", "failed"]
APPLIED: Final[frozenset[Result]] = frozenset({"acknowledged", "signalled"})
"""Results after which the application has, or was at least told of, the version."""
TIMEOUT_SECONDS: Final = 5.0
"""For one attempt."""
SAID_KEPT: Final = 512
"""Bytes of an answer that are kept."""
_PROC: Final = Path("/proc")
_COMM_BYTES: Final = 15
"""The kernel keeps so much of a program's name."""


class Attempt(NamedTuple):
    """How one attempt ended."""

    result: Result
    detail: str
    again: bool = False
    """Whether it may go better in a while."""


class Reloader:
    """Tells one application. Keeps one HTTP session."""

    def __init__(self, reload: Reload, executor: Executor | None) -> None:
        self._reload = reload
        self._executor = executor
        self._session: aiohttp.ClientSession | None = None

    async def attempt(self, news: dict[str, Any]) -> Attempt:
        """Tell it once; ``news`` is what a POST carries."""
        if self._reload.http is not None:
            return await self._post(self._reload.http, news)
        # A look through /proc takes milliseconds where there are hundreds of processes.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _signal, self._reload)

    async def _post(self, url: str, news: dict[str, Any]) -> Attempt:
        import aiohttp  # noqa: PLC0415 - 20 MB that only some agents need

        if self._session is None:
            # No proxy: an application reloads beside its agent.
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": "gossipswarm", "Content-Type": "application/json"},
                trust_env=False,
            )
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._session.post(
                    url, data=msgspec.json.encode(news), allow_redirects=False
                ) as response,
            ):
                said = (await response.content.read(SAID_KEPT)).decode(errors="replace").strip()
        except TimeoutError:
            return Attempt(
                "failed", f"{url} gave no answer within {TIMEOUT_SECONDS:g} s", again=True
            )
        except (aiohttp.ClientError, OSError) as error:
            return Attempt("failed", f"cannot reach {url}: {error}", again=True)
        detail = f"{url} answered {response.status} {said}".strip()
        if 200 <= response.status < 300:
            return Attempt("acknowledged", detail)
        return Attempt(
            "failed", detail, again=response.status >= 500 or response.status in (408, 425, 429)
        )

    async def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()


# --- signals --------------------------------------------------------------------------------------


def _signal(reload: Reload) -> Attempt:
    process = reload.process
    assert process is not None
    try:
        if process.startswith("/"):
            pids = _from_file(Path(process))
            missing = f"{process} names no process that runs"
        else:
            pids = processes_called(process)
            missing = f"no process here is called {process}"
    except (OSError, ValueError) as error:
        return Attempt("failed", str(error), again=True)
    told, refused = [], []
    for pid in pids:
        try:
            os.kill(pid, reload.number)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused.append(pid)
        else:
            told.append(str(pid))
    if refused:
        return Attempt(
            "failed",
            f"may not signal process {refused[0]}: it runs as another user; run the agent as the same one",
            again=True,
        )
    if not told:
        return Attempt("absent", missing)
    return Attempt("signalled", f"SIG{reload.signal} to process {', '.join(told)}")


def _from_file(path: Path) -> list[int]:
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        text = ""
    if not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise ValueError(f"{path} holds no process id")
    if int(text) == os.getpid():
        raise ValueError(
            f"{path} names the agent itself: its processes are not those of the application "
            "(in a pod, set shareProcessNamespace: true)"
        )
    return [int(text)]


def processes_called(name: str) -> list[int]:
    """Processes of this name; of several that descend from one another the first, as it leads its workers."""
    parents = {pid: parent for pid, parent in _named(name) if pid != os.getpid()}
    return sorted(pid for pid, parent in parents.items() if parent not in parents)


def _named(name: str) -> Iterator[tuple[int, int]]:
    """Process and its parent, for each of this name."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        # It may end while it is looked at.
        with suppress(OSError, ValueError, IndexError):
            before, _, after = (entry / "stat").read_bytes().rpartition(b")")
            state, parent = after.split()[:2]
            if state != b"Z" and _is_called(name.encode(), before.partition(b"(")[2], entry):
                yield int(entry.name), int(parent)


def _is_called(name: bytes, called: bytes, process: Path) -> bool:
    if called == name and len(name) <= _COMM_BYTES:
        return True
    words = (process / "cmdline").read_bytes().split(b"\0")[:2]
    if called == name[:_COMM_BYTES]:
        return name in (
            word.rpartition(b"/")[2] for word in words
        )  # a script stands behind its interpreter
    return words[0].rpartition(b"/")[2] == name

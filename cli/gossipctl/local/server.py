"""The control socket of a supervisor: one request a line, one answer a line (or several, for a stream)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from gossipctl.local.errors import LocalError
from gossipctl.local.operations import Operations
from gossipctl.local.requests import Logs, Request, decode

REQUEST_BYTES: Final = 8 << 20
BACKLOG: Final = 1024
UNSENT_BYTES: Final = 8 << 20
"""Answers that may wait for a client; one that does not read loses its connection."""
GRACE_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Server:
    """Serves ``operations`` to whoever may open the socket: its directory is the user's alone."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        """Those with a request under way."""
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen on ``path``. A socket that is there is stale: whoever made it held the lock we hold."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - before anything is served
        self._server = await asyncio.start_unix_server(
            self._serve, path, backlog=BACKLOG, limit=REQUEST_BYTES
        )

    async def close(self) -> None:
        """Stop listening, give running requests a moment, then end all connections."""
        if self._server is None:
            return
        self._server.close()
        if self._busy:
            await asyncio.wait(self._busy, timeout=GRACE_SECONDS)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        # Read ahead by one line: its end is how the client's departure shows while a request runs.
        upcoming = asyncio.create_task(reader.readline(), name="next request")
        try:
            while line := await upcoming:
                upcoming = asyncio.create_task(reader.readline(), name="next request")
                self._busy.add(task)
                await self._answer(line, writer, upcoming)
                self._busy.discard(task)
                if self._operations.leaving.is_set():
                    break
        except (OSError, ValueError):
            pass  # the client went away, or its line is longer than any request
        except asyncio.CancelledError:
            pass  # the supervisor leaves; asyncio.Server would log a cancelled handler as a fault
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
            self._connections.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _answer(
        self, line: bytes, writer: asyncio.StreamWriter, upcoming: asyncio.Task[bytes]
    ) -> None:
        def send(answer: dict[str, Any]) -> None:
            writer.write(_encode(answer) + b"\n")
            if writer.transport.get_write_buffer_size() > UNSENT_BYTES:
                writer.transport.abort()

        try:
            request = decode(line)
            result = await self._perform(request, send, upcoming)
            send({"ok": True, "result": result} | ({"done": True} if request.stream else {}))
        except LocalError as error:
            send({"ok": False, "error": error.to_dict()})
        except Exception as error:  # noqa: BLE001 - a bug in one operation must not end the swarm
            _log.exception("a request failed: %.200r", line)
            bug = LocalError(
                "internal", f"the supervisor failed: {error!r}", "its log has more: supervisor.log"
            )
            send({"ok": False, "error": bug.to_dict()})
        await writer.drain()

    async def _perform(self, request: Request, send: Any, upcoming: asyncio.Task[bytes]) -> Any:
        def emit(part: dict[str, Any]) -> None:
            if request.stream:
                send({"ok": True, **part})

        work = asyncio.create_task(self._operations.perform(request, emit), name="request")
        try:
            if isinstance(request, Logs) and request.follow:
                # Goes on until the client says something or leaves. Everything else runs to its end
                # even if nobody waits for the answer any more.
                await asyncio.wait([work, upcoming], return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    return {}
            return await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

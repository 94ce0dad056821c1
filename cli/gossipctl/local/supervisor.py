"""The supervisor of one local swarm: ``python -m gossipctl.local.supervisor``.

It reads from its standard input which swarm to make or to resume, leaves its parent, locks the swarm's
directory, starts the workers and answers on its standard output once they are up. From then on it serves
the control socket until it is told to go down.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from gossipctl.local.creation import Opened, create, open_existing
from gossipctl.local.endpoint import SOCKET_NAME, private_directory, socket_directory
from gossipctl.local.errors import LocalError, storage_error
from gossipctl.local.fleet import Fleet
from gossipctl.local.layout import Layout
from gossipctl.local.logs import SUPERVISOR, log_to
from gossipctl.local.operations import Operations
from gossipctl.local.population import Population
from gossipctl.local.server import Server
from gossipctl.local.spec import replace_file

OLD_WORKERS_SECONDS: Final = 15.0
"""Workers of a supervisor that died leave by themselves; after this long something holds them."""
LOCK_POLL_SECONDS: Final = 0.02

_log = logging.getLogger(__name__)


async def supervise(opened: Opened, *, is_new: bool) -> None:
    """Bring the swarm up, say so, and serve it until it is told to go down."""
    layout, book = opened.layout, opened.book
    workers_lock = await _workers_lock(layout)
    fleet = Fleet(layout, book, opened.secrets, workers_lock)
    population = Population(book, fleet)
    operations = Operations(layout, book, opened.secrets, fleet, population)
    operations.partitions.discard_expired()
    server = Server(operations)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operations.leaving.set)
    socket_path: Path | None = None
    expiry = asyncio.create_task(operations.partitions.run(), name="partition expiry")
    try:
        await fleet.start()
        await population.settled()
        await book.save()
        directory = socket_directory(layout)
        private_directory(directory)
        socket_path = directory / SOCKET_NAME
        await server.start(socket_path)
        endpoint = {"socket": str(socket_path), "pid": os.getpid()}
        replace_file(layout.endpoint, msgspec.json.encode(endpoint) + b"\n")
        _log.info("swarm %s %s", layout.name, "made" if is_new else "resumed")
        answer({"ok": True, "result": operations.status()})
        await operations.leaving.wait()
        _log.info("going down")
    finally:
        expiry.cancel()
        await asyncio.gather(expiry, return_exceptions=True)
        await server.close()
        await population.close()
        await fleet.stop()
        if socket_path is not None:
            socket_path.unlink(missing_ok=True)
            if socket_path.parent.parent != layout.directory:
                _remove_if_empty(socket_path.parent)
        os.close(workers_lock)


async def _workers_lock(layout: Layout) -> int:
    """The lock that workers inherit: ours once no worker of an earlier supervisor is left."""
    descriptor = os.open(layout.workers_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(OLD_WORKERS_SECONDS):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    await asyncio.sleep(LOCK_POLL_SECONDS)
    except TimeoutError:
        os.close(descriptor)
        raise LocalError(
            "workers-left",
            f"workers of an earlier supervisor of {layout.name} still hold its files",
            f"end the processes that have {layout.workers_lock} open, and try again",
        ) from None


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        _log.debug("%s stays", directory)


# --- the process ----------------------------------------------------------------------------------


def answer(message: dict[str, Any]) -> None:
    """Tell whoever started us, once, and let go of its terminal."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def main() -> int:
    """Exit code of the process; what went wrong has been answered by then."""
    request = msgspec.json.decode(sys.stdin.buffer.read())
    if os.fork():
        # The parent's parent waits for the answer, not for us; and nobody has to reap the supervisor.
        os._exit(0)
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.chdir("/")
    is_new = bool(request.get("create"))
    opened: Opened | None = None
    try:
        opened = create(request) if is_new else open_existing(request["name"])
        log_to(opened.layout.logs / f"{SUPERVISOR}.log")
        asyncio.run(supervise(opened, is_new=is_new))
    except LocalError as error:
        return _fail(error, opened if is_new else None)
    except OSError as error:
        action = "make the swarm" if is_new else "resume the swarm"
        return _fail(storage_error(action, error), opened if is_new else None)
    except Exception as error:  # noqa: BLE001 - whoever started us must get an answer
        _log.exception("the supervisor failed")
        return _fail(
            LocalError("internal", f"the supervisor failed: {error!r}"), opened if is_new else None
        )
    return 0


def _fail(error: LocalError, unfinished: Opened | None) -> int:
    if unfinished is not None and not unfinished.layout.exists:
        unfinished.discard()
    answer({"ok": False, "error": error.to_dict()})
    return error.exit


if __name__ == "__main__":
    sys.exit(main())

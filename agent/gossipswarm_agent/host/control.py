"""The socket that a supervisor drives a worker by. Its end is the end of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import threading
import time
from typing import Any, Final

import msgspec

from gossipswarm_agent.host.orders import Order, Refused, decode
from gossipswarm_agent.host.worker import Worker

LINE_BYTES: Final = 64 << 20
ORPHAN_SECONDS: Final = 12.0
"""From the supervisor's end to this process's, at the latest."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


async def obey(worker: Worker, control: socket.socket) -> None:
    """Carry out orders as they come, side by side, until the supervisor closes its end or dies."""
    reader, writer = await asyncio.open_connection(sock=control, limit=LINE_BYTES)
    under_way: set[asyncio.Task[None]] = set()
    try:
        while line := await reader.readline():
            task = asyncio.create_task(_answer(worker, line, writer))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    except OSError as error:
        _log.warning("the control socket broke: %s", error)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        writer.close()


async def _answer(worker: Worker, line: bytes, writer: asyncio.StreamWriter) -> None:
    try:
        order: Order = decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _log.error("not an order: %s: %.200r", error, line)
        number = msgspec.json.decode(line).get("id", 0)
        refused = Refused("invalid-order", f"the worker does not understand: {error}")
        writer.write(_encode({"id": number, "error": refused.to_dict()}) + b"\n")
        return
    answer: dict[str, Any] = {"id": order.id}
    try:
        answer["result"] = await worker.carry_out(order)
    except Refused as refused:
        answer["error"] = refused.to_dict()
    except Exception as error:  # noqa: BLE001 - a fault in one order must not end all agents
        _log.exception("cannot carry out %.200r", line)
        answer["error"] = Refused("internal", f"the worker failed: {error!r}").to_dict()
    writer.write(_encode(answer) + b"\n")
    with contextlib.suppress(OSError):
        await writer.drain()


def die_with_supervisor(control: socket.socket) -> None:
    """Make sure that no worker outlives its supervisor by much, even if its event loop hangs."""
    descriptor = os.dup(control.fileno())

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # only hang-ups and errors, which are always reported
        poll.poll()
        time.sleep(ORPHAN_SECONDS)
        os._exit(70)

    threading.Thread(target=watch, name="orphan guard", daemon=True).start()

"""What the programs of agents and of edges have in common: where they listen, when they end, what they look at again."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import Options
from gossipswarm_agent.runtime.ports import bind_api

RELOAD_SECONDS: Final = 5.0
"""Between two looks at whether the configuration has changed."""

_log = logging.getLogger(__name__)

Stamps: TypeAlias = list[tuple[int, int] | None]


class Failure(Exception):
    """The program cannot run; the message says why."""


def stop_signal() -> asyncio.Event:
    """Set once the process is told to end."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def listen(options: Options) -> socket.socket:
    """The socket of the API. Raises OSError."""
    return bind_api(options.api_host or options.host, options.api_port)


def listen_locally(port: int) -> socket.socket:
    """The socket of an API for whoever is on this machine. Raises OSError."""
    return bind_api("127.0.0.1", port)


def tls(options: Options) -> ssl.SSLContext | None:
    """How the API is served by https; None = it is not. Raises ConfigError."""
    if options.tls_certificate is None and options.tls_key is None:
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise ConfigError("tls_certificate and tls_key go together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use the certificate {options.tls_certificate}: {error}"
        ) from None
    return context


async def follow_certificate(context: ssl.SSLContext | None, options: Options) -> None:
    """Serve new connections by the certificate that is in its files now, whenever these change; one that is of no use is
    reported, and the one before stays.
    """
    if context is None or options.tls_certificate is None:
        return
    files = (options.tls_certificate, options.tls_key)
    async for _ in changes(lambda: stamps(files)):
        try:
            tls(options)  # half of a pair that does not fit must not get into the context in use
            context.load_cert_chain(options.tls_certificate, options.tls_key)
        except (ConfigError, OSError) as error:  # an SSLError is an OSError
            _log.error("the changed certificate is of no use", extra={"error": str(error)})
        else:
            _log.info("certificate as configured")


async def changes(look: Callable[[], Stamps]) -> AsyncIterator[None]:
    """Yield whenever what is looked at is another than the last time."""
    seen = look()
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        latest = look()
        if latest != seen:
            seen = latest
            yield


def stamps(files: Iterable[Path | str | None]) -> Stamps:
    """What changes when one of these files does."""
    return [None if file is None else _stamp(Path(file)) for file in files]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino

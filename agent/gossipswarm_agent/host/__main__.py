"""Entry point of a worker: ``python -m gossipswarm_agent.host --control-fd N --name worker-1 --log FILE``."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
from pathlib import Path

import uvloop

from gossipswarm_agent.host.control import die_with_supervisor, obey
from gossipswarm_agent.host.logs import log_to
from gossipswarm_agent.host.worker import Worker

_log = logging.getLogger(__name__)


def main() -> None:
    """Host agents until the supervisor is gone or SIGTERM comes."""
    parser = argparse.ArgumentParser(prog="python -m gossipswarm_agent.host", description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True, help="inherited stream socket")
    parser.add_argument("--name", required=True, help="name of this worker")
    parser.add_argument("--log", type=Path, required=True, help="log file, rotated")
    arguments = parser.parse_args()
    os.umask(0o077)
    os.chdir("/")
    faulthandler.enable()
    log_to(arguments.log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    control = socket.socket(fileno=arguments.control_fd)
    control.setblocking(False)
    die_with_supervisor(control)
    # Modules and tables live as long as the process: no collection needs to look at them again.
    gc.collect()
    gc.freeze()
    # What agents make is freed by reference counts; looking for cycles among the columns of many batches
    # cost a sixth of the time under load, and 40 ms at a stretch with 50,000 objects of a hundred agents.
    gc.set_threshold(5_000, 500, 100)
    uvloop.run(_host(arguments.name, control))


async def _host(name: str, control: socket.socket) -> None:
    worker = Worker(name)
    obeying = asyncio.create_task(obey(worker, control), name="orders")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, obeying.cancel)
    _log.info("worker %s is up, pid %d", name, os.getpid())
    try:
        await asyncio.wait([obeying])
    finally:
        await worker.close()
        _log.info("worker %s is done", name)


def _raise_file_limit() -> None:
    """An agent takes about six descriptors, and one more a stream."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

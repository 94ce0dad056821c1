"""A client of the swarm while it is upgraded. Runs in a pod of its own, with the agent's image.

Reads one key and writes another through the swarm's Service, each request on a connection of its own, so that every
ready agent gets its share. Once a second it prints what it has seen so far, as a line of JSON.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from gossipswarm_client import Client, GossipSwarmError

URL = os.environ["SWARM_URL"]
KEY = os.environ["READ_KEY"]
EXPECTED = json.loads(os.environ["READ_VALUE"])
WRITTEN = os.environ["WRITE_KEY"]
TOKEN = Path("/tokens/write").read_text("utf-8").strip()
PAUSE = 0.02
WRITE_EVERY = 0.2

seen: dict[str, Any] = {
    "reads": 0,
    "failed_reads": 0,
    "twice_failed_reads": 0,
    "wrong_reads": 0,
    "writes": 0,
    "failed_writes": 0,
    "last_acknowledged": 0,
    "longest_gap_ms": 0.0,
    "slowest_read_ms": 0.0,
    "errors": [],
}


def read() -> bool:
    """One read; whether it was answered."""
    began = time.monotonic()
    try:
        with Client(URL, token=TOKEN, timeout=2.0, retries=0) as client:
            value = client.get(KEY).value
    except (GossipSwarmError, OSError) as error:
        seen["errors"] = [*seen["errors"], f"{type(error).__name__}: {error}"][-10:]
        return False
    seen["slowest_read_ms"] = max(seen["slowest_read_ms"], (time.monotonic() - began) * 1000)
    if value != EXPECTED:
        seen["wrong_reads"] += 1
    return True


def write(number: int) -> bool:
    """One write, sent again for two seconds if need be; whether it was acknowledged."""
    try:
        with Client(URL, token=TOKEN, timeout=2.0) as client:
            client.set(WRITTEN, number)
    except (GossipSwarmError, OSError) as error:
        seen["errors"] = [*seen["errors"], f"{type(error).__name__}: {error}"][-10:]
        return False
    return True


def main() -> None:
    """Until the pod is deleted."""
    last_read = last_write = last_line = time.monotonic()
    number = 0
    while True:
        seen["reads"] += 1
        answered = read()
        if not answered:
            seen["failed_reads"] += 1
            answered = read()
            seen["twice_failed_reads"] += not answered
        now = time.monotonic()
        if answered:
            seen["longest_gap_ms"] = max(seen["longest_gap_ms"], (now - last_read) * 1000)
            last_read = now
        if now - last_write >= WRITE_EVERY:
            last_write = now
            number += 1
            seen["writes"] += 1
            if write(number):
                seen["last_acknowledged"] = number
            else:
                seen["failed_writes"] += 1
        if now - last_line >= 1.0:
            last_line = now
            print(json.dumps({**seen, "at": time.time()}), flush=True)
        time.sleep(PAUSE)


main()

"""Writes a key at any agent and reads it in every region. Exit code 1 if it is not the same everywhere in time."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gossipswarm_client import Client, GossipSwarmError

T = TypeVar("T")
SWARM = os.environ["SWARM"]
NAMESPACE = os.environ["SWARM_NAMESPACE"]
SCHEME = os.environ.get("SWARM_SCHEME", "http")
CA_FILE = os.environ.get("SWARM_CA_FILE") or None
SECONDS = float(os.environ["TIMEOUT_SECONDS"])
KEY = f"helm-test.{os.environ['POD_NAME']}"
DEADLINE = time.monotonic() + SECONDS


def connect(service: str) -> Client:
    """Any agent behind a Service."""
    token = Path("/tokens/write").read_text("utf-8").strip()
    url = f"{SCHEME}://{service}.{NAMESPACE}.svc:7601"
    return Client(url, token=token, timeout=10.0, ca_file=CA_FILE)


def until_deadline(what: str, attempt: Callable[[], T]) -> T:
    """Repeat until it works; agents may still be starting."""
    while True:
        try:
            return attempt()
        except (GossipSwarmError, OSError) as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{what}: {error}")
            print(f"{what}: {error}; trying again")
            time.sleep(1)


def write(value: str) -> list[str]:
    """Write, wait until every agent has sent its receipt, and say which regions there are."""
    with connect(SWARM) as client:
        client.set(KEY, value, wait=True, threshold=1.0, timeout=30.0)
        return [region.name for region in client.regions() if region.agents]


def read(region: str) -> str:
    """The value as an agent of a region has it."""
    with connect(f"{SWARM}-{region}") as client:
        return str(client.get(KEY).value)


def delete() -> None:
    """Leave nothing behind."""
    with connect(SWARM) as client:
        client.delete(KEY)


value = str(time.time_ns())
began = time.monotonic()
regions = until_deadline("writing", lambda: write(value))
print(
    f"written, and received by every agent of {len(regions)} regions, {time.monotonic() - began:.2f} s"
)
wrong = []
for name in regions:
    found = until_deadline(f"reading in {name}", lambda name=name: read(name))
    print(f"{name}: {'the same' if found == value else f'{found!r} instead of {value!r}'}")
    if found != value:
        wrong.append(name)
until_deadline("deleting", delete)
sys.exit(f"not the same in {', '.join(wrong)}" if wrong else 0)

"""What is declared about a swarm, and the file that keeps it.

The supervisor holds one SwarmSpec; everything else (processes, sockets, drops) is made to match it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from gossipctl.local.cuts import Cut


class AgentRecord(msgspec.Struct):
    """One declared agent. Ports are 0 until it was up once; then it asks for the same ones again."""

    name: str
    region: str
    worker: int
    type: str = "worker"
    capabilities: list[str] = []
    labels: dict[str, str] = {}
    wanted: Literal["running", "stopped"] = "running"
    gossip_port: int = 0
    api_port: int = 0
    created_at: str = ""

    def fits(self, region: str | None, kind: str | None, capabilities: list[str] | None) -> bool:
        """Whether a request for such an agent means this one; None asks for nothing in particular."""
        return (
            region in (None, self.region)
            and kind in (None, self.type)
            and capabilities in (None, self.capabilities)
        )


class SwarmSpec(msgspec.Struct):
    """One declared swarm."""

    name: str
    uid: str
    """Unique for ever: frames of a deleted swarm of the same name are refused."""
    regions: list[str]
    topology: str = "mesh"
    protocol: str = "gossip"
    max_agents: int = 1000
    encryption: bool = True
    workers: int = 1
    settings: dict[str, Any] = {}
    hooks: str | None = None
    cuts: list[Cut] = []
    agents: dict[str, AgentRecord] = {}
    created_at: str = ""


def timestamp(milliseconds: int | None = None) -> str:
    """RFC 3339, UTC, with milliseconds; now by default."""
    moment = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    seconds, rest = divmod(moment, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}Z"


class SpecFile:
    """Keeps a SwarmSpec on disk. What ``save`` returned for survives the machine.

    Saves asked for while one is being written share the next: 50 spawns at once cost a few writes.
    """

    def __init__(self, path: Path, spec: SwarmSpec) -> None:
        self.path = path
        self.spec = spec
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    @classmethod
    def load(cls, path: Path) -> SpecFile:
        """The file at ``path``; OSError if unreadable, ValueError if it is not one."""
        return cls(path, msgspec.json.decode(path.read_bytes(), type=SwarmSpec))

    async def save(self) -> None:
        """Write the spec as it is now or later; OSError if the disk does not take it."""
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._running), name="save the spec")
        # A caller that goes away must not take the others' save with it.
        await asyncio.shield(self._next)

    async def _write_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        data = msgspec.json.format(msgspec.json.encode(self.spec), indent=1)
        await asyncio.to_thread(replace_file, self.path, data)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write ``path`` in one step: whoever reads it sees the old content or the new, also after a crash."""
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

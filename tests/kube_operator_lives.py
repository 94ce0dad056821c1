"""Operators that are killed after each write that they make, and what a swarm of theirs is like then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gossipswarm_operator.client import LEASES, KubeClient
from gossipswarm_operator.names import MANAGER_NAME
from kube_operator_program import environment_of

PROGRAM: Final = Path(__file__).with_name("kube_operator_mortal.py")
LIFE_SECONDS: Final = 300.0
"""An operator dies or finds nothing to do before, though pods may be on their way."""
MOST_LIVES: Final = 200
IDLE_LOOKS: Final = 2
"""Reconciles without a write after which nothing more is to be expected."""
LOOK_SECONDS: Final = 0.05


class Write(msgspec.Struct, frozen=True):
    """Something that an operator changed at the API server or at an agent."""

    method: str
    target: str
    """Path at the API server, or an agent's name and the path there."""
    body: Any

    @property
    def is_told(self) -> bool:
        """It only says what was done: an event, or a status."""
        return "/events" in self.target or self.target.endswith("/status")


class Life(msgspec.Struct):
    """One operator, from its start to its death."""

    pid: int = 0
    writes: list[Write] = []
    idle_looks: int = 0
    """Reconciles since the last write."""
    status: int | None = None
    """How it ended; None = it lives."""


class Lives:
    """One operator after the other."""

    def __init__(
        self, admin: KubeClient, namespace: str, process: asyncio.subprocess.Process
    ) -> None:
        self.life = Life()
        self._admin = admin
        self._namespace = namespace
        self._process = process

    async def follow(self) -> None:
        """Take note of what is heard of them, until there can be no more."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, *facts = json.loads(line)
            match what:
                case "began":
                    self.life.pid = facts[0]
                case "wrote":
                    self.life.writes.append(Write(*facts))
                    self.life.idle_looks = 0
                case "looked":
                    self.life.idle_looks += 1
                case "ended":
                    self.life.status = facts[0]

    async def begin(self, limit: int = 0, former: Write | None = None) -> Life:
        """Start an operator that never dies, or after ``limit`` writes if it begins as its predecessor did, and after its
        first one otherwise.
        """
        # Its predecessor cannot let go of the Lease, and nobody wants to wait until that has run out.
        await self._admin.delete(LEASES, self._namespace, MANAGER_NAME)
        self.life = Life()
        assert self._process.stdin is not None
        order = [limit, former and [former.method, former.target, former.body]]
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        await self._process.stdin.drain()
        return self.life

    async def end(self) -> None:
        """Kill the one that lives."""
        while self.life.status is None:
            assert self._process.returncode is None
            if self.life.pid:
                with contextlib.suppress(
                    ProcessLookupError
                ):  # it is dead, which is about to be heard
                    os.kill(self.life.pid, signal.SIGKILL)
            await asyncio.sleep(LOOK_SECONDS)

    async def until_idle(self, over: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until the one that lives has nothing to do and ``over`` holds; False if it dies before."""
        life = self.life
        async with asyncio.timeout(LIFE_SECONDS):
            while life.status is None:
                if life.idle_looks >= IDLE_LOOKS and await over():
                    return True
                assert self._process.returncode is None, "nobody starts operators any more"
                await asyncio.sleep(LOOK_SECONDS)
        assert life.status == -signal.SIGKILL, "it ended by itself"
        return False


@contextlib.asynccontextmanager
async def mortals(
    admin: KubeClient, kubeconfig: Path, namespace: str, directory: Path, **settings: Any
) -> AsyncIterator[Lives]:
    """Operators of a namespace; none lives yet."""
    told = {"resync_seconds": 1, "lease_seconds": 60, "http_port": 0, **settings}
    environment = environment_of(kubeconfig, namespace, "mortal", **told)
    with (directory / "mortal.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            PROGRAM,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            limit=1 << 24,
        )
    lives = Lives(admin, namespace, process)
    following = asyncio.create_task(lives.follow())
    try:
        yield lives
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the one that lives
        await process.wait()
        await following


async def killed_after_every_write(
    lives: Lives, over: Callable[[], Awaitable[bool]]
) -> list[list[Write]]:
    """Let operators work until one finds nothing to do, and each die right after its first write; what each wrote.

    So whatever writes leave behind comes up as what the next operator finds. One that has to begin anew a step that takes
    several writes may make one more than its predecessor, so the places within such a step come up in turn, too.
    """
    lived: list[list[Write]] = []
    life = await lives.begin(1)
    while True:
        if await lives.until_idle(over):
            await lives.end()
        if not life.writes:
            return lived
        lived.append(life.writes)
        assert len(lived) < MOST_LIVES, f"no end to it: {lived[-5:]}"
        life = await lives.begin(len(life.writes) + 1, life.writes[0])

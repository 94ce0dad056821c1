"""The operator as it is shipped: a process, told by its environment, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from gossipswarm_operator.client import LEASES, KubeClient, load_configuration
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.names import MANAGER_NAME
from kube import free_port
from kube_operator_runs import IMAGE, until

PROGRAM: Final = [sys.executable, "-c", "from gossipswarm_operator.main import run; run()"]
EXIT_SECONDS: Final = 60.0
REST_SECONDS: Final = 3.0
"""More than between two looks at something that is under way."""


class Program:
    """A running operator."""

    def __init__(self, pod: str, environment: dict[str, str], log: Path) -> None:
        self.pod = pod
        self.log = log
        self._port = free_port()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                PROGRAM,
                env={**environment, "GOSSIPSWARM_OPERATOR_HTTP_PORT": str(self._port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def freeze(self) -> None:
        """Keep it from running, as a machine that is overloaded or suspended does."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        os.kill(self.process.pid, signal.SIGCONT)

    @property
    def resident_bytes(self) -> int:
        """Memory of it that is in RAM."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text("utf-8").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    async def ended(self, seconds: float = EXIT_SECONDS) -> int:
        """Wait for its end; the exit code."""

        async def over() -> bool:
            return self.process.poll() is not None

        await until(over, seconds)
        return self.process.returncode

    async def terminated(self, seconds: float = EXIT_SECONDS) -> int:
        """Tell it to end as Kubernetes does, and wait; the exit code."""
        self.process.terminate()
        return await self.ended(seconds)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of what it answers over HTTP; status 0 while it does not."""
        timeout = aiohttp.ClientTimeout(30)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self._port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def metrics(self) -> dict[str, float]:
        """Its metrics: value by name and labels, as they stand in the text."""
        _, text = await self.get("/metrics")
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    async def leads(self) -> bool:
        """Whether it says that it leads."""
        return (await self.metrics()).get("gossipswarm_operator_leading") == 1

    async def rests(self) -> None:
        """Wait until it has reconciled no swarm for a while, after it did."""
        done = 'gossipswarm_operator_reconciles_total{kind="GossipSwarm",outcome="done"}'
        seen, since = 0.0, time.monotonic()

        async def is_still() -> bool:
            nonlocal seen, since
            count = (await self.metrics()).get(done, 0.0)
            if count != seen:
                seen, since = count, time.monotonic()
            return count > 0 and time.monotonic() - since >= REST_SECONDS

        await until(is_still)

    def said(self) -> list[dict[str, Any]]:
        """Its log; lines that are no JSON as ``{"plain": line}``."""
        found = []
        for line in self.log.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"plain": line})
        return found


def environment_of(kubeconfig: Path, namespace: str, pod: str, **settings: Any) -> dict[str, str]:
    """What the operator of a namespace is told. ``settings`` are variables in lower case, without the prefix."""
    told = {
        "namespace": namespace,
        "watch_namespaces": namespace,
        "pod": pod,
        "lease_seconds": 60,
        "resync_seconds": 5,
        **settings,
    }
    return {
        "PATH": "/usr/bin:/bin",
        "KUBECONFIG": str(kubeconfig),
        "GOSSIPSWARM_AGENT_IMAGE": IMAGE,
        **{f"GOSSIPSWARM_OPERATOR_{name.upper()}": str(value) for name, value in told.items()},
    }


@contextlib.asynccontextmanager
async def program(
    kubeconfig: Path, namespace: str, directory: Path, pod: str = "operator-0", **settings: Any
) -> AsyncIterator[Program]:
    """The operator of a namespace. ``settings`` are its variables in lower case, without the prefix."""
    environment = environment_of(kubeconfig, namespace, pod, **settings)
    running = Program(pod, environment, directory / f"{pod}.log")
    try:
        yield running
    finally:
        running.process.kill()
        await asyncio.to_thread(running.process.wait)
        await _let_go(kubeconfig, namespace, pod)


async def _let_go(kubeconfig: Path, namespace: str, pod: str) -> None:
    """Free the Lease of one that was killed, where that is possible: no successor has to wait until it has run out."""
    with contextlib.suppress(ApiError):
        async with KubeClient(await load_configuration(str(kubeconfig)), seconds=5.0) as kube:
            found = await kube.get(LEASES, namespace, MANAGER_NAME)
            if found is not None and str(found["spec"].get("holderIdentity")).startswith(f"{pod}_"):
                found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await kube.replace({**found, "kind": LEASES.kind})


def by_way_of(url: str, account: Path) -> Path:
    """A copy of a kubeconfig that reaches the API server by way of a proxy."""
    document = yaml.safe_load(account.read_text("utf-8"))
    document["clusters"][0]["cluster"] = {"server": url}
    copy = account.with_name(f"{account.name}.{url.rpartition(':')[2]}")
    copy.write_text(yaml.safe_dump(document), "utf-8")
    copy.chmod(0o600)
    return copy

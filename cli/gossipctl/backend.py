"""Where swarms run: on this machine, behind a supervisor, or in a Kubernetes cluster. What both can do.

A command asks ``Invocation.backend`` for a swarm's life and ``Invocation.swarm`` for all else. Which backend
that is, ``choose`` says.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from gossipctl.failures import UsageError
from gossipswarm_client.sync import Client

REQUEST_SECONDS = 30.0
KINDS = ("local", "kubernetes")

NAMES: dict[str, str] = {}
"""Names of the agents that were talked to by host:port, which is all that an error of the client knows."""


class Agent(Client):
    """One agent's HTTP API, and who it is."""

    def __init__(self, name: str, region: str, url: str, token: str | None) -> None:
        super().__init__(url, token=token, timeout=REQUEST_SECONDS)
        self.name = name
        self.region = region
        self.token = token


class Swarm(Protocol):
    """One swarm. Operations and their results are described in ``local.requests``."""

    name: str

    def request(self, op: str, /, timeout: float = 120.0, **arguments: Any) -> Any:
        """The result of one operation; ``timeout`` in seconds."""

    def stream(
        self, op: str, /, timeout: float = 120.0, **arguments: Any
    ) -> Iterator[dict[str, Any]]:
        """Lines of an operation as they come; the last has ``done``. ``timeout``: seconds a line, 0 = for ever."""

    def agent(self, name: str | None = None) -> Agent:
        """One agent; any live one without a name."""

    def agents(self) -> list[Agent]:
        """All live agents. Raises CommandFailed if there is none."""

    def stats(self) -> list[dict[str, Any]]:
        """Every live agent's own figures: name, region, state_hash, leaves, ..."""

    def expected(self) -> int | None:
        """Agents that ought to be there; None where nobody says."""

    def set_degraded(self, *, enabled: bool) -> bool:
        """Make the swarm read-only, or writable again; whether it is read-only now."""

    def again(self) -> Swarm:
        """The same swarm over connections of its own, for another thread."""


class Backend(Protocol):
    """The life of swarms at one place."""

    kind: str

    @property
    def place(self) -> str:
        """In words: ``on this machine``, ``in namespace n of context c``."""

    def swarm(self, name: str | None) -> Swarm:
        """The swarm of this name, or the one that is selected. Raises a UsageError or its like."""

    def select(self, name: str | None) -> str:
        """The name of the swarm that is meant; it exists."""

    def exists(self, name: str) -> bool:
        """Whether there is such a swarm."""

    def list_swarms(self) -> list[dict[str, Any]]:
        """Every swarm: name, status, regions, agents, created_at, selected."""

    def init(self, name: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Make a swarm, or find that it is there and as it was asked for; its status."""

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make a swarm what a manifest says: kind, name, created, changes, ignored."""

    def up(self, name: str) -> dict[str, Any]:
        """Start a swarm that is down; its status."""

    def down(self, name: str) -> bool:
        """Stop a swarm and keep its data; False if it was down already."""

    def delete(self, name: str) -> str:
        """Delete a swarm; what stays of it, in words, or nothing."""


def choose(flags: Namespace, *, creating: bool = False) -> Backend:
    """The backend that is meant: by --backend or $GOSSIPSWARM_BACKEND, by flags that only one knows, by the
    name kubectl-gossip; else local where a swarm is selected there, else the current kube context.

    ``creating``: what makes swarms takes no cluster that nobody named.
    """
    kind = flags.backend or os.environ.get("GOSSIPSWARM_BACKEND") or _implied(flags)
    if kind and kind not in KINDS:
        raise UsageError(f"GOSSIPSWARM_BACKEND is {kind!r}", "it is local or kubernetes")
    if kind is None:
        kind = "local" if creating else _by_what_is_there(flags.swarm)
    if kind == "local":
        cluster = [name for name in ("context", "namespace") if getattr(flags, name, None)]
        if cluster:
            raise UsageError(
                f"--{cluster[0]} means nothing to a swarm on this machine",
                "say --backend kubernetes, or leave it out",
            )
        from gossipctl.local.backend import LocalBackend

        return LocalBackend()
    from gossipctl.kubernetes.backend import KubernetesBackend

    return KubernetesBackend(flags.context, flags.namespace)


def _implied(flags: Namespace) -> str | None:
    from gossipctl.main import program_name

    if getattr(flags, "context", None) or getattr(flags, "namespace", None):
        return "kubernetes"
    return "kubernetes" if program_name().startswith("kubectl") else None


def _by_what_is_there(swarm: str | None) -> str:
    from gossipctl.local import client

    if swarm in client.names() if swarm else client.has_swarm():
        return "local"
    from gossipctl.kubernetes import kubeconfig

    return "kubernetes" if kubeconfig.is_there() else "local"

"""The swarm a command is about, and its agents, wherever it runs.

Today that is the local backend: a supervisor behind a Unix socket, agents behind HTTP on loopback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gossipctl.failures import CommandFailed
from gossipctl.local.client import LocalSwarm
from gossipswarm_client.sync import Client

REQUEST_SECONDS = 30.0


NAMES: dict[str, str] = {}
"""Names of the agents that were talked to by host:port, which is all that an error of the client knows."""


def select(name: str | None) -> Swarm:
    """The swarm called ``name``, or the one that is selected.

    Raises:
        LocalError: there is none of that name, or several and none is selected.
    """
    return Swarm(LocalSwarm(name))


class Agent(Client):
    """One agent's HTTP API, and who it is."""

    def __init__(self, address: Mapping[str, Any]) -> None:
        super().__init__(address["api"], token=address.get("token"), timeout=REQUEST_SECONDS)
        self.name: str = address["name"]
        NAMES[self.url.partition("://")[2]] = self.name
        self.region: str = address["region"]
        self.token: str | None = address.get("token")


class Swarm:
    """A local swarm: operations of its supervisor, and its agents."""

    def __init__(self, local: LocalSwarm) -> None:
        self.local = local
        self.name = local.name

    def request(self, op: str, /, timeout: float = 120.0, **arguments: Any) -> Any:
        """The result of one operation of the supervisor; ``timeout`` in seconds."""
        return self.local.request(op, timeout=timeout, **arguments)

    def stream(
        self, op: str, /, timeout: float = 120.0, **arguments: Any
    ) -> Iterator[dict[str, Any]]:
        """Lines of an operation as they come; the last has ``done``. ``timeout``: seconds a line, 0 = for ever."""
        return self.local.stream(op, timeout=timeout, **arguments)

    def agent(self, name: str | None = None) -> Agent:
        """One agent; any live one without a name."""
        return Agent(self.request("resolve", name=name))

    def agents(self) -> list[Agent]:
        """All live agents.

        Raises:
            CommandFailed: there is none.
        """
        found = [Agent(each) for each in self.request("resolve-all")["agents"]]
        if not found:
            raise CommandFailed(
                f"swarm {self.name} has no agents",
                "start some with: gossipctl agent spawn --count 5",
            )
        return found

    def stats(self) -> list[dict[str, Any]]:
        """Every live agent's own figures, gathered where they run: name, region, state_hash, leaves, ..."""
        agents: list[dict[str, Any]] = self.request("stats")["agents"]
        return agents

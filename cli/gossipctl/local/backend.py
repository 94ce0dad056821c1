"""The local backend: a supervisor behind a Unix socket, agents behind HTTP on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gossipctl import backend, output
from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed
from gossipctl.local import client
from gossipctl.local.client import LocalSwarm


class Swarm:
    """A swarm on this machine: operations of its supervisor, and its agents."""

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
        return _agent(self.request("resolve", name=name))

    def agents(self) -> list[Agent]:
        """All live agents.

        Raises:
            CommandFailed: there is none.
        """
        found = [_agent(each) for each in self.request("resolve-all")["agents"]]
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

    def expected(self) -> int | None:
        """Nobody says: an agent that is stopped is not missed."""
        return None

    def set_degraded(self, *, enabled: bool) -> bool:
        """Make the swarm read-only, or writable again; whether it is read-only now."""
        return self.agent().degraded_mode(enabled)

    def again(self) -> Swarm:
        """The same swarm over a connection of its own."""
        return Swarm(LocalSwarm(self.name))


def _agent(address: Mapping[str, Any]) -> Agent:
    agent = Agent(address["name"], address["region"], address["api"], address.get("token"))
    backend.NAMES[agent.url.partition("://")[2]] = agent.name
    return agent


class LocalBackend:
    """The life of swarms on this machine."""

    kind = "local"
    place = "on this machine"

    def swarm(self, name: str | None) -> Swarm:
        """The swarm of this name, or the one that is selected."""
        return Swarm(LocalSwarm(name))

    def select(self, name: str | None) -> str:
        """The name of the swarm that is meant; it exists."""
        return client.select(name)

    def exists(self, name: str) -> bool:
        """Whether there is such a swarm."""
        return name in client.names()

    def list_swarms(self) -> list[dict[str, Any]]:
        """Every swarm, running or not."""
        return client.list_swarms()

    def init(self, name: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Make a swarm, start and select it, unless it is there and as it was asked for."""
        from gossipctl.local import lifecycle

        found = self._existing(name, asked)
        if found is not None:
            return found
        return lifecycle.init(**({"name": name} if name else {}), **{"regions": ["local"], **asked})

    def _existing(self, name: str | None, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The status of the swarm that is meant and is already what was asked for: init can be repeated."""
        known = {swarm["name"]: swarm for swarm in client.list_swarms()}
        meant = (
            known.get(name)
            if name
            else next((each for each in known.values() if each["selected"]), None)
        )
        if meant is None or meant["regions"] != asked.get("regions", meant["regions"]):
            return None
        from gossipctl.local import lifecycle

        status = lifecycle.up(meant["name"])
        if any(status.get(flag, value) != value for flag, value in asked.items()):
            return None
        output.note(f"swarm {meant['name']} is there already; nothing changed")
        client.make_current(meant["name"])
        return status

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make a swarm what a manifest says, and select it if none is."""
        from gossipctl.local import lifecycle

        result = lifecycle.apply(manifest)
        if result["created"] or not client.has_swarm():
            client.make_current(result["swarm"])
        return {"kind": "swarm", "name": result["swarm"], **result}

    def up(self, name: str) -> dict[str, Any]:
        """Start a swarm that is down; its status."""
        from gossipctl.local import lifecycle

        return lifecycle.up(name)

    def down(self, name: str) -> bool:
        """Stop a swarm and keep its data; False if it was down already."""
        return LocalSwarm(name).down()

    def delete(self, name: str) -> str:
        """Delete a swarm with all its data."""
        LocalSwarm(name).delete()
        return ""

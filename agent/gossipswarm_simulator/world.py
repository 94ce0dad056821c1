"""The real core of many agents in one virtual world: one clock, one seed, no sockets.

A run is a function of its seed, so whatever it finds can be found again. Time passes only from event to
event; a run of minutes takes as long as its events do.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gossipswarm_agent.core.context import Instant
from gossipswarm_agent.core.effects import Append, Effect, Notify, Reply, Send
from gossipswarm_agent.core.events import (
    Durable,
    Event,
    Leave,
    LocalWrite,
    Mutation,
    PeerList,
    Received,
    Tick,
)
from gossipswarm_agent.core.frames import Address, Frame, Inbound
from gossipswarm_agent.core.identity import NodeIdentity
from gossipswarm_agent.core.messages import Batch, Message, decode, encode
from gossipswarm_agent.core.node import Node
from gossipswarm_agent.core.settings import Settings
from gossipswarm_simulator.network import Network

EPOCH_MS: Final = 1_760_000_000_000
"""Wall clock at the start of every world."""
FSYNC_SECONDS: Final = 0.0005
_HEADER_BYTES: Final = 43
"""Prefix, seal header and tag around a body."""


@dataclass
class Disk:
    """An agent's journal: what a crash of the process keeps, and what a crash of the machine keeps."""

    records: list[bytes] = field(default_factory=list)
    synced: int = 0


@dataclass
class Happening:
    """A notification of one agent."""

    at: float
    agent: str
    event: str
    detail: Mapping[str, Any]


class Agent:
    """One agent's place in the world; ``node`` is None while it is down."""

    def __init__(self, name: str, region: str, port: int) -> None:
        self.name = name
        self.region = region
        self.address: Address = ("sim", port)
        self.disk = Disk()
        self.node: Node | None = None
        self.life = 0
        self.paused_until = 0.0
        self.clock_offset_ms = 0
        self.tick_at = float("inf")
        self.labels: dict[str, str] = {}


class World:
    """Agents, their network and their disks."""

    def __init__(
        self,
        seed: int,
        *,
        settings: Settings | None = None,
        network: Network | None = None,
        datagram_limit: int = 60_000,
    ) -> None:
        self.rng = random.Random(seed)
        self.network = network or Network(self.rng)
        self.settings = settings or Settings()
        self.now = 0.0
        self.agents: dict[str, Agent] = {}
        self.written: list[bytes] = []
        """Every batch that some agent wrote itself, in order."""
        self.happenings: list[Happening] = []
        self.replies: dict[int, Reply] = {}
        self.replied_at: dict[int, float] = {}
        self._datagram_limit = datagram_limit
        self._by_address: dict[Address, Agent] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._tokens = itertools.count(1)
        self._frames = itertools.count(1)

    # --- building ---------------------------------------------------------------------------------

    def add(self, name: str, region: str, **labels: str) -> Agent:
        """Declare an agent; it is down until ``start``."""
        agent = Agent(name, region, 1000 + len(self.agents))
        agent.labels = labels
        self.agents[name] = agent
        self._by_address[agent.address] = agent
        return agent

    def start(self, name: str, *, damaged: bool = False) -> Agent:
        """Bring an agent up from its disk."""
        agent = self.agents[name]
        agent.life += 1
        agent.node = Node(
            NodeIdentity(
                name=name,
                region=agent.region,
                host=agent.address[0],
                port=agent.address[1],
                labels=agent.labels,
                origin=f"{name}/{self._wall(agent)}",
                datagram_limit=self._datagram_limit,
            ),
            self.settings,
            self.rng.getrandbits(32),
            self._instant(agent),
        )
        agent.node.restore(agent.disk.records, damaged=damaged)
        agent.tick_at = float("inf")
        agent.paused_until = 0.0
        self.feed(agent, PeerList(self._seeds(name), self._declared()))
        return agent

    def grow(self, counts: Mapping[str, int]) -> None:
        """Declare and start ``counts[region]`` agents in each region."""
        names = []
        for region, count in counts.items():
            for index in range(1, count + 1):
                names.append(f"{region}-{index}")
                self.add(names[-1], region, host=f"host-{index % 2}")
        for name in names:
            self.start(name)

    def crash(self, name: str, *, machine: bool = False) -> None:
        """Stop an agent without a word. With ``machine``, what was not fsynced is gone."""
        agent = self.agents[name]
        agent.node = None
        if machine:
            del agent.disk.records[agent.disk.synced :]

    def leave(self, name: str) -> None:
        """Stop an agent in an orderly way, for good."""
        agent = self.agents[name]
        self.feed(agent, Leave())
        agent.node = None

    def pause(self, name: str, seconds: float) -> None:
        """Stop an agent's process for a while; what arrives waits in its socket."""
        self.agents[name].paused_until = self.now + seconds

    def _seeds(self, name: str) -> tuple[Address, ...]:
        home = self.agents[name].region
        others = [agent for agent in self.agents.values() if agent.name != name]
        at_home = [agent for agent in others if agent.region == home]
        chosen = [
            *self.rng.sample(at_home, min(2, len(at_home))),
            *self.rng.sample(others, min(2, len(others))),
        ]
        return tuple(dict.fromkeys(agent.address for agent in chosen))

    def _declared(self) -> dict[str, str]:
        return {agent.name: agent.region for agent in self.agents.values()}

    # --- acting -----------------------------------------------------------------------------------

    def write(
        self,
        name: str,
        key: str,
        value: Any = None,
        *,
        op: str = "put",
        traced: bool = False,
        system: bool = False,
    ) -> int:
        """Write at an agent; the token under which ``replies`` will hold the answer."""
        token = next(self._tokens)
        mutation = Mutation(op, key, value)
        self.feed(self.agents[name], LocalWrite(token, (mutation,), traced, system))
        return token

    def feed(self, agent: Agent, event: Event) -> None:
        """Let something happen to an agent now."""
        node = agent.node
        if node is None:
            return
        if agent.paused_until > self.now:
            self.at(agent.paused_until, lambda: self.feed(agent, event), agent)
            return
        effects = node.handle(event, self._instant(agent))
        self._carry_out(agent, effects)
        self._arm(agent)

    def hand_over(self, agent: Agent, message: Message) -> None:
        """Give an agent a message as if it had just come, point to point."""
        number = next(self._frames).to_bytes(12, "big")
        inbound = Inbound(
            Frame(encode(message), number),
            1,
            0,
            agent.address,
            number[:8],
            int.from_bytes(number[8:]),
        )
        self.feed(agent, Received([inbound]))

    def _carry_out(self, agent: Agent, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(agent, effect)
                case Append():
                    agent.disk.records.append(effect.record)
                    if effect.record[1:2] == b"\x01":
                        self._note_written(agent, effect.record)
                    if effect.token is not None:
                        self._fsync(agent, effect.token)
                case Reply():
                    self.replies[effect.token] = effect
                    self.replied_at[effect.token] = self.now
                case Notify():
                    self.happenings.append(
                        Happening(self.now, agent.name, effect.event, effect.detail)
                    )
                case _:
                    pass

    def _note_written(self, agent: Agent, record: bytes) -> None:
        batch = decode(record)
        if isinstance(batch, Batch) and batch.sender == agent.name:
            self.written.append(record)

    def _fsync(self, agent: Agent, token: int) -> None:
        reach = len(agent.disk.records)

        def done() -> None:
            agent.disk.synced = max(agent.disk.synced, reach)
            self.feed(agent, Durable(token))

        self.at(self.now + FSYNC_SECONDS, done, agent)

    def _send(self, agent: Agent, send: Send) -> None:
        frame = send.frame
        if frame.sealed is None:
            frame.sealed = next(self._frames).to_bytes(12, "big")
        for address in send.targets:
            target = self._by_address.get(address)
            if target is None:
                continue
            size = len(frame.body) + _HEADER_BYTES
            for delay in self.network.arrivals(agent.region, target.region, size):
                self.at(self.now + delay, self._delivery(agent, target, send), target)

    def _delivery(self, agent: Agent, target: Agent, send: Send) -> Callable[[], None]:
        sealed = send.frame.sealed
        assert sealed is not None
        inbound = Inbound(
            Frame(send.frame.body, sealed),
            send.hop,
            send.tree,
            (agent.address[0], agent.address[1] + 20_000),
            sealed[:8],
            int.from_bytes(sealed[8:], "big"),
        )
        return lambda: self.feed(target, Received([inbound]))

    # --- time -------------------------------------------------------------------------------------

    def at(self, time: float, action: Callable[[], None], agent: Agent | None = None) -> None:
        """Do something at a time; not if the agent has died by then, or has been restarted."""
        if agent is not None:
            life, inner = agent.life, action

            def action() -> None:
                if agent.life == life and agent.node is not None:
                    inner()

        heapq.heappush(self._queue, (time, next(self._order), action))

    def _arm(self, agent: Agent) -> None:
        assert agent.node is not None
        due = max(agent.node.deadline, self.now)
        if due >= agent.tick_at - 1e-9 or due == float("inf"):
            return
        agent.tick_at = due

        def tick() -> None:
            if agent.tick_at == due:
                agent.tick_at = float("inf")
                if agent.node is not None and agent.node.deadline <= self.now + 1e-9:
                    self.feed(agent, Tick())
                elif agent.node is not None:
                    self._arm(agent)

        self.at(due, tick, agent)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Let time pass until the condition holds; the seconds it took.

        Raises:
            TimeoutError: it does not hold after ``limit`` seconds.
        """
        begun = self.now
        while not condition():
            if not self._queue or self._queue[0][0] > begun + limit:
                raise TimeoutError(f"not within {limit} s of virtual time")
            self._step()
        return self.now - begun

    def _step(self) -> None:
        time, _, action = heapq.heappop(self._queue)
        self.now = max(self.now, time)
        action()

    def _wall(self, agent: Agent) -> int:
        return EPOCH_MS + int(self.now * 1000) + agent.clock_offset_ms

    def _instant(self, agent: Agent) -> Instant:
        return Instant(self.now, self._wall(agent))

    # --- looking ----------------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """Cores of the agents that are up."""
        return [agent.node for agent in self.agents.values() if agent.node is not None]

    def joined(self) -> bool:
        """Every agent that is up knows every other."""
        nodes = self.nodes()
        return all(len(node.membership.live()) == len(nodes) - 1 for node in nodes)

    def converged(self) -> bool:
        """Every agent that is up has seen and holds the same."""
        nodes = self.nodes()
        first = nodes[0]
        return all(
            node.state.vector.hash == first.state.vector.hash
            and not node.state.vector.ahead
            and node.state.state_hash == first.state.state_hash
            for node in nodes[1:]
        )

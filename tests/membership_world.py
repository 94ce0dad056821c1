"""A small network in virtual time that drives membership, regions and floors alone: seeded, no sockets.

It stands in for the node where these parts need one: it routes messages, tells regions whom it heard,
floods, and sends a digest now and then. Everything that is sent is encoded, and decoded where it arrives.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable

from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.effects import Notify, Send
from gossipswarm_agent.core.floors import Floors
from gossipswarm_agent.core.frames import Address, Frame
from gossipswarm_agent.core.membership import DEAD, Membership
from gossipswarm_agent.core.messages import Digest, MemberRecord, Members, Message, decode, encode
from gossipswarm_agent.core.regions import Regions
from gossipswarm_agent.core.settings import Settings
from gossipswarm_agent.core.versions import VersionVector

WALL = 1_700_000_000_000
HOP = (0.0005, 0.003)
"""Seconds between two agents of one region."""
ABROAD = (0.02, 0.04)
FLOOD_DEPTH = 5


class Agent:
    """One member: the three parts on one context, and what a node would do around them."""

    def __init__(
        self,
        world: World,
        name: str,
        region: str,
        address: Address,
        incarnation: int = 1,
        labels: dict[str, str] | None = None,
        settings: Settings | None = None,
        clock_error: int = 0,
    ) -> None:
        self.world = world
        self.clock_error = clock_error
        self.ctx = Context(
            name,
            region,
            settings or world.settings,
            random.Random(f"{world.seed}/{name}/{address}"),
        )
        self.ctx.now = self.now()
        self.ctx.flood = self.flood
        record = MemberRecord(
            name,
            region,
            *address,
            "",
            incarnation,
            0,
            labels or {"host": f"host-{address[1] % 40}"},
        )
        self.membership = Membership(self.ctx, record)
        self.regions = Regions(self.ctx, self.membership)
        self.floors = Floors(self.ctx, self.membership, self.regions)
        self.vector = VersionVector()
        self.address = address
        self.crashed = False
        self.paused_until = 0.0
        self.inbox: list[tuple[Message, int]] = []
        self.wake_at = float("inf")
        self.digest_at = world.now + self.ctx.rng.uniform(0.0, 1.0)
        self.notified: list[tuple[float, str, dict]] = []
        self.wakes = 0
        self.received: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self.ctx.name

    def now(self) -> Instant:
        return Instant(self.world.now, WALL + int(self.world.now * 1000) + self.clock_error)

    def deadline(self) -> float:
        return min(
            self.membership.deadline,
            self.regions.deadline,
            self.floors.deadline,
            self.digest_at,
        )

    def receive(self, message: Message, hop: int) -> None:
        """What the node does with a message."""
        self.received[type(message).__name__] += 1
        self.ctx.now = self.now()
        sender = self.membership.members.get(message.sender)
        if sender is not None and sender.region != self.ctx.region and hop == 1:
            self.regions.heard(sender.region)
        if isinstance(message, Digest):
            if sender is not None and message.members != self.membership.hash:
                self.membership.send_table(sender.address)
        elif not (
            self.membership.handle(message)
            or self.regions.handle(message)
            or self.floors.handle(message)
        ):
            raise AssertionError(f"nobody handles {message}")

    def tick(self) -> None:
        """What the node does when its deadline came."""
        self.wakes += 1
        self.ctx.now = self.now()
        self.ctx.lag = max(0.0, self.world.now - self.wake_at)
        self.membership.tick()
        self.regions.tick()
        self.floors.tick(self.vector)
        if self.world.now >= self.digest_at:
            # The node's pace: every 100 ms for a second after news, then every second.
            recent = self.ctx.now.mono - self.membership._changed_at < 1.0
            self.digest_at = self.world.now + (0.1 if recent else 1.0)
            peers = [m for m in self.membership.live() if self.regions.reachable(m.region)]
            chosen = (
                [self.ctx.rng.choice(peers).address for _ in range(3 if recent else 1)]
                if peers
                else []
            )
            self.ctx.send(chosen, Digest(self.name, 0, self.membership.hash))

    def flood(self, message: Message) -> None:
        """Stands in for the spread trees: every member that this agent holds for reachable, over a few hops."""
        frame = Frame(encode(message))
        for member in self.membership.live():
            if self.regions.reachable(member.region):
                self.world.deliver_flooded(self, member.address, frame)

    def events(self, name: str) -> list[tuple[float, dict]]:
        return [(at, detail) for at, event, detail in self.notified if event == name]


class World:
    """All agents, the clock, and everything that is on its way."""

    def __init__(self, seed: int = 1, settings: Settings | None = None) -> None:
        self.seed = seed
        self.settings = settings or Settings()
        self.rng = random.Random(seed)
        self.now = 0.0
        self.loss = 0.0
        self.blocked: set[tuple[str, str]] = set()
        """(from, to): regions, or names of agents, between which nothing passes."""
        self.agents: dict[str, Agent] = {}
        self.at: dict[Address, Agent] = {}
        self.sent: Counter[str] = Counter()
        self.bytes_sent = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._decoded: dict[int, tuple[Frame, Message]] = {}
        self._ports = 7000

    # --- building ---------------------------------------------------------------------------------

    def add(self, name: str, region: str, seeds: Iterable[Address] = (), **options) -> Agent:
        """Start an agent; it joins by itself."""
        self._ports += 1
        address = options.pop(
            "address", (f"10.0.{self._ports // 250}.{self._ports % 250}", self._ports)
        )
        agent = Agent(self, name, region, address, **options)
        self.agents[name] = agent
        self.at[address] = agent
        agent.ctx.now = agent.now()
        agent.membership.set_peers(tuple(seeds))
        self._carry_out(agent)
        return agent

    def populate(self, sizes: dict[str, int], **options) -> list[Agent]:
        """A swarm whose members all know each other already."""
        made = [
            self.add(f"{region}-{number}", region, **options)
            for region, size in sizes.items()
            for number in range(size)
        ]
        records = [agent.membership.me for agent in made]
        for agent in made:
            agent.receive(Members("", records, flood=False), 1)
            agent.ctx.effects.clear()
            agent.notified.clear()
            agent.membership.set_peers([made[0].address, made[len(made) // 2].address])
            self._carry_out(agent)
        return made

    # --- faults -----------------------------------------------------------------------------------

    def crash(self, *names: str) -> None:
        for name in names:
            self.agents[name].crashed = True

    def pause(self, name: str, seconds: float) -> None:
        agent = self.agents[name]
        agent.paused_until = self.now + seconds
        self._after(seconds, lambda: self._resume(agent))

    def cut(self, *groups: Iterable[str]) -> None:
        """Nothing passes between these groups of regions."""
        sides = [list(group) for group in groups]
        for one in sides:
            for other in sides:
                if one is not other:
                    self.blocked.update((a, b) for a in one for b in other)

    def heal(self) -> None:
        self.blocked.clear()

    # --- time -------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            at, _, action = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float, step: float = 0.01) -> float:
        """Seconds until the condition held; fails after ``limit``."""
        start = self.now
        while not condition():
            assert self.now - start < limit, f"not within {limit} s"
            self.run(step)
        return self.now - start

    # --- views ------------------------------------------------------------------------------------

    def running(self) -> list[Agent]:
        return [agent for agent in self.agents.values() if not agent.crashed]

    def holds_for_gone(self, agent: Agent, name: str) -> bool:
        member = agent.membership.members.get(name)
        return member is None or member.status >= DEAD

    def deaths(self) -> list[tuple[float, str, str]]:
        """(when, who says so, of whom) of every member-down."""
        return sorted(
            (at, agent.name, detail["member"])
            for agent in self.agents.values()
            for at, detail in agent.events("member-down")
        )

    def counted(self, name: str) -> int:
        return sum(agent.ctx.counters.get(name, 0) for agent in self.agents.values())

    # --- the wire ---------------------------------------------------------------------------------

    def deliver_flooded(self, sender: Agent, target: Address, frame: Frame) -> None:
        hops = self.rng.randint(1, FLOOD_DEPTH)
        receiver = self.at.get(target)
        self._count(frame, 1)
        if receiver is None:
            return
        if self._is_blocked(sender, receiver):
            hops = max(2, hops)
            if not any(
                not self._is_blocked(sender, other) and not self._is_blocked(other, receiver)
                for other in self._one_per_region()
            ):
                return
        # Two trees: it arrives unless both lost it on some hop.
        passes = (1.0 - self.loss) ** hops
        if self.rng.random() < passes or self.rng.random() < passes:
            delay = hops * self.rng.uniform(*HOP) + self._abroad(sender, receiver)
            self._after(delay, lambda: self._arrive(receiver, frame, hops))

    def _deliver(self, sender: Agent, target: Address, frame: Frame) -> None:
        self._count(frame, 1)
        receiver = self.at.get(target)
        if receiver is None or self._is_blocked(sender, receiver):
            return
        if self.rng.random() < self.loss and len(frame.body) <= 1400:
            return
        delay = self.rng.uniform(*HOP) + self._abroad(sender, receiver)
        self._after(delay, lambda: self._arrive(receiver, frame, 1))

    def _count(self, frame: Frame, copies: int) -> None:
        kind = type(self._read(frame)).__name__
        self.sent[kind] += copies
        self.bytes_sent += copies * len(frame.body)

    def _abroad(self, sender: Agent, receiver: Agent) -> float:
        return self.rng.uniform(*ABROAD) if sender.ctx.region != receiver.ctx.region else 0.0

    def _one_per_region(self) -> list[Agent]:
        return list({agent.ctx.region: agent for agent in self.running()}.values())

    def _is_blocked(self, sender: Agent, receiver: Agent) -> bool:
        if not self.blocked:
            return False
        return any(
            (one, other) in self.blocked
            for one in (sender.ctx.region, sender.name)
            for other in (receiver.ctx.region, receiver.name)
        )

    def _read(self, frame: Frame) -> Message:
        known = self._decoded.get(id(frame))
        if known is None or known[0] is not frame:
            if len(self._decoded) > 5000:
                self._decoded.clear()
            known = self._decoded[id(frame)] = (frame, decode(frame.body))
        return known[1]

    def _arrive(self, agent: Agent, frame: Frame, hop: int) -> None:
        if agent.crashed:
            return
        message = self._read(frame)
        if self.now < agent.paused_until:
            agent.inbox.append((message, hop))
            return
        agent.receive(message, hop)
        self._carry_out(agent)

    def _resume(self, agent: Agent) -> None:
        if agent.crashed or self.now < agent.paused_until:
            return
        waiting, agent.inbox = agent.inbox, []
        for message, hop in waiting:
            agent.receive(message, hop)
        self._carry_out(agent)
        if agent.wake_at <= self.now:
            self._tick(agent)

    def _tick(self, agent: Agent) -> None:
        if agent.crashed or self.now < agent.wake_at or self.now < agent.paused_until:
            return
        agent.tick()
        agent.wake_at = float("inf")
        self._carry_out(agent)

    def _carry_out(self, agent: Agent) -> None:
        effects, agent.ctx.effects = agent.ctx.effects, []
        for effect in effects:
            if isinstance(effect, Send):
                for target in effect.targets:
                    self._deliver(agent, target, effect.frame)
            elif isinstance(effect, Notify):
                agent.notified.append((self.now, effect.event, effect.detail))
        deadline = agent.deadline()
        if deadline != agent.wake_at:
            agent.wake_at = deadline
            self._at(max(self.now, deadline), lambda: self._tick(agent))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(self.now + seconds, action)

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (moment, self._order, action))

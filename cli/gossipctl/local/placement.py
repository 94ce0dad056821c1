"""Which worker hosts an agent, what an agent is called, and whom it asks for the way in. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gossipctl.local.spec import AgentRecord

SEEDS: Final = 5
SEEDS_AT_HOME: Final = 3

Seed = tuple[str, int, str]
"""Host, gossip port, region."""


def choose_worker(agents: Iterable[AgentRecord], region: str, workers: int) -> int:
    """The worker with the fewest agents of this region, then with the fewest at all.

    So each region is spread over the workers, and losing one worker takes a share of every region.
    """
    at_home: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for agent in agents:
        total[agent.worker] += 1
        at_home[agent.worker] += agent.region == region
    return min(range(workers), key=lambda worker: (at_home[worker], total[worker], worker))


def fresh_names(prefix: str, taken: Mapping[str, object], count: int, first: int = 1) -> list[str]:
    """``count`` names ``prefix-<number>`` that nobody has, numbers from ``first`` up."""
    names: list[str] = []
    number = first
    while len(names) < count:
        name = f"{prefix}-{number}"
        if name not in taken:
            names.append(name)
        number += 1
    return names


class SeedPool:
    """Agents that have been up, by region, to draw seeds from."""

    def __init__(self, agents: Iterable[AgentRecord], host: str) -> None:
        self._host = host
        self._by_region: dict[str, list[AgentRecord]] = {}
        for agent in agents:
            if agent.gossip_port and agent.wanted == "running":
                self._by_region.setdefault(agent.region, []).append(agent)

    def draw(self, agent: AgentRecord) -> list[Seed]:
        """Three of the agent's own region and two of others; more of either if the other lacks.

        Drawn by the agent's name, so that they neither change with every answer nor are the same for all.
        """
        draw = random.Random(agent.name)
        at_home = self._by_region.get(agent.region, [])
        near = [other for other in _sample(draw, at_home, SEEDS + 1) if other is not agent]
        abroad: list[AgentRecord] = []
        for region in draw.sample(sorted(self._by_region), len(self._by_region)):
            if region != agent.region:
                abroad += _sample(draw, self._by_region[region], SEEDS)
        # One of each other region before a second of any.
        far = abroad[::SEEDS] + [other for n, other in enumerate(abroad) if n % SEEDS]
        near = near[: max(SEEDS_AT_HOME, SEEDS - len(far))]
        return [
            (self._host, other.gossip_port, other.region)
            for other in [*near, *far[: SEEDS - len(near)]]
        ]


def _sample(draw: random.Random, agents: Sequence[AgentRecord], count: int) -> list[AgentRecord]:
    return draw.sample(agents, min(count, len(agents)))


def choose_surplus(agents: Iterable[AgentRecord], region: str, replicas: int) -> list[AgentRecord]:
    """Agents of a region beyond ``replicas``: the newest first, like a StatefulSet's highest ordinals."""
    mine = [agent for agent in agents if agent.region == region]
    return mine[replicas:][::-1]

"""Which worker hosts an agent, what an agent is called, and whom it asks for the way in. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gossipctl.local.spec import AgentRecord

SEEDS_AT_HOME: Final = 3
SEEDS_ABROAD: Final = 2

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


def choose_seeds(agent: AgentRecord, agents: Iterable[AgentRecord], host: str) -> list[Seed]:
    """A few agents that have been up: three of the own region, two of others, more of either if the other
    lacks.

    Drawn by the agent's name, so that they neither change with every answer nor are the same for all.
    """
    home: list[AgentRecord] = []
    abroad: list[AgentRecord] = []
    for other in agents:
        if other.gossip_port and other.wanted == "running" and other.name != agent.name:
            (home if other.region == agent.region else abroad).append(other)
    draw = random.Random(agent.name)
    near = _sample(draw, home, max(SEEDS_AT_HOME, SEEDS_AT_HOME + SEEDS_ABROAD - len(abroad)))
    far = _sample(draw, abroad, SEEDS_AT_HOME + SEEDS_ABROAD - len(near))
    return [(host, other.gossip_port, other.region) for other in [*near, *far]]


def _sample(
    draw: random.Random, agents: Sequence[AgentRecord], count: int
) -> Sequence[AgentRecord]:
    return draw.sample(agents, min(count, len(agents)))


def choose_surplus(agents: Iterable[AgentRecord], region: str, replicas: int) -> list[AgentRecord]:
    """Agents of a region beyond ``replicas``: the newest first, like a StatefulSet's highest ordinals."""
    mine = [agent for agent in agents if agent.region == region]
    return mine[replicas:][::-1]

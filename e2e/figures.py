"""Measuring one swarm in a cluster: each function does something and says how long it took."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from e2e.cluster import Failed, until
from e2e.cut import Cut
from e2e.swarm import Swarm
from gossipctl.kubernetes.backend import KubernetesBackend
from gossipctl.kubernetes.resources import custom
from gossipctl.kubernetes.roster import holds
from gossipctl.kubernetes.watching import snapshots

WRITES: Final = 200
PAUSE: Final = 0.1
"""Seconds between two writes: above some tens a second agents would take the path for busy times."""
RECEIPT_SECONDS: Final = 10.0
CONFIGS: Final = 20
AGREE_SECONDS: Final = 60.0


class Spread(NamedTuple):
    """Milliseconds, one of each a write."""

    threshold: list[float]
    """Until the share of agents that counts as converged had it."""
    everybody: list[float]


class Drill(NamedTuple):
    """A cut from its order to its end. Seconds from the order, but for agents': milliseconds of their own clocks."""

    enforced: float
    """Until probes had shown it."""
    noticed_ms: list[float]
    """By agent: from the last word of the other side until it was declared."""
    detected: float
    """Until the object said so."""
    gone: float
    """From the deletion of the object until there was none."""
    agreed: float
    """From the deletion until all agents had the same value of a key that both sides had written."""


def writes(swarm: Swarm) -> Spread:
    """Traced writes, each at an agent chosen at random, by the receipts of all agents."""
    chance = random.Random(1)
    agents = swarm.agents()
    spread = Spread([], [])
    for number in range(WRITES):
        agent = chance.choice(agents)
        dot = agent.set(f"figures.{number % 20}", number, trace=True).dot
        time.sleep(PAUSE)

        def arrived(agent: Any = agent, dot: str = dot) -> Any | None:
            found = agent.convergence(dot)
            return found if found.full_ms is not None else None

        found = until("receipts of all agents", arrived, RECEIPT_SECONDS, every=0.05)
        spread.threshold.append(found.duration_ms)
        spread.everybody.append(found.full_ms)
    return spread


def configurations(swarm: Swarm) -> list[float]:
    """Seconds from each apply of a SwarmConfig until its condition Converged was there to be seen, by a watch."""
    api = KubernetesBackend(swarm.cluster.context, swarm.namespace).api
    path = custom("swarmconfigs", swarm.namespace)
    taken = []
    for number in range(CONFIGS):
        began = time.monotonic()
        made = api.apply(
            f"{path}/figures",
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "SwarmConfig",
                "metadata": {"name": "figures"},
                "spec": {
                    "swarmRef": {"name": swarm.name},
                    "prefix": "figures.config",
                    "data": {"number": number, "text": "x" * 200},
                },
            },
        )
        generation = made["metadata"]["generation"]
        for found in snapshots(api, path, AGREE_SECONDS, fieldSelector="metadata.name=figures"):
            config = found.get("figures", {})
            seen = config.get("status", {}).get("observedGeneration")
            if seen == generation and holds(config, "Converged"):
                break
        else:
            raise Failed(f"a SwarmConfig was not delivered within {AGREE_SECONDS:g} s")
        taken.append(time.monotonic() - began)
    return taken


def drill(swarm: Swarm, one: str, others: Sequence[str]) -> Drill:
    """Cut a region off, write on both sides, heal."""
    cut = Cut(swarm, "figures")
    began = time.monotonic()
    cut.make([one], list(others))
    cut.wait("Enforced")
    enforced = time.monotonic() - began
    cut.wait("Detected")
    detected = time.monotonic() - began
    swarm.write("figures.cut", "there", at=f"{others[0]}-0")
    swarm.write("figures.cut", "here", at=f"{one}-0")
    noticed = [
        each["detection_ms"]
        for agent in swarm.agents()
        for each in agent.partition().raw["cuts"]
        if each["detection_ms"] is not None
    ]
    began = time.monotonic()
    cut.delete()
    gone = time.monotonic() - began
    agents = len(swarm.agents())
    swarm.agree("figures.cut", "here", agents, AGREE_SECONDS)
    return Drill(enforced, noticed, detected, gone, time.monotonic() - began)


def timed(what: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.monotonic()
    what()
    return time.monotonic() - began

"""What happens to a swarm in an order that a seed decides: cuts and heals, kills of agents and of the operator, nodes that stand still."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Final

from e2e import nodes
from e2e.cluster import Cluster, Failed, until
from e2e.cut import Cut
from e2e.installation import SYSTEM
from e2e.ledger import Ledger
from e2e.swarm import REGIONS, Swarm

COUNTS: Final = {"cut": 4, "heal": 3, "kill_agent": 4, "kill_operator": 2, "stop_node": 2}
"""How often each is done."""
TOGETHER: Final = 2
"""Cuts that overlap at most."""
ENFORCED_SECONDS: Final = 60
SERVED_SECONDS: Final = 30.0


def kill(cluster: Cluster, namespace: str, *pods: str) -> None:
    """End pods at once and without a word, ``--all`` for each of the namespace."""
    cluster.kubectl(
        "-n", namespace, "delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false"
    )


class Disturbances:
    """Makes them, one after the other, and tells what it does.

    Args:
        swarm: with regions bound to nodes of a kind cluster, ``replicas`` agents in each.
        ledger: of those who write meanwhile.
    """

    def __init__(self, swarm: Swarm, replicas: int, ledger: Ledger, seed: int) -> None:
        self._swarm = swarm
        self._replicas = replicas
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._names = (f"cut-{number}" for number in itertools.count(1))
        self._cuts: list[Cut] = []
        self._began = time.monotonic()
        self.held = 0
        """Cuts of which probes have shown that they hold, while every region went on acknowledging writes."""

    def run(self) -> None:
        """All of them, and then heal. Raises Failed."""
        deeds: dict[str, Callable[[], None]] = {
            "cut": self._cut,
            "heal": self._heal,
            "kill_agent": self._kill_agent,
            "kill_operator": self._kill_operator,
            "stop_node": self._stop_node,
        }
        order = [name for name, count in COUNTS.items() for _ in range(count)]
        self._chance.shuffle(order)
        for name in order:
            deeds[name]()
            time.sleep(self._chance.uniform(0.5, 4.0))
        while self._cuts:
            self._heal()

    def _tell(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s: {what}", flush=True)

    def _cut(self) -> None:
        cut = self._order_cut()
        cut.wait("Enforced", ENFORCED_SECONDS)
        before = self._ledger.by_region()

        def served() -> bool | None:
            now = self._ledger.by_region()
            return all(now[region] > before[region] for region in REGIONS) or None

        until(f"every region acknowledges writes under {cut.name}", served, SERVED_SECONDS)
        self.held += 1

    def _order_cut(self) -> Cut:
        if len(self._cuts) == TOGETHER:
            self._heal()
        regions = self._chance.sample(REGIONS, len(REGIONS))
        groups = self._chance.choice(([regions[:1]], [[region] for region in regions]))
        cut = Cut(self._swarm, next(self._names))
        self._tell(f"{cut.name} of {groups}")
        cut.make(*groups)
        self._cuts.append(cut)
        return cut

    def _heal(self) -> None:
        if not self._cuts:
            self._tell("nothing to heal")
            return
        cut = self._cuts.pop(self._chance.randrange(len(self._cuts)))
        self._tell(f"heal {cut.name}")
        cut.delete()

    def _kill_agent(self) -> None:
        agent = f"{self._chance.choice(REGIONS)}-{self._chance.randrange(self._replicas)}"
        self._tell(f"kill {agent}")
        kill(self._swarm.cluster, self._swarm.namespace, self._swarm.pod(agent))

    def _kill_operator(self) -> None:
        self._tell("kill both replicas of the operator")
        kill(self._swarm.cluster, SYSTEM, "--all")

    def _stop_node(self) -> None:
        region = self._chance.choice(REGIONS)
        meanwhile = self._chance.choice((self._order_cut, self._kill_agent))
        self._tell(f"the node of {region} stands still")
        with nodes.stopped(nodes.of_region(self._swarm.cluster, region)):
            meanwhile()
            time.sleep(self._chance.uniform(3.0, 12.0))
        self._tell(f"the node of {region} goes on")


def agreed(swarm: Swarm, agents: int, seconds: float) -> None:
    """Wait until so many agents have one state. Raises Failed with the hashes that they say."""
    seen: dict[str, str] = {}

    def same() -> bool | None:
        seen.clear()
        seen.update({agent.name: agent.agent().state_hash for agent in swarm.agents()})
        return (len(seen) == agents and len(set(seen.values())) == 1) or None

    try:
        until(f"{agents} agents have one state", same, seconds)
    except Failed as failed:
        raise Failed(f"{failed}; they say {seen}") from None

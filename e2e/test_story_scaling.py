"""Agents and regions come and go while people write."""

from __future__ import annotations

from e2e.ledger import Ledger
from e2e.swarm import Swarm, plain


def test_nothing_is_lost_when_a_swarm_grows_and_shrinks(swarm: Swarm) -> None:
    swarm.apply(regions=plain(), replicasPerRegion=1)
    swarm.settled(3)
    with Ledger(swarm) as ledger:
        swarm.scale(3)
        swarm.settled(9)
        swarm.scale(1)
        swarm.settled(3)
    assert len(ledger.lines) > 50
    ledger.check(agents=3)


def test_nothing_is_lost_when_a_region_is_added_and_another_removed(swarm: Swarm) -> None:
    swarm.apply(regions=plain(("us-east", "us-west")), replicasPerRegion=2)
    swarm.settled(4)
    swarm.write("origin", "us-west", at="us-west-0")
    with Ledger(swarm) as ledger:
        swarm.patch(regions=plain(("us-east", "us-west", "eu-central")))
        swarm.settled(6)
        swarm.patch(regions=plain(("us-east", "eu-central")))
        swarm.settled(4)
    assert len(ledger.lines) > 50
    ledger.check(agents=4)
    swarm.agree("origin", "us-west", agents=4)

"""Where agents are put, and whom they ask for the way in."""

from __future__ import annotations

from collections import Counter

from gossipctl.local.placement import SeedPool, choose_surplus, choose_worker, fresh_names
from gossipctl.local.spec import AgentRecord

REGIONS = ("us-east", "us-west", "eu-central")


def population(per_region, workers=4):
    agents = []
    for region in REGIONS:
        for number in range(per_region):
            worker = choose_worker(agents, region, workers)
            port = 20_000 + len(agents)
            agents.append(AgentRecord(f"{region}-{number}", region, worker, gossip_port=port))
    return agents


def test_each_region_is_spread_over_all_workers():
    agents = population(50)
    assert max(Counter(agent.worker for agent in agents).values()) <= 38
    for region in REGIONS:
        shares = Counter(agent.worker for agent in agents if agent.region == region)
        assert sorted(shares.values()) == [12, 12, 13, 13]


def test_small_regions_do_not_pile_up_on_the_first_worker():
    shares = Counter(agent.worker for agent in population(1, workers=3))
    assert sorted(shares.values()) == [1, 1, 1]


def test_seeds_are_five_others_mostly_of_the_own_region():
    agents = population(50)
    pool = SeedPool(agents, "127.0.0.1")
    for agent in agents:
        seeds = pool.draw(agent)
        assert len({port for _, port, _ in seeds}) == 5
        assert agent.gossip_port not in [port for _, port, _ in seeds]
        assert sum(region == agent.region for _, _, region in seeds) == 3
        assert len({region for _, _, region in seeds}) == 3


def test_the_only_region_lends_all_seeds():
    agents = population(50)[:50]
    assert len(SeedPool(agents, "127.0.0.1").draw(agents[7])) == 5


def test_the_first_agent_of_a_region_asks_other_regions():
    agents = population(50)
    newcomer = AgentRecord("new", "ap-south", 0)
    assert len(SeedPool(agents, "127.0.0.1").draw(newcomer)) == 5


def test_the_first_agent_of_all_has_nobody_to_ask():
    newcomer = AgentRecord("new", "us-east", 0)
    assert SeedPool([newcomer], "127.0.0.1").draw(newcomer) == []


def test_no_agent_is_everybodys_seed():
    agents = population(50)
    pool = SeedPool(agents, "127.0.0.1")
    asked = Counter(port for agent in agents for _, port, _ in pool.draw(agent))
    assert max(asked.values()) <= 25


def test_stopped_agents_are_no_seeds():
    agents = population(2)
    for agent in agents[1:]:
        agent.wanted = "stopped"
    assert SeedPool(agents, "127.0.0.1").draw(agents[0]) == []


def test_fresh_names_fill_gaps():
    assert fresh_names("gossip-us-east", {"gossip-us-east-2": None}, 3) == [
        "gossip-us-east-1",
        "gossip-us-east-3",
        "gossip-us-east-4",
    ]


def test_scaling_down_takes_the_newest_first():
    agents = population(3)
    surplus = choose_surplus(agents, "us-west", 1)
    assert [agent.name for agent in surplus] == ["us-west-2", "us-west-1"]
    assert choose_surplus(agents, "us-west", 5) == []

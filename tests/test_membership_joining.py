"""Coming, going, coming back; halves that forgot each other; ghosts; two processes with one name."""

from __future__ import annotations

import pytest

from gossipswarm_agent.core.membership import ALIVE, DEAD, LEFT
from gossipswarm_agent.core.messages import MemberRecord, Members, encode
from gossipswarm_agent.core.settings import DEFAULTS, Settings, merge
from membership_world import Agent, World

NO_DETECTION = merge(DEFAULTS, {"partition_detection": False})
SEEDS = [("10.0.28.1", 7001), ("10.0.28.2", 7002), ("10.0.28.3", 7003)]


def all_know(world: World, size: int):
    return lambda: all(agent.membership.size == size for agent in world.running())


def agree(world: World) -> bool:
    return len({agent.membership.hash for agent in world.running()}) == 1


def test_150_agents_that_start_together_all_know_each_other_within_2_s():
    world = World(1)
    for number in range(150):
        region = ("us-east", "us-west", "eu-central")[number % 3]
        world.add(f"{region}-{number}", region, seeds=SEEDS)
        world.run(0.001)

    world.run_until(all_know(world, 150), 2.0)
    world.run(3.0)
    assert agree(world)
    assert world.deaths() == []
    assert world.counted("link_states") == 0


def test_50_agents_that_join_together_cost_one_table_each_and_little_news():
    world = World(2)
    made = world.populate({"us-east": 100, "us-west": 50})
    world.run(1.0)
    bytes_before = world.bytes_sent
    tables_before = world.counted("tables_sent")
    table = world.running()[0]
    table_bytes = 120 * table.membership.size
    for number in range(50):
        world.add(f"new-{number}", "us-west", seeds=[agent.address for agent in made[:3]])

    world.run_until(all_know(world, 200), 2.0)
    world.run(1.0)
    assert agree(world)
    assert world.counted("joins") <= 60
    assert world.counted("tables_sent") - tables_before <= 100
    # Far from every joiner's table for everybody: 200 x 200 records.
    assert world.bytes_sent - bytes_before <= 300 * table_bytes


def test_news_fits_a_datagram():
    world = World(3)
    made = world.populate({"us-east": 20})
    world.run(0.5)
    sizes = []
    for agent in made:
        flood = agent.ctx.flood

        def measured(message, flood=flood):
            if isinstance(message, Members):
                sizes.append((len(message.records), len(encode(message))))
            flood(message)

        agent.ctx.flood = measured
    for number in range(60):
        labels = {"host": f"worker-node-{number}.example.internal", "zone": "a"}
        world.add(f"gossip-us-east-{number}", "us-east", seeds=[made[0].address], labels=labels)
    world.run_until(all_know(world, 80), 3.0)

    assert max(records for records, _ in sizes) >= 8
    assert max(octets for _, octets in sizes) <= 1350


def test_seeds_that_do_not_answer_are_asked_ever_more_slowly_for_ever():
    world = World(4)
    world.add("early", "us-east", seeds=[("10.0.28.9", 7777)])
    world.run(1.5)
    first = world.sent["Join"]
    world.run(58.5)

    assert 3 <= first <= 6
    assert 10 <= world.sent["Join"] - first <= 25
    world.add("late", "us-east", address=("10.0.28.9", 7777))
    world.run_until(all_know(world, 2), 6.1)


@pytest.mark.parametrize("seed", range(2))
def test_halves_that_hold_each_other_for_dead_meet_again(seed):
    world = World(seed, NO_DETECTION)
    world.populate({"us-east": 25, "us-west": 25, "eu-central": 25})
    world.run(1.0)
    world.cut(["us-east"], ["us-west", "eu-central"])
    world.run_until(
        lambda: all(
            agent.membership.size == (25 if agent.ctx.region == "us-east" else 50)
            for agent in world.running()
        ),
        30.0,
        0.1,
    )
    assert world.counted("link_states") == 0
    world.run(3.0)
    world.heal()
    healed_at = world.now

    world.run_until(all_know(world, 75), 6.0)
    world.run(3.0)
    assert agree(world)
    # Meeting again is no reason to bury anybody.
    assert [death for death in world.deaths() if death[0] > healed_at] == []


def test_an_agent_that_leaves_is_gone_at_once_and_not_suspected():
    world = World(5)
    made = world.populate({"us-east": 20, "us-west": 20})
    world.run(1.0)
    leaver = made[7]
    leaver.ctx.now = leaver.now()
    leaver.membership.leave()
    world._carry_out(leaver)
    world.run(0.2)
    world.crash(leaver.name)

    assert {a.membership.members[leaver.name].status for a in world.running()} == {LEFT}
    world.run(3.0)
    assert world.counted("suspicions") == 0
    assert made[0].membership.counts()["us-east", "left"] == 1


def test_an_agent_that_restarts_elsewhere_is_known_there_at_once():
    world = World(6)
    made = world.populate({"us-east": 20, "us-west": 20})
    world.run(1.0)
    world.crash("us-east-4")
    again = world.add(
        "us-east-4", "us-east", seeds=[made[0].address], incarnation=2, address=("10.1.1.1", 9000)
    )

    def moved() -> bool:
        return all(
            agent is again or agent.membership.members["us-east-4"].address == again.address
            for agent in world.running()
        )

    assert world.run_until(moved, 1.0) < 0.3
    assert again.membership.me.incarnation == 2


def test_an_agent_that_lost_its_journal_rises_above_the_incarnation_it_died_in():
    world = World(7)
    made = world.populate({"us-east": 20})
    world.run(1.0)
    world.crash("us-east-4")
    dead = MemberRecord("us-east-4", "us-east", "10.9.9.9", 1, "", 6, DEAD)
    for agent in made:
        if agent.name != "us-east-4":
            agent.receive(Members("us-east-1", [dead]), 2)
            world._carry_out(agent)
    world.run(0.1)
    again = world.add("us-east-4", "us-east", seeds=[made[0].address], address=("10.1.1.1", 9000))

    world.run_until(all_know(world, 20), 1.0)
    assert again.membership.me.incarnation == 7


# --- ghosts ---------------------------------------------------------------------------------------


def declare(world: World, names) -> None:
    for agent in world.running():
        agent.ctx.now = agent.now()
        agent.membership.set_peers([], {name: name.rpartition("-")[0] for name in names})
        world._carry_out(agent)


def forget(world: World, name: str) -> None:
    world.crash(name)
    declare(world, [agent.name for agent in world.running()])
    world.run_until(
        lambda: all(name not in agent.membership.members for agent in world.running()), 20.0, 0.1
    )


def test_the_dead_are_forgotten_once_they_are_not_declared_any_more():
    world = World(8)
    world.populate({"us-east": 10})
    world.crash("us-east-3")
    world.run(30.0)
    assert all("us-east-3" in agent.membership.members for agent in world.running())

    forget(world, "us-east-3")
    assert agree(world)


@pytest.mark.parametrize("status", [ALIVE, DEAD])
def test_a_ghost_does_not_return(status):
    world = World(9)
    made = world.populate({"us-east": 10})
    forget(world, "us-east-3")
    ghost = MemberRecord("us-east-3", "us-east", *made[3].address, "", 1, status)
    for agent in made[:3]:
        agent.receive(Members("us-east-9", [ghost], flood=status == ALIVE), 1)
        world._carry_out(agent)
    world.run(1.0)

    assert all("us-east-3" not in agent.membership.members for agent in world.running())


def test_a_forgotten_agent_may_come_back_in_a_higher_incarnation():
    world = World(10)
    made = world.populate({"us-east": 10})
    forget(world, "us-east-3")
    again = world.add("us-east-3", "us-east", seeds=[made[0].address], address=made[3].address)

    world.run_until(all_know(world, 10), 2.0)
    assert again.membership.me.incarnation == 2


def test_members_of_a_removed_region_beyond_a_cut_are_forgotten():
    world = World(11)
    made = world.populate({"us-east": 10, "us-west": 10})
    declare(world, [agent.name for agent in made])
    world.run(1.0)
    world.cut(["us-east"], ["us-west"])
    world.run(1.0)
    east = [agent for agent in world.running() if agent.ctx.region == "us-east"]
    assert all(agent.regions.groups() == (("us-east",), ("us-west",)) for agent in east)
    world.crash(*(agent.name for agent in world.running() if agent.ctx.region == "us-west"))
    declare(world, [agent.name for agent in east])

    world.run_until(lambda: all(a.regions.groups() == (("us-east",),) for a in east), 7.0, 0.1)
    assert all(agent.membership.size == 10 for agent in east)


def test_the_table_is_bounded_and_the_dead_make_room():
    world = World(12, merge(DEFAULTS, {"max_agents": 10}))
    made = world.populate({"us-east": 10})
    world.run(0.5)
    late = world.add("late", "us-east", seeds=[made[0].address])
    world.run(2.0)
    assert made[0].membership.size == 10
    assert made[0].ctx.counters["members_refused"] > 0

    world.crash("us-east-5")
    world.run_until(lambda: late.name in made[0].membership.members, 8.0)
    assert "us-east-5" not in made[0].membership.members


# --- one name, two processes ----------------------------------------------------------------------


def twins(seed: int, address, incarnation: int) -> tuple[World, Agent, Agent]:
    world = World(seed, Settings())
    made = world.populate({"us-east": 20, "us-west": 20})
    world.run(1.0)
    old = made[3]
    new = world.add(
        old.name, "us-east", seeds=[made[5].address], address=address, incarnation=incarnation
    )
    world.agents["old"] = old
    world.run(1.0)
    return world, old, new


def held_addresses(world: World, name: str) -> set:
    return {
        agent.membership.members[name].address for agent in world.running() if agent.name != name
    }


@pytest.mark.parametrize(
    ("address", "incarnation", "new_one_wins"),
    [
        (("10.9.9.9", 9999), 1, True),
        (("10.0.0.0", 1), 1, False),
        (("10.0.0.0", 1), 2, True),
    ],
)
def test_of_two_processes_with_one_name_everybody_holds_the_same(
    address, incarnation, new_one_wins
):
    world, old, new = twins(13, address, incarnation)
    winner, loser = (new, old) if new_one_wins else (old, new)

    assert held_addresses(world, old.name) == {winner.address}
    assert loser.membership.outranked
    assert not winner.membership.outranked
    assert world.counted("name_conflicts") > 0
    assert loser.events("name-conflict") or winner.events("name-conflict") or new_one_wins
    # The one nobody answers does not take everybody for dead.
    world.run(15.0)
    assert world.deaths() == []
    assert world.counted("suspicions") == 0


def test_the_outranked_process_takes_over_when_the_other_is_gone():
    world, old, new = twins(14, ("10.9.9.9", 9999), 1)
    assert old.membership.outranked
    del world.agents["old"]
    world.agents[old.name] = old
    new.crashed = True

    world.run_until(lambda: held_addresses(world, old.name) == {old.address}, 10.0)
    assert not old.membership.outranked


def test_a_name_conflict_is_told_once():
    world, old, _ = twins(15, ("10.9.9.9", 9999), 1)
    world.run(10.0)
    for agent in world.running():
        assert len(agent.events("name-conflict")) <= 1
    told = [detail for agent in world.running() for _, detail in agent.events("name-conflict")]
    assert told[0] == {
        "member": old.name,
        "incarnation": 1,
        "holder": "10.9.9.9:9999",
        "loser": f"{old.address[0]}:{old.address[1]}",
    }


def test_members_that_are_newer_than_the_declaration_are_there_after_a_cut():
    world = World(13)
    made = world.populate({"us-east": 4, "us-west": 4})
    declare(world, [agent.name for agent in made if agent.name[-1] in "01"])
    world.run(1.0)
    world.cut(["us-east"], ["us-west"])
    world.run(20.0)
    world.heal()

    world.run_until(all_know(world, 8), 5.0)


def test_one_that_was_forgotten_but_lives_learns_of_it_and_comes_back():
    world = World(14)
    made = world.populate({"us-east": 5, "us-west": 5})
    declare(world, [agent.name for agent in made])
    world.run(1.0)
    world.cut(["us-east"], ["us-west"])
    world.run(1.0)
    east = [agent for agent in world.running() if agent.ctx.region == "us-east"]
    for agent in east:
        agent.membership.set_peers([], {each.name: each.ctx.region for each in east})
    world.run(10.0)
    assert all(agent.membership.size == 5 for agent in east)
    world.heal()
    declare(world, [agent.name for agent in made])

    world.run_until(all_know(world, 10), 10.0)
    assert all(agent.membership.size == 10 for agent in east)

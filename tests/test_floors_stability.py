"""Causal stability: the floor is what every declared member has, it rises by itself, and costs little."""

from __future__ import annotations

from membership_world import World

SIZES = {"us-east": 20, "us-west": 20, "eu-central": 20}


def swarm(seed: int, sizes=SIZES) -> World:
    world = World(seed)
    world.populate(sizes)
    declare(world)
    world.run(3.0)
    return world


def declare(world: World, *, without: tuple[str, ...] = ()) -> None:
    names = {n: a.ctx.region for n, a in world.agents.items() if n not in without}
    seeds = [agent.address for agent in world.running()[:2]]
    for agent in world.running():
        agent.ctx.now = agent.now()
        agent.membership.set_peers(seeds, names)
        world._carry_out(agent)


def write(world: World, origin: str, last: int, *, except_on: tuple[str, ...] = ()) -> None:
    """Everybody has seen this origin's writes up to ``last``, but for some."""
    for agent in world.running():
        if agent.name not in except_on:
            agent.vector.add(origin, agent.vector.seen.get(origin, 0) + 1, last)


def floor_is(world: World, expected: dict[str, int] | None):
    return lambda: all(agent.floors.floor() == expected for agent in world.running())


def test_what_everybody_has_is_stable_everywhere_within_3_s():
    world = swarm(1)
    write(world, "us-east-1/1", 7)
    write(world, "us-west-2/1", 9)

    world.run_until(floor_is(world, {"us-east-1/1": 7, "us-west-2/1": 9}), 3.0)


def test_one_member_that_lacks_something_holds_the_floor_down():
    world = swarm(2)
    write(world, "us-east-1/1", 7)
    world.run_until(floor_is(world, {"us-east-1/1": 7}), 3.0)
    write(world, "us-east-1/1", 12, except_on=("eu-central-5",))
    world.run(20.0)
    assert floor_is(world, {"us-east-1/1": 7})()

    late = world.agents["eu-central-5"]
    late.vector.add("us-east-1/1", 8, 11)
    world.run_until(floor_is(world, {"us-east-1/1": 11}), 3.0)
    late.vector.add("us-east-1/1", 12, 12)
    world.run_until(floor_is(world, {"us-east-1/1": 12}), 3.0)


def test_a_dead_member_holds_the_floor_until_it_is_not_declared_any_more():
    world = swarm(3)
    write(world, "us-east-1/1", 7)
    world.run_until(floor_is(world, {"us-east-1/1": 7}), 3.0)
    world.crash("us-west-3")
    write(world, "us-east-1/1", 12)
    world.run(20.0)
    assert all(a.floors.floor() in (None, {"us-east-1/1": 7}) for a in world.running())

    declare(world, without=("us-west-3",))
    world.run_until(floor_is(world, {"us-east-1/1": 12}), 35.0, 0.1)


def test_a_declared_member_that_never_came_leaves_the_floor_unknown():
    world = World(4)
    world.populate({"us-east": 10, "us-west": 10})
    for agent in world.running():
        names = {name: other.ctx.region for name, other in world.agents.items()}
        agent.ctx.now = agent.now()
        agent.membership.set_peers([], {**names, "us-west-99": "us-west"})
    write(world, "us-east-1/1", 7)
    world.run(20.0)

    assert floor_is(world, None)()
    assert set(world.running()[0].floors.region_floors()) == {"us-east"}


def test_the_floor_rises_again_after_its_relay_died():
    world = swarm(5)
    write(world, "us-east-1/1", 7)
    world.run_until(floor_is(world, {"us-east-1/1": 7}), 3.0)
    relay = world.running()[0].regions.relays("us-west")[0].name
    world.crash(relay)
    declare(world, without=(relay,))
    write(world, "us-east-1/1", 12)

    world.run_until(floor_is(world, {"us-east-1/1": 12}), 8.0, 0.1)


def test_a_new_relay_whose_clock_is_behind_is_believed_all_the_same():
    world = World(6)
    world.populate({"us-east": 10, "us-west": 10}, clock_error=3_600_000)
    declare(world)
    write(world, "us-east-1/1", 7)
    world.run_until(floor_is(world, {"us-east-1/1": 7}), 5.0)
    seeds = [world.running()[0].address]
    weight = world.running()[0].regions.relays("us-east")[0].weight
    number = 0
    while True:  # a name that outweighs the present relay
        number += 1
        newcomer = world.add(f"late-{number}", "us-east")
        world.agents.pop(newcomer.name)
        newcomer.crashed = True
        if newcomer.membership._table.own.weight > weight:
            break
    newcomer = world.add(newcomer.name, "us-east", seeds=seeds)
    newcomer.vector.add("us-east-1/1", 1, 7)
    declare(world)
    world.run_until(lambda: newcomer.regions.is_relay and newcomer.membership.size == 21, 3.0)
    assert newcomer.regions.relays("us-east")[0].name == newcomer.name
    write(world, "us-east-1/1", 9)

    world.run_until(floor_is(world, {"us-east-1/1": 9}), 25.0, 0.1)


def test_beyond_a_cut_nothing_becomes_stable_and_after_it_everything_does():
    world = swarm(7)
    write(world, "us-east-1/1", 7)
    world.run_until(floor_is(world, {"us-east-1/1": 7}), 3.0)
    world.cut(["us-east"], ["us-west", "eu-central"])
    world.run(1.0)
    beyond = tuple(a.name for a in world.running() if a.ctx.region != "us-east")
    write(world, "us-east-1/1", 12, except_on=beyond)
    world.run(10.0)
    assert floor_is(world, {"us-east-1/1": 7})()

    world.heal()
    world.run(0.5)
    write(world, "us-east-1/1", 12)
    world.run_until(floor_is(world, {"us-east-1/1": 12}), 4.0)


def test_when_all_have_the_same_no_vector_travels():
    world = swarm(8)
    before = world.sent.copy()
    write(world, "us-east-1/1", 7)
    world.run(3.0)

    assert floor_is(world, {"us-east-1/1": 7})()
    # One hash from each that is no relay, no question, and one flood a region.
    assert world.sent["FloorReport"] - before["FloorReport"] <= 60 + 60 * 3 / 12
    assert world.counted("floors_flooded") <= 2 * 3


def test_under_steady_writes_reports_stay_rare():
    world = swarm(9)
    before = world.sent.copy()
    for last in range(1, 401):
        write(world, "us-east-1/1", last)
        world.run(0.05)

    # 20 s: each member reports every 5 s, at worst with a question and the whole vector.
    assert world.sent["FloorReport"] - before["FloorReport"] <= 60 * 5 * 3
    assert all(
        (agent.floors.floor() or {}).get("us-east-1/1", 0) > 200 for agent in world.running()
    )


def test_a_member_that_missed_a_floor_gets_it_with_its_next_report():
    world = swarm(10)
    deaf = world.agents["us-west-4"]
    keep = deaf.floors._keep
    deaf.floors._keep = lambda message: None
    write(world, "us-east-1/1", 7)
    world.run(3.0)
    deaf.floors._keep = keep
    assert deaf.floors.floor() != {"us-east-1/1": 7}

    world.run_until(floor_is(world, {"us-east-1/1": 7}), 19.0, 0.1)

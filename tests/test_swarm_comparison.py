"""Full comparisons by order: always answered, whatever state the peers are in."""

from __future__ import annotations

from gossipswarm_agent.core.events import Compare
from worlds import small_world


def test_a_comparison_ordered_at_every_agent_at_once_is_answered_after_tombstones_were_collected() -> (
    None
):
    world = small_world(31)
    for index in range(40):
        world.write("us-east-1", f"app.{index}", index)
    world.run(1.0)
    world.write("us-west-1", "app", op="delete")
    world.run_until(lambda: all(n.state.tombstone_count == 0 for n in world.nodes()), 60.0)
    world.add("late", "us-east")
    world.start("late")
    world.run_until(world.joined, 10.0)
    for token, agent in enumerate(world.agents.values(), 10_000):
        world.feed(agent, Compare(token))
    world.run(3.0)
    replies = [world.replies.get(token) for token in range(10_000, 10_000 + len(world.agents))]
    assert [reply is not None and reply.error is None for reply in replies] == [True] * 10


def test_an_agent_behind_a_collected_tombstone_asks_another_peer_when_the_first_is_gone() -> None:
    world = small_world(32)
    world.write("us-east-1", "doomed", 1)
    world.run(2.0)
    backup = list(world.agents["eu-central-2"].disk.records)
    world.write("us-east-1", "doomed", op="delete")
    world.run_until(lambda: all(n.state.tombstone_count == 0 for n in world.nodes()), 60.0)
    world.crash("eu-central-2")
    world.agents["eu-central-2"].disk.records = backup
    world.start("eu-central-2")
    node = world.agents["eu-central-2"].node
    assert node is not None
    world.run_until(lambda: node.repair.comparison._sweep is not None, 10.0)
    world.crash(node.repair.comparison._sweep.peer)
    world.run_until(lambda: node.read("doomed") is None, 10.0)

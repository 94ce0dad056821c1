"""Spread trees: every member is reached exactly once, whoever computes them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core import trees

sizes = st.integers(1, 250)
fanouts = st.integers(1, 8)
indices = st.integers(1, 4)


def names(count: int) -> list[str]:
    return sorted(f"agent-{number}" for number in range(count))


@given(sizes, st.text(max_size=20))
def test_an_order_is_a_permutation_and_its_inverse(size: int, seed: str) -> None:
    order = trees.Order(seed, size)
    places = [order.place(position) for position in range(size)]
    assert sorted(places) == list(range(size))
    assert [order.position(place) for place in places] == list(range(size))


@given(sizes, fanouts, indices, st.data())
def test_a_home_tree_reaches_every_member_once(
    size: int, fanout: int, tree: int, data: st.DataObject
) -> None:
    members = names(size)
    root = data.draw(st.sampled_from(members))
    reached: list[str] = []
    frontier = [root]
    while frontier:
        chosen = [
            child
            for member in frontier
            for child in trees.home_children(members, root, member, tree, fanout)
        ]
        reached += chosen
        frontier = chosen
    assert sorted([*reached, root]) == members


@given(sizes, fanouts, indices, st.integers(1, 8))
def test_another_regions_tree_reaches_every_member_once(
    size: int, fanout: int, tree: int, doors: int
) -> None:
    members = names(size)
    frontier = trees.entries(members, "root", tree, doors)
    reached = list(frontier)
    while frontier:
        frontier = [
            child
            for member in frontier
            for child in trees.away_children(members, "root", member, tree, fanout, doors)
        ]
        reached += frontier
    assert sorted(reached) == members


def test_a_tree_of_150_with_fanout_3_is_five_hops_deep() -> None:
    members = names(150)
    depth, frontier = 0, [members[0]]
    while frontier:
        frontier = [
            child
            for member in frontier
            for child in trees.home_children(members, members[0], member, 1, 3)
        ]
        depth += bool(frontier)
    assert depth == 5


def test_two_trees_of_one_root_have_different_insides() -> None:
    members = names(100)

    def inner(tree: int) -> set[str]:
        return {m for m in members[1:] if trees.home_children(members, members[0], m, tree, 3)}

    assert len(inner(1) & inner(2)) < 25

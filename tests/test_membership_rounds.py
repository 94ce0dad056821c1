"""The tournament that failure probes follow: who meets whom in which round."""

from __future__ import annotations

from itertools import combinations

import pytest

from gossipswarm_agent.core.probing import bye, partner_of

SIZES = [2, 3, 4, 5, 8, 9, 70, 71]


def pairs(size: int, number: int) -> set[frozenset[int]]:
    found = set()
    for place in range(size):
        partner = partner_of(place, size, number)
        if partner is not None:
            assert partner_of(partner, size, number) == place != partner
            found.add(frozenset((place, partner)))
    return found


@pytest.mark.parametrize("size", SIZES)
def test_everybody_has_one_partner_and_at_most_one_sits_out(size: int) -> None:
    for number in range(3 * size):
        alone = set(range(size)) - set().union(*pairs(size, number))
        assert alone == ({bye(size, number)} if size % 2 else set())


@pytest.mark.parametrize("size", SIZES)
def test_everybody_meets_everybody_once_before_anybody_twice(size: int) -> None:
    rounds = size - 1 + size % 2
    for first in (0, 1_000_003):
        met = [pair for number in range(first, first + rounds) for pair in pairs(size, number)]
        assert sorted(map(sorted, met)) == [list(pair) for pair in combinations(range(size), 2)]


@pytest.mark.parametrize("size", [size for size in SIZES if size % 2])
def test_everybody_sits_out_in_turn(size: int) -> None:
    assert {bye(size, number) for number in range(size)} == set(range(size))

"""Partitions as they are asked for, and what each region's agents drop for them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipctl.local import cuts
from gossipctl.local.cuts import Cut, components, drops_of
from gossipctl.local.errors import LocalError

REGIONS = ("us-east", "us-west", "eu-central")


def make(kind, *groups, until=None, name="partition-1"):
    return Cut(name, kind, tuple(tuple(group.split(",")) for group in groups), 0, until)


def refusal(**request):
    with pytest.raises(LocalError) as refused:
        cuts.parse(request, REGIONS)
    assert refused.value.exit == 2
    return refused.value


def test_two_groups_drop_each_other_both_ways():
    drops = drops_of([make("groups", "us-east", "us-west,eu-central")], REGIONS)
    assert drops["us-east"].inbound == drops["us-east"].outbound == ("eu-central", "us-west")
    assert drops["us-west"].inbound == drops["us-west"].outbound == ("us-east",)
    assert drops["eu-central"].inbound == ("us-east",)


def test_regions_that_no_group_names_form_one_more():
    drops = drops_of([make("groups", "us-east", "us-west")], REGIONS)
    assert drops["eu-central"].inbound == ("us-east", "us-west")
    assert components([make("groups", "us-east", "us-west")], REGIONS) == [
        ["us-east"],
        ["us-west"],
        ["eu-central"],
    ]


def test_a_region_added_later_falls_on_the_side_of_those_not_named():
    drops = drops_of([make("groups", "us-east")], (*REGIONS, "ap-south"))
    assert drops["ap-south"].inbound == ("us-east",)
    assert "ap-south" in drops["us-east"].outbound


def test_a_pair_leaves_third_regions_as_a_bridge():
    pair = make("pair", "us-east", "us-west")
    drops = drops_of([pair], REGIONS)
    assert drops["us-east"].outbound == ("us-west",)
    assert drops["eu-central"].inbound == drops["eu-central"].outbound == ()
    assert components([pair], REGIONS) == [["eu-central", "us-east", "us-west"]]


def test_a_one_way_cut_loses_only_what_the_first_group_sends():
    drops = drops_of([make("one-way", "us-east", "us-west")], REGIONS)
    assert drops["us-east"].outbound == ("us-west",)
    assert drops["us-east"].inbound == ()
    assert drops["us-west"].inbound == ("us-east",)
    assert drops["us-west"].outbound == ()


def test_cuts_that_end_at_different_times_leave_the_ending_to_the_supervisor():
    first = make("pair", "us-east", "us-west", until=1000)
    second = make("pair", "us-east", "eu-central", until=2000)
    drops = drops_of([first, second], REGIONS)
    assert drops["us-east"].until_ms is None
    assert drops["us-west"].until_ms == 1000
    assert drops["eu-central"].until_ms == 2000


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True), st.data())
def test_what_one_region_drops_on_its_way_out_the_other_drops_on_its_way_in(named, data):
    kind = data.draw(st.sampled_from(["groups", "one-way", "pair"]))
    at = data.draw(st.integers(1, len(named)))
    groups = [group for group in (named[:at], named[at:]) if group]
    if kind != "groups" and len(groups) != 2:
        return
    cut = Cut("partition-1", kind, tuple(map(tuple, groups)), 0)
    drops = drops_of([cut], "abcdef")
    for a, b in itertools.permutations("abcdef", 2):
        assert (b in drops[a].outbound) == (a in drops[b].inbound)
        if kind != "one-way":
            assert (b in drops[a].outbound) == (b in drops[a].inbound)


def test_groups_come_as_lists_or_separated_by_commas():
    assert cuts.parse({"group1": "us-east", "group2": ["us-west", "eu-central"]}, REGIONS) == (
        "groups",
        (("us-east",), ("us-west", "eu-central")),
    )
    assert cuts.parse({"groups": ["us-east", " us-west , eu-central "]}, REGIONS)[1] == (
        ("us-east",),
        ("us-west", "eu-central"),
    )


def test_overlapping_groups_are_refused():
    error = refusal(group1="us-east,us-west", group2="us-west")
    assert error.message == "region us-west is in group 1 and in group 2"


def test_empty_groups_are_refused():
    assert refusal(group1="us-east", group2=" , ").message == "group 2 is empty"
    assert "at least one group" in refusal().message


def test_an_unknown_region_gets_a_suggestion():
    error = refusal(group1="us-eats", group2="us-west")
    assert (error.reason, error.hint) == ("unknown-region", "did you mean us-east?")


def test_a_group_of_all_regions_cuts_nothing_and_is_refused():
    assert "nothing would be cut" in refusal(group1=",".join(REGIONS)).message


def test_a_pair_is_exactly_two_regions():
    assert "a pair is two regions" in refusal(pair="us-east").message
    assert "a pair is two regions" in refusal(pair="us-east,us-west", group1="us-east").message


def test_a_one_way_cut_needs_both_groups():
    assert "two groups" in refusal(group1="us-east", one_way=True).message


def test_a_second_cut_of_the_same_link_is_refused_and_of_another_is_not():
    active = [make("pair", "us-east", "us-west")]
    with pytest.raises(LocalError, match="already cuts us-east from us-west"):
        cuts.check_disjoint(make("groups", "us-east"), active, REGIONS)
    cuts.check_disjoint(make("pair", "us-west", "eu-central"), active, REGIONS)

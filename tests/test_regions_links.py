"""What the declarations of all regions amount to: links, groups, whom to hand on to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core.linkstate import LAPSE, LinkTable
from gossipswarm_agent.core.members import Member
from gossipswarm_agent.core.messages import LinkState, MemberRecord
from gossipswarm_agent.core.regions import choose_relays

REGIONS = ("a", "b", "c", "d")


def table(*declared: tuple[str, list[str]], regions=REGIONS) -> LinkTable:
    links = LinkTable()
    links.set_regions(regions)
    for clock, (region, down) in enumerate(declared, start=1):
        links.declare(LinkState("x", region, clock, down, [300] * len(down)), 0.0)
    return links


def test_a_link_is_up_unless_one_of_its_regions_declares_the_other():
    links = table(("a", ["b"]), ("c", ["d"]), ("d", ["c"]))

    assert not links.up("a", "b")
    assert not links.up("b", "a")
    assert not links.up("d", "c")
    assert links.up("a", "c")
    assert links.cuts() == {("a", "b"), ("c", "d")}


def test_groups_are_connected_components():
    assert table().groups() == (REGIONS,)
    assert table(("a", ["b", "c"]), ("d", ["b", "c"])).groups() == (("a", "d"), ("b", "c"))
    # Where only a pair is cut, the others carry what it cannot send.
    assert table(("a", ["b"])).groups() == (REGIONS,)
    assert table(("a", ["b"])).connected("a", "b")


def test_a_pair_that_is_cut_is_served_by_one_region_in_between():
    links = table(("a", ["b"]))

    assert links.children("a", "a") == ("c", "d")
    assert links.children("a", "c") == ("b",)
    assert links.children("a", "d") == ()
    assert links.children("c", "c") == ("a", "b", "d")


declarations = st.lists(
    st.tuples(st.sampled_from(REGIONS), st.lists(st.sampled_from(REGIONS), unique=True)), max_size=5
)


@given(declarations, st.sampled_from(REGIONS))
def test_every_region_of_a_group_is_handed_on_to_exactly_once(declared, root):
    links = table(*declared)
    handed = [child for region in REGIONS for child in links.children(root, region)]
    (group,) = (group for group in links.groups() if root in group)

    assert sorted([root, *handed]) == sorted(group)
    for region in REGIONS:
        assert all(links.up(region, child) for child in links.children(root, region))


@given(declarations, st.randoms())
def test_declarations_in_any_order_amount_to_the_same(declared, shuffle):
    messages = [
        LinkState("x", region, clock, down) for clock, (region, down) in enumerate(declared, 1)
    ]
    shuffled = [*messages, *messages]
    shuffle.shuffle(shuffled)
    one, other = LinkTable(), LinkTable()
    for links, told in ((one, messages), (other, shuffled)):
        links.set_regions(REGIONS)
        for message in told:
            links.declare(message, 0.0)

    assert one.cuts() == other.cuts()
    assert one.groups() == other.groups()


def test_a_silence_that_nobody_repeats_lapses():
    links = table(("a", ["b"]))

    assert links.lapse(LAPSE - 0.1) == LAPSE
    assert not links.up("a", "b")
    links.declare(LinkState("x", "a", 2, ["b"]), 4.0)
    assert links.lapse(LAPSE + 0.1) == LAPSE + 4.0
    assert not links.up("a", "b")
    assert links.lapse(LAPSE + 4.0) == float("inf")
    assert links.up("a", "b")


def test_regions_without_members_vanish_from_the_groups():
    links = table(("a", ["d"]), ("b", ["d"]), ("c", ["d"]))
    assert links.groups() == (("a", "b", "c"), ("d",))
    links.set_regions(("a", "b", "c"))
    assert links.groups() == (("a", "b", "c"),)
    assert links.cuts() == frozenset()


def member(name: str, host: str | None = None) -> Member:
    labels = {"host": host} if host else {}
    return Member(MemberRecord(name, "here", "10.0.0.1", 1, "", 1, 0, labels), 0.0)


def test_relays_are_three_on_different_hosts_where_there_are_enough():
    spread = [member(f"agent-{n}", f"host-{n % 4}") for n in range(20)]
    crowded = [member(f"agent-{n}", "one-host") for n in range(20)]

    assert len({relay.labels["host"] for relay in choose_relays(spread)}) == 3
    assert len(choose_relays(crowded)) == 3
    assert len(choose_relays(spread[:2])) == 2


def test_another_member_leaving_does_not_change_the_relays():
    members = [member(f"agent-{n}", f"host-{n}") for n in range(20)]
    relays = choose_relays(members)
    others = [m for m in members if m not in relays]

    assert choose_relays([m for m in members if m is not others[0]]) == relays
    assert choose_relays([m for m in members if m is not relays[0]])[:2] == relays[1:]

"""The member table is a join: what is believed depends on the claims, never on their order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.core.context import Context, Instant
from gossipswarm_agent.core.members import ALIVE, DEAD, LEFT, SUSPECT, MemberTable, rank
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import MemberRecord, Members
from gossipswarm_agent.core.news import TAKE_IN
from gossipswarm_agent.core.settings import DEFAULTS, merge

NOTHING_EXPIRES = merge(DEFAULTS, {"suspicion_timeout": 600_000, "probe_interval": 60_000})
ME = MemberRecord("me", "here", "10.0.0.1", 7000, "", 1, ALIVE)

claims = st.builds(
    MemberRecord,
    name=st.sampled_from(["a", "b", "c"]),
    region=st.just("here"),
    host=st.sampled_from(["10.0.0.2", "10.0.0.3"]),
    port=st.just(7000),
    api=st.just(""),
    incarnation=st.integers(1, 3),
    status=st.sampled_from([ALIVE, SUSPECT, DEAD, LEFT]),
)


def membership() -> Membership:
    ctx = Context("me", "here", NOTHING_EXPIRES, random.Random(1))
    ctx.now = Instant(10.0, 1_700_000_000_000)
    return Membership(ctx, ME)


def hear(table: Membership, *records: MemberRecord) -> None:
    """A flood of these claims comes, and the moment passes after which it is believed."""
    table.handle(Members("x", list(records)))
    now = table._ctx.now
    table._ctx.now = Instant(now.mono + TAKE_IN, now.wall)
    table.tick()


@given(st.lists(claims, max_size=12), st.randoms())
def test_the_same_claims_in_any_order_make_the_same_table(told, shuffle):
    one, other = membership(), membership()
    hear(one, *told)
    again = [*told, *told]
    shuffle.shuffle(again)
    for record in again:
        hear(other, record)

    believed = {name: rank(member) for name, member in one.members.items()}
    assert believed == {name: rank(member) for name, member in other.members.items()}
    assert one.hash == other.hash
    for name, held in believed.items():
        assert held == max(rank(record) for record in told if record.name == name)


@given(st.lists(claims, max_size=8))
def test_the_hash_is_that_of_a_table_built_at_once(told):
    grown = membership()
    for record in told:
        hear(grown, record)
    built = MemberTable(ME, 0.0)
    for member in grown.members.values():
        built.put(member.record(), 0.0)

    assert grown.hash == built.hash
    assert [m.name for m in grown.regions()["here"]] == sorted(
        ["me", *(name for name, m in grown.members.items() if m.status < DEAD)]
    )


def test_suspicion_does_not_change_the_hash_and_death_does():
    table = membership()
    alive = MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, ALIVE)
    empty = table.hash
    hear(table, alive)
    known = table.hash
    version = table.version

    hear(table, MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, SUSPECT))
    assert (table.hash, table.version) == (known, version)
    assert table.members["a"].status == SUSPECT

    hear(table, MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, DEAD))
    assert table.hash == empty != known
    assert table.version > version
    assert table.live() == ()


def test_an_address_tells_its_region():
    table = membership()
    hear(table, MemberRecord("a", "there", "10.0.0.2", 7000, "", 1, ALIVE))

    assert table.region_of_address(("10.0.0.2", 7000)) == "there"
    assert table.region_of_address(("10.0.0.1", 7000)) == "here"
    assert table.region_of_address(("10.0.0.9", 7000)) is None


def test_who_lives_is_believed_a_moment_after_it_is_heard_so_that_all_copies_go_the_same_way():
    table = membership()
    version = table.version
    table.handle(Members("x", [MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, ALIVE)]))

    assert table.version == version
    assert table.deadline <= table._ctx.now.mono + TAKE_IN
    hear(table)
    assert table.version > version


def test_what_was_refuted_meanwhile_is_not_believed_any_more():
    table = membership()
    hear(table, MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, ALIVE))
    table.handle(Members("x", [MemberRecord("a", "here", "10.0.0.2", 7000, "", 1, DEAD)]))
    hear(table, MemberRecord("a", "here", "10.0.0.2", 7000, "", 2, ALIVE))

    assert table.members["a"].status == ALIVE
    assert table.members["a"].incarnation == 2

"""What is written: ownership of keys, drift, pruning, and the lines that go to an agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_operator.agent_documents import Line
from gossipswarm_operator.swarmconfig import keys, ledger, planning, writing
from gossipswarm_operator.swarmconfig.digests import Digests
from gossipswarm_operator.swarmconfig.planning import Delta

DIGESTS = Digests(b"token")


def owned(**values: Any) -> dict[str, tuple[str, ...]]:
    """The ledger after these were delivered; a double underscore is a dot."""
    return {key.replace("__", "."): (DIGESTS.leaf(value),) for key, value in values.items()}


def plan(
    wanted: dict[str, Any],
    live: dict[str, Any],
    known: dict[str, tuple[str, ...]] | None = None,
    *,
    override: bool = True,
    prune: bool = True,
    delivered: bool = False,
    foreign: tuple[str, ...] = (),
) -> Delta:
    return planning.plan(
        wanted,
        live,
        known or {},
        DIGESTS,
        override=override,
        prune=prune,
        delivered=delivered,
        foreign=foreign,
    )


# --- what is written ------------------------------------------------------------------------------


def test_only_what_differs_is_written() -> None:
    delta = plan({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "other": 9}, owned(a=1, b=5))
    assert (delta.sets, delta.deletes, delta.drifted) == ({"b": 2, "c": 3}, (), ())
    assert set(delta.ahead) == {"a", "b", "c"}


def test_nothing_is_written_where_all_is_there() -> None:
    delta = plan({"a": 1, "b": {}}, {"a": 1, "b.x": 9}, owned(a=1))
    assert delta.is_empty
    assert delta.is_done({"a": 1, "b.x": 9}, {"a": 1, "b": {}})


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), (0, False), ("1", 1), ([1], [1.0])]
)
def test_values_of_different_types_are_different(one: Any, other: Any) -> None:
    assert plan({"a": one}, {"a": other}, owned(a=other)).sets == {"a": one}


def test_a_value_and_an_object_trade_places() -> None:
    assert plan({"a.b": 1}, {"a": 5}, owned(a=5)).sets == {"a.b": 1}
    assert plan({"a.b": 1}, {"a": 5}, owned(a=5)).deletes == ("a",)
    assert plan({"a": 5}, {"a.b": 1}, owned(a__b=1)).sets == {"a": 5}
    assert plan({"a": {}}, {"a.b": 1}, owned(a__b=1)).sets == {"a": {}}


# --- pruning --------------------------------------------------------------------------------------


def test_keys_that_were_delivered_and_are_gone_are_deleted_and_no_others() -> None:
    delta = plan({"a": 1}, {"a": 1, "b": 2, "other": 3}, owned(a=1, b=2))
    assert delta.deletes == delta.gone == ("b",)
    assert set(delta.after) == {"a"}


def test_without_pruning_they_stay_and_are_still_owned() -> None:
    delta = plan({}, {"b": 2}, owned(b=2, c=3), prune=False)
    assert delta.deletes == ()
    assert set(delta.after) == {"b"}


def test_a_deletion_is_remembered_until_every_agent_has_seen_it() -> None:
    delta = plan({"a": 1}, {"a": 1}, owned(a=1, b=2))
    assert delta.is_empty
    assert set(delta.ahead) == {"a", "b"}
    assert not delta.is_done({"a": 1, "b": 2}, {"a": 1})
    assert set(delta.after) == {"a"}


def test_what_somebody_wrote_anew_at_a_deleted_key_is_theirs() -> None:
    delta = plan({}, {"b": "theirs"}, owned(b=2), delivered=True)
    assert delta.is_empty
    assert delta.ahead == {}


def test_keys_that_another_config_owns_are_not_deleted() -> None:
    delta = plan({}, {"b": 2, "c": 3}, owned(b=2, c=3), foreign=("b",))
    assert delta.deletes == ("c",)
    assert set(delta.ahead) == {"c"}


# --- drift ----------------------------------------------------------------------------------------


def test_a_changed_value_is_drift_and_set_back() -> None:
    delta = plan({"a": 1, "b": 2}, {"a": 7, "b": 2}, owned(a=1, b=2), delivered=True)
    assert (delta.sets, delta.drifted, delta.kept) == ({"a": 1}, ("a",), ())


def test_a_deleted_value_is_drift_once_every_agent_had_it() -> None:
    first = plan({"a": 1}, {})
    on_its_way = plan({"a": 1}, {}, first.ahead)
    assert (on_its_way.sets, on_its_way.drifted) == ({"a": 1}, ())
    assert plan({"a": 1}, {}, first.ahead, override=False).kept == ()
    assert plan({"a": 1}, {}, first.after).drifted == ("a",)
    assert plan({"a": 1}, {}, first.after, override=False).kept == ("a",)


def test_what_was_set_back_is_not_drift_again_at_an_agent_that_has_yet_to_hear_of_it() -> None:
    repair = plan({"a": 1}, {"a": "theirs"}, owned(a=1))
    assert repair.drifted == ("a",)
    assert plan({"a": 1}, {"a": "theirs"}, repair.ahead).drifted == ()
    assert plan({"a": 1}, {"a": "theirs"}, repair.after).drifted == ("a",)


def test_a_change_of_the_spec_is_no_drift() -> None:
    assert plan({"a": 2}, {"a": 1}, owned(a=1)).drifted == ()


def test_a_value_of_a_version_before_is_no_drift_until_all_have_the_new_one() -> None:
    pending = ledger.with_written(owned(a=1), {"a": DIGESTS.leaf(2)})
    assert plan({"a": 2}, {"a": 1}, pending).drifted == ()
    assert plan({"a": 2}, {"a": 1}, ledger.settled(pending)).drifted == ("a",)


def test_keep_live_leaves_what_somebody_changed_deleted_or_had_before() -> None:
    delta = plan(
        {"a": 1, "b": 2, "c": 3, "d": 4},
        {"a": 7, "c": 9, "d": 0},
        owned(a=1, b=2, d=0),
        override=False,
    )
    assert delta.kept == ("a", "b", "c")
    assert delta.drifted == ("a", "b")
    assert delta.sets == {"d": 4}
    assert set(delta.ahead) == {"a", "b", "d"}
    assert delta.is_done({"a": 7, "c": 9, "d": 4}, {"a": 1, "b": 2, "c": 3, "d": 4})


def test_keep_live_does_not_prune_what_somebody_changed() -> None:
    delta = plan({}, {"a": 7, "b": 2}, owned(a=1, b=2), override=False)
    assert delta.deletes == ("b",)
    assert set(delta.ahead) == {"b"}


def test_keep_live_leaves_what_lies_above_and_below() -> None:
    assert plan({"a.b": 1}, {"a": "theirs"}, override=False).kept == ("a.b",)
    assert plan({"a": 1}, {"a.b": "theirs"}, override=False).kept == ("a",)
    assert plan({"a.b": 1}, {"": "theirs"}, override=False).kept == ("a.b",)
    assert plan({"a": {}}, {"a.b": "theirs"}, override=False).is_empty


def test_override_takes_over_what_was_there_before_without_calling_it_drift() -> None:
    delta = plan({"a": 1}, {"a": "theirs"})
    assert (delta.sets, delta.drifted) == ({"a": 1}, ())


# --- lines ----------------------------------------------------------------------------------------


def test_a_change_is_one_merge_after_the_deletions() -> None:
    delta = plan({"a": 1, "b.c": None, r"d\.e": [1]}, {"x": 5}, owned(x=5))
    assert writing.base_lines("app", delta, "") == [
        Line("app.x", "delete"),
        Line("app.b.c", "put", None),
        Line("app", "merge", {"a": 1, "d.e": [1]}),
    ]


def test_the_only_line_is_bound_to_what_was_planned_for() -> None:
    [line] = writing.base_lines("app", plan({"a": 1}, {}), "etag")
    assert line.if_match == "etag"


def test_large_changes_are_split_into_lines_that_an_agent_takes() -> None:
    delta = plan({f"k{n}": "x" * 1000 for n in range(1000)}, {})
    lines = writing.base_lines("app", delta)
    assert len(lines) == 2
    assert sum(len(line.value) for line in lines) == 1000
    assert max(len(json.dumps(line.value)) for line in lines) < 600_000


def test_few_lines_are_all_traced_and_of_many_the_last() -> None:
    lines = [Line(f"k{n}", "delete") for n in range(20)]
    assert [line.trace for line in writing.traced(lines[:3])] == [True] * 3
    assert [line.trace for line in writing.traced(lines)] == [False] * 19 + [True]


def test_an_overlay_replaces_the_one_before_and_forgets_rejections() -> None:
    lines = writing.overlay_lines("app.x", ["us.east"], {"a": 1, "gone": None})
    assert lines == [
        Line(r"canary-rejected.us\.east.app.x", "delete"),
        Line(r"canary.us\.east.app.x", "put", {"a": 1, "gone": None}),
    ]
    assert [line.key for line in writing.removal_lines("app", ["b"])] == [
        "canary.b.app",
        "canary-rejected.b.app",
    ]


# --- properties -----------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "d.e"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text("xy", max_size=2))
values = st.recursive(
    scalars | st.lists(scalars, max_size=2),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(names, values, max_size=4)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, as its appendix has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def applied(live: dict[str, Any], delta: Delta) -> dict[str, Any]:
    """What is there once a plan is carried out, by what agents do with its leaves."""
    found = {key: value for key, value in live.items() if key not in delta.deletes}
    for key, value in delta.sets.items():
        above = set(keys.ancestors(key))
        if value == {}:
            found = {k: v for k, v in found.items() if k not in above or v == {}}
        else:
            found = {
                k: v
                for k, v in found.items()
                if (k not in above or v == {}) and not (k != key and keys.is_within(k, key))
            }
        found[key] = value
    return found


@given(trees)
def test_leaves_and_trees_are_two_forms_of_one_thing(tree: dict[str, Any]) -> None:
    assert keys.tree_of(keys.leaves_of(tree)) == tree


@given(trees, trees, trees)
def test_override_always_ends_with_what_is_wanted(
    wanted: dict[str, Any], live: dict[str, Any], before: dict[str, Any]
) -> None:
    goal, there = keys.leaves_of(wanted), keys.leaves_of(live)
    known = {key: (DIGESTS.leaf(value),) for key, value in keys.leaves_of(before).items()}
    delta = plan(goal, there, known)
    after = applied(there, delta)
    assert delta.is_done(after, goal), (delta, after)
    assert set(delta.after) == set(goal)
    untouched = {k for k in there if k not in known}
    for key in untouched - set(after):
        assert any(keys.is_within(key, k) or keys.is_within(k, key) for k in delta.sets)


@given(trees, trees, trees)
def test_keep_live_never_touches_what_somebody_else_wrote(
    wanted: dict[str, Any], live: dict[str, Any], before: dict[str, Any]
) -> None:
    goal, there = keys.leaves_of(wanted), keys.leaves_of(live)
    known = {key: (DIGESTS.leaf(value),) for key, value in keys.leaves_of(before).items()}
    after = applied(there, plan(goal, there, known, override=False))
    for key, value in there.items():
        if value != {} and DIGESTS.leaf(value) not in known.get(key, ()):
            assert key in after and DIGESTS.leaf(after[key]) == DIGESTS.leaf(value)


@given(trees, trees)
def test_a_plan_is_done_once_it_is_carried_out(
    wanted: dict[str, Any], live: dict[str, Any]
) -> None:
    goal, there = keys.leaves_of(wanted), keys.leaves_of(live)
    delta = plan(goal, there)
    again = plan(goal, applied(there, delta), delta.after)
    assert again.is_empty
    assert not again.drifted


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


@given(trees.map(without_nulls), trees.map(without_nulls))
def test_an_overlay_merged_over_the_base_is_the_base_to_come(
    wanted: dict[str, Any], before: dict[str, Any]
) -> None:
    goal, there = keys.leaves_of(wanted), keys.leaves_of(before)
    known = {key: (DIGESTS.leaf(value),) for key, value in there.items()}
    delta = plan(goal, there, known)
    shown = merge_patch(before, keys.tree_of(planning.overlay(delta)))
    shown_leaves = keys.leaves_of(shown)
    assert planning.missing(shown_leaves, goal) == []
    assert [key for key in delta.gone if key in shown_leaves] == []

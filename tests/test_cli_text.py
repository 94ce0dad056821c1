"""Durations, tables, rounds and metrics as gossipctl reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipctl import durations, exposition, rounds
from gossipctl.commands.memory import memory_name, state_key
from gossipctl.json_colours import paint
from gossipctl.output import Output
from gossipctl.suggest import distance, listing, nearest


@pytest.mark.parametrize(
    ("text", "ms"),
    [("30000", 30_000), ("30s", 30_000), ("5m", 300_000), ("1.5s", 1_500), ("1h", 3_600_000)],
)
def test_durations_are_milliseconds_or_have_a_unit(text: str, ms: int) -> None:
    assert durations.parse(text) == ms


@pytest.mark.parametrize("text", ["", "s", "5x", "-1s", "1 year", "inf", "nan", "1ss"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected milliseconds or a unit"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (0.42, "0.4ms"),
        (7, "7ms"),
        (999.9, "1s"),
        (1_234, "1.2s"),
        (30_000, "30s"),
        (303_000, "5m 03s"),
        (7_500_000, "2h 05m"),
    ],
)
def test_durations_are_shown_at_a_glance(ms: float, text: str) -> None:
    assert durations.show(ms) == text


@given(st.text(min_size=1))
def test_any_name_can_be_kept_and_is_found_again(name: str) -> None:
    assert memory_name(state_key(name)) == name


def test_the_rounds_table_is_the_documented_one() -> None:
    convergence = {
        "converged": True,
        "rounds": [
            {"round": 1, "agents": 1, "share": 1 / 150, "duration_ms": 100.0},
            {"round": 2, "agents": 4, "share": 4 / 150, "duration_ms": 100.0},
        ],
    }
    assert rounds.text(convergence).splitlines() == [
        "Round | Infected Agents | Convergence % | Duration",
        "------|-----------------|---------------|----------",
        "1     | 1               | 0.67%         | 100ms",
        "2     | 4               | 2.67%         | 100ms",
        "",
        "Total convergence time: 200ms (2 rounds × 100ms)",
    ]


def test_a_write_that_has_not_converged_says_how_far_it_is() -> None:
    convergence = {
        "converged": False,
        "received": 7,
        "agents": 150,
        "threshold": 0.95,
        "rounds": [{"round": 1, "agents": 7, "share": 7 / 150, "duration_ms": 3.0}],
    }
    assert rounds.summary(convergence) == (
        "Not converged: 7 of 150 agents after 1 round, 95% are needed"
    )


PAGE = """\
# HELP gossipswarm_hops Hops of a write
# TYPE gossipswarm_hops histogram
gossipswarm_hops_bucket{le="1"} 1
gossipswarm_hops_bucket{le="2"} 9
gossipswarm_hops_bucket{le="+Inf"} 10
gossipswarm_hops_sum 21
gossipswarm_hops_count 10
# HELP gossipswarm_batches_total Batches by "kind"
# TYPE gossipswarm_batches_total counter
gossipswarm_batches_total{kind="in",why="a\\"b"} 5
# HELP gossipswarm_leaves Leaves
# TYPE gossipswarm_leaves gauge
gossipswarm_leaves 7
"""


def test_metrics_of_many_agents_are_read_together() -> None:
    families = exposition.collect([PAGE, PAGE.replace("leaves 7", "leaves 9")])
    assert families["gossipswarm_leaves"].samples[("gossipswarm_leaves", ())] == [7.0, 9.0]
    [hops] = exposition.distributions(families["gossipswarm_hops"])
    assert (hops.observed, hops.mean) == (20, 2.1)
    assert hops.quantile(0.05) == 1.0
    assert hops.quantile(0.5) == 2.0
    [labels] = [labels for _, labels in families["gossipswarm_batches_total"].samples]
    assert dict(labels) == {"kind": "in", "why": 'a\\"b'}


@pytest.mark.parametrize(
    "name", ["gossipswarm_batches_total", "batches_total", "batches-total", "batches"]
)
def test_a_metric_is_found_by_any_form_of_its_name(name: str) -> None:
    families = exposition.collect([PAGE])
    assert exposition.resolve(name, families) == "gossipswarm_batches_total"


def test_names_are_suggested_only_when_they_are_close() -> None:
    assert nearest("us_east", ["us-east", "us-west"]) == "us-east"
    assert nearest("fanuot", ["fanout", "interval"]) == "fanout"
    assert nearest("us-esat", ["us-west", "us-east"]) == "us-east"
    assert nearest("actve", ["active", "starting"]) == "active"
    assert nearest("zzz", ["fanout", "interval"]) is None
    assert nearest("partition", ["init", "config"]) is None


@given(st.text(max_size=12), st.text(max_size=12))
def test_the_distance_of_words_is_symmetric_and_zero_only_for_equal_ones(
    first: str, second: str
) -> None:
    assert distance(first, second) == distance(second, first)
    assert (distance(first, second) == 0) == (first == second)
    assert distance(first, second) <= max(len(first), len(second))


def test_long_listings_are_cut() -> None:
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing(["a"]) == "a"
    assert listing([str(number) for number in range(20)]).endswith("11 and 8 more")


def test_lists_have_no_header_where_nobody_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("name", "agents"), [["a", 1], ["b", None]])
    assert capsys.readouterr().out == "a\t1\nb\t-\n"


def test_a_table_that_is_asked_for_has_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    Output("table").table(("name", "agents"), [["alpha", 1]])
    assert capsys.readouterr().out == "name    agents\nalpha   1\n"


def test_an_empty_list_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("name",), [])
    assert capsys.readouterr().out == ""


def test_colour_leaves_the_text_as_it_was() -> None:
    text = '{\n  "a\\"b": [1.5, true, null, "x: 1"]\n}'
    painted = paint(text)
    assert painted != text
    plain = painted
    for code in ("34;1", "32", "33", "36", "0"):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == text

"""The swarm keeps its own records of convergence and partitions, and metrics of all it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agents import config_of, put, running, swarm
from gossipswarm_agent.runtime import partitions
from gossipswarm_agent.runtime.drops import DropList
from gossipswarm_agent.runtime.records import HISTORY_KEY, METRICS_KEY
from loopback import until

PROMISED = {
    "convergence_seconds", "bytes", "frames", "batches", "updates", "hops", "dropped_packets", "members",
    "region_cut", "cut_detection_seconds", "heal_seconds", "conflicts", "journal_fsync_seconds",
    "journal_bytes", "leaves", "tombstones", "event_loop_lag_seconds", "queue_depth",
    "clock_skew_seconds", "degraded", "build_info",
}  # fmt: skip


def samples(agent) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(agent.metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("origin", [0, 1, 2])
async def test_a_traced_write_leaves_its_figures_with_everybody(origin: int) -> None:
    async with swarm(["us-east", "us-west", "eu-central"]) as agents:
        await agents[origin].write(put("app.config", {"x": 1}), traced=True)
        await until(lambda: all(agent.read(METRICS_KEY) is not None for agent in agents), 40)
        figures = agents[0].read(METRICS_KEY).value
        assert figures["agents_count"] == 3
        assert figures["fanout"] == 3
        assert figures["convergence_rounds"] >= 1
        assert figures["convergence_time_ms"] >= 0
        assert figures["timestamp"].endswith("Z")
        assert agents[0].node.state.conflicts() == ([], [])


async def test_a_partition_that_healed_is_in_the_history(monkeypatch) -> None:
    monkeypatch.setattr(partitions, "SETTLE_SECONDS", 2.0)  # the conflict has to come within it
    async with swarm(["us-east", "us-west"]) as (east, west):
        east.set_drops(DropList(frozenset({"us-west"}), frozenset({"us-west"})))
        await until(lambda: east.partitions.history and west.partitions.history, 40)
        await east.write(put("k", 1))
        await west.write(put("k", 2))
        east.set_drops(DropList())
        await until(lambda: west.read(HISTORY_KEY) is not None, 60)
        [entry] = west.read(HISTORY_KEY).value
        assert entry["affected_regions"] == ["us-east", "us-west"]
        assert entry["conflicts_resolved"] == 1
        assert 0 <= entry["healing_time_ms"] <= 10_000
        assert entry["partition_start"] < entry["partition_end"]
        await until(lambda: samples(west)["gossipswarm_heal_seconds_count"][()] == 1)
        values = samples(west)
        assert values["gossipswarm_region_cut"][("us-east", "us-west")] == 0
        assert values["gossipswarm_cut_detection_seconds_count"][()] == 1
        assert sum(values["gossipswarm_conflicts_total"].values()) >= 1


async def test_everything_promised_is_measured(tmp_path) -> None:
    async with swarm(["us-east", "us-west"], tmp_path) as (east, west):
        [result] = await east.write(put("app.config", {"x": 1, "y": 2}), traced=True)
        await east.wait_converged(result.dot, 1.0, 60)
        values = samples(east)
        families = {
            family.name.removeprefix("gossipswarm_")
            for family in text_string_to_metric_families(east.metrics.render().decode())
        }
        assert families >= PROMISED
        assert values["gossipswarm_convergence_seconds_count"][("1",)] == 1
        assert values["gossipswarm_journal_fsync_seconds_count"][()] >= 1
        assert values["gossipswarm_journal_bytes"][()] > 0
        assert values["gossipswarm_leaves"][()] >= 2
        assert values["gossipswarm_members"][("us-west", "alive")] == 1
        assert values["gossipswarm_frames_total"][("in", "datagram")] > 0
        received = samples(west)
        assert received["gossipswarm_updates_total"][("in", "spread")] >= 1
        assert values["gossipswarm_updates_total"][("out", "spread")] >= 1


async def test_every_metric_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs/agent.md").read_text()
    async with running(config_of("a")) as agent:
        families = [
            family.name.removeprefix("gossipswarm_")
            + ("_total" if family.type == "counter" else "")
            for family in text_string_to_metric_families(agent.metrics.render().decode())
        ]
    assert [name for name in families if f"`{name}`" not in page] == []

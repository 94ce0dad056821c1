"""The walkthrough is a program: each of its blocks runs, and what it promises comes out.

``GOSSIPSWARM_WALKTHROUGH`` names another page to run, with ``npx claude-flow@alpha`` for ``gossipctl``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import guides
from gossipctl.backend import Swarm
from gossipctl.local.backend import LocalBackend
from local_swarms import eventually

PAGE = Path(__file__).parent.parent / "docs" / "walkthrough.md"
REGIONS = ("us-east", "us-west", "eu-central")
CONFIGURATION = {
    "database_url": "postgres://db.example.com/prod",
    "cache_ttl": 3600,
    "feature_flags": {"new_ui": True, "beta_api": False},
}

pytestmark = pytest.mark.swarm


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's home of its own, in which no swarm is left behind."""
    for name, place in (
        ("HOME", tmp_path),
        ("XDG_STATE_HOME", tmp_path / "state"),
        ("XDG_RUNTIME_DIR", tmp_path / "run"),
    ):
        place.mkdir(exist_ok=True)
        monkeypatch.setenv(name, str(place))
    monkeypatch.delenv("GOSSIPSWARM_SWARM", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    yield work
    for name in [entry.name for entry in (tmp_path / "state").glob("gossipswarm/*/")]:
        gossipctl("swarm", "delete", name, "--yes", "--if-exists")


def gossipctl(*arguments: str) -> str:
    done = subprocess.run(
        ["gossipctl", *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def bash_blocks() -> list[str]:
    page = Path(os.environ.get("GOSSIPSWARM_WALKTHROUGH", PAGE))
    return [
        block.text.replace("npx claude-flow@alpha", "gossipctl")
        for block in guides.blocks(page)
        if block.language == "bash"
    ]


def of(outcomes: list[guides.Outcome], command: str) -> guides.Outcome:
    """What the block printed that has this command in it."""
    return next(outcome for outcome in outcomes if command in outcome.text)


def documented(*members: str) -> set[str]:
    """The members of the JSON example in our guide that has all of these."""
    for block in guides.blocks(PAGE):
        for document in guides.documents(block.text) if block.language == "json" else ():
            if set(members) <= document.keys():
                return set(document)
    raise AssertionError(f"no example has {members}")


def test_the_walkthrough_runs_from_its_first_block_to_its_last(home: Path) -> None:
    outcomes = guides.run(bash_blocks(), home, os.environ, seconds=2400)
    check_start(of(outcomes, "swarm init"), of(outcomes, "agent spawn"))
    check_spread(of(outcomes, "convergence-rate"), of(outcomes, "query-state"))
    check_conflict(of(outcomes, "heal-partition"))
    check_measurement(of(outcomes, "gossip benchmark"))
    check_memory(of(outcomes, "memory retrieve"))
    check_repair(of(outcomes, "anti-entropy --force"))
    check_agents(LocalBackend().swarm(None))


def check_start(init: guides.Outcome, spawn: guides.Outcome) -> None:
    made = next(guides.documents(init.stdout))
    assert made.keys() >= documented("swarm_id", "created_at")
    assert made["topology"] == "mesh"
    assert made["protocol"] == "gossip"
    assert made["regions"] == list(REGIONS)
    assert made["agents"] == []
    assert spawn.stdout.splitlines()[-1].strip() == "150"


def check_spread(rounds: guides.Outcome, answers: guides.Outcome) -> None:
    assert "Round | Infected Agents | Convergence % | Duration" in rounds.stdout
    assert "100.00%" in rounds.stdout
    assert "Total convergence time" in rounds.stdout
    found = list(guides.documents(answers.stdout))
    assert [answer["region"] for answer in found] == list(REGIONS)
    for answer in found:
        assert set(answer) == documented("region", "agent", "last_updated")
        assert answer["agent"] == f"gossip-{answer['region']}-10"
        assert answer["key"] == "app.config"
        assert answer["value"] == CONFIGURATION
        assert answer["version"] == 1
        assert answer["last_updated"] == found[0]["last_updated"]


def check_conflict(heal: guides.Outcome) -> None:
    found = list(guides.documents(heal.stdout))
    members = documented("conflict_detected", "affected_agents")
    conflict = next(each for each in found if "winning_value" in each)
    assert conflict.keys() >= members
    assert conflict["conflict_detected"] is True
    assert conflict["winning_value"] == 1800
    assert conflict["losing_value"] == 7200
    assert conflict["winning_timestamp"] > conflict["losing_timestamp"]
    assert conflict["affected_agents"] == 150
    assert found[-1]["value"] == 1800


def check_measurement(benchmark: guides.Outcome) -> None:
    figures = next(guides.documents(benchmark.stdout))
    assert figures.keys() >= documented("total_updates", "throughput_ops_sec")
    assert figures["total_updates"] == 10_000
    assert figures["duration_sec"] > 0
    assert figures["throughput_ops_sec"] == pytest.approx(
        figures["total_updates"] / figures["duration_sec"], rel=0.05
    )
    assert 0 < figures["avg_convergence_ms"] <= figures["p99_convergence_ms"]
    assert figures["p95_convergence_ms"] <= figures["p99_convergence_ms"]
    assert figures["partition_events"] == 0
    assert figures["conflicts_resolved"] == 0


def check_memory(retrieve: guides.Outcome) -> None:
    kept = list(guides.documents(retrieve.stdout))[-1]
    assert kept == {
        "convergence_rounds": 7,
        "convergence_time_ms": 700,
        "agents_count": 150,
        "fanout": 3,
        "timestamp": "2025-11-02T11:01:00.700Z",
    }


def check_repair(repair: guides.Outcome) -> None:
    assert "links" in repair.stderr + repair.stdout
    assert "7200" in repair.stdout, "the history has the write that lost"


def check_agents(swarm: Swarm) -> None:
    """Every single agent has the same state, the winner, and the loser in its history."""
    agents = swarm.agents()
    assert len(agents) == 150

    def states() -> set[tuple[str, str]]:
        infos = [agent.agent() for agent in agents]
        return {(info.state_hash, info.losses_hash) for info in infos}

    # The last of its writes, and the swarm's own records, may still be on their way.
    eventually(lambda: len(states()) == 1)
    for agent in agents:
        history = [each for each in agent.conflicts().history if each.key.startswith("app.")]
        lost = [(each.key, each.losing_value, each.winning_value) for each in history]
        assert lost == [("app.config.cache_ttl", 7200, 1800)], agent.name
    settings = agents[0].config().settings
    assert settings["fanout"] == 2
    assert settings["interval"] == 200
    assert settings["region_affinity"] == 0.7
    assert settings["cross_region_fanout"] == 1


def test_a_write_converges_on_all_of_211_agents(home: Path) -> None:
    gossipctl("swarm", "init", "--regions", ",".join(REGIONS), "--max-agents", "211")
    for region, agents in zip(REGIONS, (71, 70, 70), strict=True):
        gossipctl("agent", "spawn", "--region", region, "--name", region, "--count", str(agents))
    assert len(gossipctl("agent", "list", "--filter", "active").splitlines()) == 211
    for number in range(20):
        gossipctl(
            *("gossip", "state-update", "--key", "app.number", "--value", str(number)),
            *("--agent", "us-east-1", "--wait", "--threshold", "1.0", "--timeout", "2m"),
        )
    with_writes = LocalBackend().swarm(None).agent("us-east-1")
    figures = with_writes.convergence_stats()
    print(f"one write on all 211 agents: {figures}")  # how fast is for the benchmark to say
    assert figures.samples == 20
    values = {agent.get("app.number").value for agent in LocalBackend().swarm(None).agents()}
    assert values == {19}

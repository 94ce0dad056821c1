"""The walkthrough of the documentation, block by block, on pods: ``kubectl gossip`` for ``gossipctl``.

Two things differ from a laptop: there are four agents a region rather than fifty, and pods are counted from nought.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests import guides

from e2e.cluster import ROOT, Cluster, program

PAGE = ROOT / "docs" / "walkthrough.md"
REGIONS = ["us-east", "us-west", "eu-central"]
AGENTS = 12
CONFIGURATION = {
    "database_url": "postgres://db.example.com/prod",
    "cache_ttl": 3600,
    "feature_flags": {"new_ui": True, "beta_api": False},
}


def test_the_walkthrough_runs_on_pods(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    outcomes = guides.run(blocks(), tmp_path, environment(cluster, namespace, tmp_path), 900)

    made = next(guides.documents(of(outcomes, "swarm init").stdout))
    assert (made["swarm_id"], made["regions"]) == ("gossip", REGIONS)
    assert of(outcomes, "agent spawn").stdout.splitlines()[-1].strip() == str(AGENTS)
    assert "100.00%" in of(outcomes, "convergence-rate").stdout
    answers = list(guides.documents(of(outcomes, "query-state").stdout))
    assert [answer["region"] for answer in answers] == REGIONS
    assert [answer["agent"] for answer in answers] == [f"gossip-{each}-3" for each in REGIONS]
    assert [answer["value"] for answer in answers] == [CONFIGURATION] * 3
    check_conflict(of(outcomes, "heal-partition"))
    figures = next(guides.documents(of(outcomes, "gossip benchmark").stdout))
    assert figures["total_updates"] == 10_000
    assert figures["throughput_ops_sec"] > 0
    kept = list(guides.documents(of(outcomes, "memory retrieve").stdout))[-1]
    assert (kept["convergence_rounds"], kept["agents_count"]) == (7, 150)


def check_conflict(heal: guides.Outcome) -> None:
    found = list(guides.documents(heal.stdout))
    conflict = next(each for each in found if "winning_value" in each)
    assert (conflict["winning_value"], conflict["losing_value"]) == (1800, 7200)
    assert conflict["affected_agents"] == AGENTS
    assert found[-1]["value"] == 1800


def blocks() -> list[str]:
    """The page's commands, as somebody with a cluster types them."""
    return [
        block.text.replace("gossipctl ", "kubectl gossip ")
        .replace("{1..50}", "{0..3}")
        .replace("gossip-$region-10", "gossip-$region-3")
        for block in guides.blocks(PAGE)
        if block.language == "bash"
    ]


def of(outcomes: list[guides.Outcome], command: str) -> guides.Outcome:
    """What the block printed that has this command in it."""
    return next(outcome for outcome in outcomes if command in outcome.text)


def environment(cluster: Cluster, namespace: str, directory: Path) -> dict[str, str]:
    """A kubeconfig that has this cluster and this namespace only, and the plugin on the path."""
    file = directory / "kubeconfig"
    file.write_text(cluster.kubectl("config", "view", "--raw", "--minify"), "utf-8")
    cluster.kubectl(
        "--kubeconfig", str(file), "config", "set-context", "--current", f"--namespace={namespace}"
    )
    places = (Path(sys.executable).parent, Path(program("kubectl")).parent, os.environ["PATH"])
    return {
        **os.environ,
        "KUBECONFIG": str(file),
        "HOME": str(directory),
        "PATH": os.pathsep.join(map(str, places)),
    }

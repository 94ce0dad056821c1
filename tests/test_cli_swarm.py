"""Every command against a small real swarm: six agents in three regions."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import GOSSIPCTL, CommandLine
from gossipswarm_client import Client
from local_swarms import eventually
from terminal import Terminal

REGIONS = ("us-east", "us-west", "eu-central")
HOOKS = """
hooks:
  partition-detected:
    - builtin: {name: log, message: cut}
  post-edit:
    - builtin: {name: state-update, key: "file-metadata/${file}", value: {edited: true}}
    - exec: {command: [sh, -c, "echo noted; exit 3"]}
"""


@pytest.fixture(scope="module")
def gossipctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    home = tmp_path_factory.mktemp("home")
    (home / "hooks.yaml").write_text(HOOKS)
    gossipctl = CommandLine(home)
    made = gossipctl(
        *("swarm", "init", "--topology", "mesh", "--protocol", "gossip", "--max-agents", "9"),
        *("--regions", ",".join(REGIONS), "--hooks", str(home / "hooks.yaml")),
    )
    assert list(made.json) == [
        *("swarm_id", "topology", "protocol", "status", "agents", "regions", "created_at")
    ]
    assert made.json["swarm_id"] == "swarm-gossip-001"
    assert made.json["regions"] == list(REGIONS)
    assert made.json["agents"] == []
    for region in REGIONS:
        gossipctl("agent", "spawn", "--region", region, "--name", region, "--count", "2")
    gossipctl("wait", "--for", "ready", "--agents", "6")
    # Ready is who has met one other: how far a write has come is counted among those that its agent knows.
    eventually(lambda: members_known(gossipctl) == [6] * 6)
    yield gossipctl
    for swarm in gossipctl("swarm", "list").lines:
        gossipctl("swarm", "delete", swarm.split("\t")[0], "--yes")


def members_known(gossipctl: CommandLine) -> list[int]:
    """How many agents each of them takes for alive, itself included."""
    found = []
    for agent in gossipctl("agent", "list", "-o", "json").json:
        env = gossipctl("agent", "env", agent["name"], "-o", "json").json
        with Client(env["GOSSIPSWARM_API"], token=env["GOSSIPSWARM_TOKEN"], timeout=60) as http:
            found.append(http.agent().members_alive)
    return found


def terminal(gossipctl: CommandLine, *arguments: str) -> Terminal:
    return Terminal(gossipctl.environment, *arguments)


def test_init_can_be_repeated(gossipctl: CommandLine) -> None:
    again = gossipctl("swarm", "init", "--protocol", "gossip")
    assert again.json["swarm_id"] == "swarm-gossip-001"
    assert "nothing changed" in again.stderr
    assert len(gossipctl("swarm", "list").lines) == 1


def test_one_line_is_one_agent(gossipctl: CommandLine) -> None:
    listed = gossipctl("agent", "list", "--filter", "active").lines
    assert len(listed) == 6
    assert [line.split("\t")[0] for line in listed if "\tus-west\t" in line] == [
        "us-west-1",
        "us-west-2",
    ]
    assert len(gossipctl("agent", "list", "--region", "us-east", "-o", "json").json) == 2


def test_on_a_terminal_lists_have_a_header_and_states_a_colour(gossipctl: CommandLine) -> None:
    shown = terminal(gossipctl, "agent", "list")
    assert shown.end() == 0
    assert shown.text.splitlines()[0].split() == ["NAME", "REGION", "STATUS", "TYPE"]
    assert "\x1b[32mactive" in shown.raw
    plain = Terminal({**gossipctl.environment, "NO_COLOR": "1"}, "agent", "list")
    assert plain.end() == 0
    assert "\x1b[3" not in plain.raw


def test_status_is_a_page_for_people_and_json_for_programs(gossipctl: CommandLine) -> None:
    status = gossipctl("swarm", "status", "--verbose").json
    assert len(status["agents"]) == 6
    shown = terminal(gossipctl, "swarm", "status", "--verbose")
    assert shown.end() == 0
    assert "6 active of 6, at most 9" in shown.text
    assert "us-east-1" in shown.text
    assert "worker-1" in shown.text


def test_a_value_written_at_one_agent_is_read_at_another(gossipctl: CommandLine) -> None:
    value = '{\n  "url": "postgres://db",\n  "ttl": 3600\n}'
    done = gossipctl(
        *("gossip", "state-update", "--key", "app.config", "--value", value),
        *("--agent", "us-east-1", "--wait", "--threshold", "1"),
    )
    assert done.stdout.startswith("app.config updated at us-east-1 (us-east): version 1, 2 leaves")
    assert "at 6 of 6 agents after" in done.stdout
    found = gossipctl("gossip", "query-state", "--key", "app.config", "--agent", "us-west-2")
    answer = found.json
    assert list(answer) == ["region", "agent", "key", "value", "version", "last_updated"]
    assert answer["value"] == {"url": "postgres://db", "ttl": 3600}
    assert (answer["region"], answer["agent"], answer["version"]) == ("us-west", "us-west-2", 1)
    only = gossipctl("gossip", "query-state", "--key", "app.config.ttl", "-o", "value")
    assert only.stdout == "3600\n"


def test_values_come_from_stdin_and_files_and_are_merged(
    gossipctl: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "v.json").write_text('{"a": {"b": 1, "c": 2}}')
    update = ("gossip", "state-update", "--key", "files", "--agent", "us-east-1")
    gossipctl(*update, "--value", f"@{tmp_path / 'v.json'}")
    gossipctl(*update, "--value", "-", "--merge", stdin='{"a": {"c": null, "d": -1.5e3}}')
    found = gossipctl("gossip", "query-state", "--key", "files", "--agent", "us-east-1").json
    assert found["value"] == {"a": {"b": 1, "d": -1500.0}}
    gossipctl(*update, "--value", "-7")
    assert gossipctl("gossip", "delete", "--key", "files", "--agent", "us-east-1")
    assert gossipctl("gossip", "delete", "--key", "files", "--agent", "us-east-1", code=1)


def test_convergence_is_shown_in_rounds_and_watching_ends(gossipctl: CommandLine) -> None:
    gossipctl("gossip", "state-update", "--key", "app.spread", "--value", "1")
    watched = gossipctl("gossip", "convergence", "--watch")
    assert watched.lines[0].startswith("app.spread  written at ")
    assert "| 6               | 100.00%       |" in watched.stdout
    table = gossipctl("gossip", "metrics", "--metric", "convergence-rate").lines
    assert table[0] == "Round | Infected Agents | Convergence % | Duration"
    assert table[2].startswith("1     | 1               | 16.67%        |")
    assert table[-1].startswith("Total convergence time: ")
    write = gossipctl("gossip", "convergence", "-o", "json").json
    assert write["converged"] is True
    again = gossipctl("gossip", "convergence", "--dot", write["dot"], "-o", "json").json
    assert again["dot"] == write["dot"]


def test_convergence_is_live_on_a_terminal(gossipctl: CommandLine) -> None:
    gossipctl("gossip", "state-update", "--key", "app.live", "--value", "1")
    shown = terminal(gossipctl, "gossip", "convergence", "--watch")
    assert shown.end() == 0
    assert "100.00%" in shown.text
    assert "━" in shown.text


def test_parameters_are_changed_all_or_none(gossipctl: CommandLine) -> None:
    done = gossipctl("gossip", "config", "--fanout", "4", "--interval", "120ms", "-o", "json")
    assert (done.json["fanout"], done.json["interval"]) == (4, 120)
    assert "fanout\t4" in gossipctl("gossip", "config").lines
    refused = gossipctl("gossip", "config", "--interval", "130", "--fanout", "99", code=2)
    assert "fanout" in refused.stderr
    assert "interval\t120ms" in gossipctl("gossip", "config").lines
    gossipctl("gossip", "config", "--fanout", "3", "--interval", "100")


def test_what_is_kept_under_the_name_of_a_record_is_read_in_its_place(
    gossipctl: CommandLine,
) -> None:
    name, agent = "coordination/gossip/metrics", ("--agent", "us-east-1")
    gossipctl(
        *("gossip", "state-update", "--key", "app.recorded", "--value", "1", "--wait"), *agent
    )
    eventually(lambda: name in gossipctl("memory", "list", *agent).lines)
    recorded = gossipctl("memory", "retrieve", "--key", name, *agent).json
    assert recorded["convergence_rounds"] >= 1
    gossipctl("memory", "store", "--key", name, "--value", '{"mine": 7}', *agent)
    assert gossipctl("memory", "retrieve", "--key", name, *agent).json == {"mine": 7}
    gossipctl("memory", "delete", "--key", name, *agent)
    assert "recorded_by" in gossipctl("memory", "retrieve", "--key", name, *agent).json
    refused = gossipctl("memory", "delete", "--key", name, *agent, code=1)
    assert "the swarm's own record" in refused.stderr


def test_memory_keeps_values_under_any_name(gossipctl: CommandLine) -> None:
    name, value = "team/notes.metrics\\1", {"rounds": 7, "nested": {"a": [1]}}
    agent = ("--agent", "us-east-1")
    gossipctl("memory", "store", "--key", name, "--value", json.dumps(value), *agent)
    assert gossipctl("memory", "retrieve", "--key", name, *agent).json == value
    assert name in gossipctl("memory", "list", "--prefix", "team/", *agent).lines
    wrong = gossipctl("memory", "retrieve", "--key", "team/notes.metric", *agent, code=1)
    assert name in wrong.stderr
    gossipctl("memory", "delete", "--key", name, *agent)
    assert gossipctl("memory", "retrieve", "--key", name, *agent, code=1)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gossip query-state --key app.typo.timeuot --agent us-east-1", "app.typo.timeout"),
        ("gossip query-state --key app --agent us-eats-1", "us-east-1"),
        ("network partition --group1 us-esat", "us-east"),
        ("agent spawn --region us-wst", "us-west"),
        ("gossip metrics --metric leavs", "leaves"),
        ("--swarm swarm-gossip-01 swarm status", "swarm-gossip-001"),
        ("hooks test post-edti --agent us-east-1", "post-edit"),
    ],
)
def test_a_mistyped_name_gets_a_suggestion(gossipctl: CommandLine, typed: str, meant: str) -> None:
    gossipctl(
        *("gossip", "state-update", "--key", "app.typo.timeout", "--value", "1"),
        *("--agent", "us-east-1"),
    )
    done = gossipctl(*typed.split(), code=None)
    assert done.code in (1, 2)
    assert f"did you mean {meant}?" in done.stderr


def test_a_partition_a_conflict_and_its_healing(gossipctl: CommandLine) -> None:
    update = ("gossip", "state-update", "--key", "app.ttl", "--value")
    gossipctl(*update, "1", "--wait", "--threshold", "1")
    cut = gossipctl(
        *("network", "partition", "--group1", "us-east", "--group2", "us-west,eu-central"),
        *("--duration", "600000"),
    )
    assert cut.stdout == "network partitioned for 10m: us-east | us-west,eu-central\n"
    gossipctl("wait", "--for", "enforced")
    gossipctl(*update, "7200", "--agent", "us-east-1")
    gossipctl(*update, "1800", "--agent", "us-west-1")
    status = gossipctl("network", "partition-status").json
    assert status["status"] == "partitioned"
    assert status["enforced"] == {"agents": 6, "of": 6}
    # Enforced is what one agent has noticed; others are asked here.
    eventually(lambda: gossipctl("network", "verify-connectivity", code=None).code == 1)
    again = gossipctl("network", "partition", "--pair", "us-east:us-west", code=2)
    assert "already cuts" in again.stderr

    assert "healed" in gossipctl("network", "heal-partition").stdout
    conflict = gossipctl("gossip", "conflicts", "--watch", "--key", "app.ttl").json
    assert list(conflict)[:7] == [
        *("conflict_detected", "resolution_strategy", "winning_value", "winning_timestamp"),
        *("losing_value", "losing_timestamp", "affected_agents"),
    ]
    assert (conflict["winning_value"], conflict["losing_value"]) == (1800, 7200)
    assert conflict["affected_agents"] == 6
    gossipctl("wait", "--for", "healed")
    assert "nothing to heal" in gossipctl("network", "heal-partition").stdout
    # Healed is who is in one group again, were it by way of a third region.
    eventually(lambda: gossipctl("network", "verify-connectivity", code=None).code == 0)
    found = gossipctl("gossip", "query-state", "--key", "app.ttl", "--agent", "us-east-1").json
    assert (found["value"], found["conflict"]) == (1800, True)
    history = gossipctl("gossip", "conflicts", "--history", "-o", "json").json
    assert 7200 in [each["losing_value"] for each in history]


def test_a_partition_with_a_duration_ends_by_itself(gossipctl: CommandLine) -> None:
    gossipctl("network", "partition", "--one-way", "us-east:us-west", "--duration", "300ms")
    gossipctl("wait", "--for", "healed")
    status = gossipctl("network", "partition-status").json
    assert (status["status"], status["cuts"]) == ("healthy", [])


def test_waiting_in_vain_ends_with_3(gossipctl: CommandLine) -> None:
    waited = gossipctl("wait", "--for", "ready", "--agents", "8", "--timeout", "200ms", code=3)
    assert "6 of 8 agents are ready" in waited.stderr
    assert waited.stdout == ""
    assert gossipctl("wait", "--for", "convergence", "--threshold", "1.0")


def test_agents_compare_on_demand(gossipctl: CommandLine) -> None:
    reports = gossipctl("gossip", "anti-entropy", "--force", "--all-agents", "-o", "json").json
    assert len(reports) == 6
    assert {"agent", "peer", "rows_received", "dropped"} <= reports[0].keys()
    assert len(gossipctl("gossip", "anti-entropy", "--immediate").lines) == 3


def test_degraded_mode_refuses_writes_and_says_how_to_end_it(gossipctl: CommandLine) -> None:
    agent = ("--agent", "us-east-2")
    gossipctl("gossip", "degraded-mode", "--enable", *agent)
    refused = gossipctl("gossip", "state-update", "--key", "x", "--value", "1", *agent, code=1)
    assert "degraded-mode --disable" in refused.stderr
    assert gossipctl("gossip", "degraded-mode", *agent, "-o", "json").json["degraded"] is True
    gossipctl("gossip", "degraded-mode", "--disable", *agent)
    gossipctl("gossip", "state-update", "--key", "x", "--value", "1", *agent)


def test_any_metric_can_be_read(gossipctl: CommandLine) -> None:
    assert any(
        line.startswith("gossipswarm_leaves\tgauge")
        for line in gossipctl("gossip", "metrics").lines
    )
    leaves = gossipctl("gossip", "metrics", "--metric", "leaves", "-o", "json").json
    assert leaves["name"] == "gossipswarm_leaves"
    assert leaves["series"][0]["min"] <= leaves["series"][0]["max"]
    page = gossipctl(
        *("gossip", "metrics", "--metric", "convergence_seconds", "-o", "prometheus"),
        *("--agent", "us-east-1"),
    )
    assert page.lines[0].startswith("# HELP gossipswarm_convergence_seconds")
    spread = gossipctl("gossip", "metrics", "--metric", "convergence_seconds").lines
    assert spread[0].startswith("threshold=")


def test_changes_are_followed(gossipctl: CommandLine) -> None:
    watcher = subprocess.Popen(
        [GOSSIPCTL, "gossip", "watch", "--key", "app.seen", "--count", "1"],
        env=gossipctl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    number = 0
    try:
        # The watch begins at some moment: write until it has seen something.
        while watcher.poll() is None and number < 200:
            number += 1
            gossipctl("gossip", "state-update", "--key", "app.seen", "--value", str(number))
        change = json.loads(watcher.communicate(timeout=120)[0])
    finally:
        watcher.kill()
        watcher.wait()
    assert change["key"] == "app.seen"
    assert 1 <= change["value"] <= number


def test_hooks_are_listed_and_tried(gossipctl: CommandLine) -> None:
    assert "partition-detected\t1\tbuiltin log" in gossipctl("hooks", "list").lines
    done = gossipctl(
        *("hooks", "test", "post-edit", "--detail", '{"file": "a"}', "--agent", "us-east-1"),
        code=1,
    )
    first, second = (line.split("\t") for line in done.lines)
    assert first[:3] == ["post-edit", "builtin state-update", "done"]
    assert second[:3] == ["post-edit", "exec sh", "failed"]
    assert "noted" in second[4]
    written = ("gossip", "query-state", "--key", "file-metadata/a", "--agent", "us-east-1")
    assert gossipctl(*written).json["value"] == {"edited": True}
    assert "post-edit" in gossipctl("hooks", "list", "--outcomes", "--agent", "us-east-1").stdout


def test_a_benchmark_counts_what_every_agent_holds_and_cleans_up(gossipctl: CommandLine) -> None:
    figures = gossipctl("gossip", "benchmark", "--updates", "200", "--concurrency", "8").json
    assert list(figures)[:8] == [
        *("total_updates", "duration_sec", "throughput_ops_sec", "avg_convergence_ms"),
        *("p95_convergence_ms", "p99_convergence_ms", "partition_events", "conflicts_resolved"),
    ]
    assert figures["total_updates"] == 200
    assert 0 < figures["acknowledged"]["duration_sec"] <= figures["duration_sec"]
    assert 0 < figures["avg_convergence_ms"] <= figures["p99_convergence_ms"]
    assert figures["agents_written_at"] == 6
    gossipctl("wait", "--for", "convergence", "--threshold", "1")
    assert gossipctl("gossip", "query-state", "--key", "benchmark", code=1)


def test_updates_may_be_pipelined_and_kept(gossipctl: CommandLine) -> None:
    done = gossipctl(
        *("gossip", "benchmark", "--updates", "100", "--concurrency", "20", "--batch", "10"),
        *("--agents", "2", "--key-prefix", "load", "--keep"),
    )
    assert (done.json["writers"], done.json["agents_written_at"]) == (2, 2)
    [run] = gossipctl("gossip", "query-state", "--key", "load").json["value"].values()
    assert sorted(value for writer in run.values() for value in writer.values()) == list(range(100))


def test_an_agent_stops_and_comes_back_with_its_data(gossipctl: CommandLine) -> None:
    gossipctl("gossip", "state-update", "--key", "app.back", "--value", "1", "--wait")
    assert gossipctl("agent", "stop", "eu-central-2").stdout == "agent/eu-central-2 stopped\n"
    assert len(gossipctl("agent", "list", "--filter", "active").lines) == 5
    down = gossipctl("gossip", "query-state", "--key", "a", "--agent", "eu-central-2", code=4)
    assert "agent spawn --name eu-central-2" in down.stderr
    gossipctl("agent", "spawn", "--name", "eu-central-2", "--region", "eu-central")
    gossipctl("wait", "--for", "ready", "--agents", "6")
    assert gossipctl("gossip", "query-state", "--key", "app.back", "--agent", "eu-central-2")
    assert gossipctl("agent", "logs", "eu-central-2", "--tail", "3", "-o", "json").lines


def test_many_commands_at_once_spawn_many_agents(gossipctl: CommandLine) -> None:
    commands = [
        subprocess.Popen(
            [GOSSIPCTL, "agent", "spawn", "--name", f"extra-{number}", "--region", "us-east"],
            env=gossipctl.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    printed = [command.communicate(timeout=300)[0] for command in commands]
    assert printed == [f"agent/extra-{number} started in us-east\n" for number in range(3)]
    too_many = gossipctl("agent", "spawn", code=2)
    assert "--max-agents" in too_many.stderr
    # Who leaves for good first hands over: that needs a peer with the same state.
    gossipctl("wait", "--for", "convergence", "--threshold", "1")
    for number in range(3):
        gossipctl("agent", "stop", f"extra-{number}", "--remove")
    assert len(gossipctl("agent", "list").lines) == 6


def test_names_of_the_swarm_are_completed(gossipctl: CommandLine) -> None:
    def offered(*words: str) -> list[str]:
        return [line.partition("\t")[0] for line in gossipctl("__complete", *words).lines]

    gossipctl("gossip", "state-update", "--key", "tab.key", "--value", "1", "--wait")
    assert offered("gossip", "query-state", "--agent", "us-w") == ["us-west-1", "us-west-2"]
    assert offered("agent", "spawn", "--region", "eu") == ["eu-central"]
    assert offered("gossip", "query-state", "--key", "tab") == ["tab.key"]
    assert offered("network", "partition", "--group1", "us-east,us") == ["us-east,us-west"]
    assert offered("agent", "logs", "us-east-") == ["us-east-1", "us-east-2"]
    assert "swarm-gossip-001" in offered("--swarm", "")


def test_the_dashboard_shows_the_swarm_until_q(gossipctl: CommandLine) -> None:
    shown = terminal(gossipctl, "dashboard", "--refresh", "100ms")
    shown.until("us-west")
    shown.until("healthy")
    gossipctl("gossip", "state-update", "--key", "app.dashboard", "--value", "1")
    shown.until("●●")
    shown.type("q")
    assert shown.end() == 0
    assert "needs a terminal" in gossipctl("dashboard", code=2).stderr


def test_deleting_asks_first(gossipctl: CommandLine) -> None:
    shown = terminal(gossipctl, "swarm", "delete", "swarm-gossip-001")
    shown.until("[y/N]")
    shown.type("n\n")
    assert shown.end() == 1
    assert "nothing was deleted" in shown.text
    assert "--yes" in gossipctl("swarm", "delete", "swarm-gossip-001", code=2).stderr
    assert len(gossipctl("agent", "list").lines) == 6


def test_convergence_can_be_followed_from_write_to_write(gossipctl: CommandLine) -> None:
    follower = subprocess.Popen(
        [GOSSIPCTL, "gossip", "convergence", "--follow", "-o", "json"],
        env=gossipctl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        first = json.loads(follower.stdout.readline())
        gossipctl("gossip", "state-update", "--key", "app.followed", "--value", "1")
        second = json.loads(follower.stdout.readline())
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(120) == 130
    assert first["key"] != second["key"] == "app.followed"
    assert second["converged"]


def test_ctrl_c_ends_a_live_view_with_130(gossipctl: CommandLine) -> None:
    shown = terminal(gossipctl, "gossip", "watch", "--key", "app")
    shown.until("Ctrl-C ends")
    shown.interrupt()
    assert shown.end() == 130
    assert "Traceback" not in shown.text


def test_a_manifest_is_applied_and_applied_again(gossipctl: CommandLine) -> None:
    manifest = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")
    made = gossipctl("swarm", "apply", "-f", manifest)
    assert made.stdout == "swarm/quickstart created\n"
    assert len(gossipctl("--swarm", "quickstart", "agent", "list").lines) == 9
    assert gossipctl("swarm", "apply", "-f", manifest).stdout == "swarm/quickstart unchanged\n"
    broken = gossipctl("swarm", "apply", "-f", "-", stdin="kind: [", code=2)
    assert "not valid YAML" in broken.stderr
    assert gossipctl("swarm", "delete", "quickstart", "--yes").stdout == (
        "swarm/quickstart deleted\n"
    )


def test_a_swarm_that_is_down_is_unreachable_and_comes_up_again(gossipctl: CommandLine) -> None:
    swarm = ("--swarm", "swarm-gossip-001")
    gossipctl("gossip", "state-update", "--key", "app.kept", "--value", "1", "--wait", *swarm)
    assert "is down" in gossipctl("swarm", "down", "swarm-gossip-001").stdout
    down = gossipctl("gossip", "query-state", "--key", "app.kept", *swarm, code=4)
    assert "gossipctl swarm up" in down.stderr
    assert gossipctl("swarm", "down", *swarm).stdout.endswith("was down already\n")
    gossipctl("swarm", "up", *swarm)
    gossipctl("wait", "--for", "ready", "--agents", "6", *swarm)
    assert gossipctl("gossip", "query-state", "--key", "app.kept", *swarm).json["value"] == 1

"""What gossipctl answers to those who mistype, without any swarm."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from command_line import GOSSIPCTL, CommandLine


@pytest.fixture
def gossipctl(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        ("gosip config", "unknown command 'gosip'", "did you mean gossip?"),
        ("swarm inti", "swarm has no verb 'inti'", "did you mean init?"),
        ("partition", "unknown command 'partition'", "gossipctl network partition"),
        ("swarm frobnicate", "swarm has no verb 'frobnicate'", "its verbs: init, status"),
        ("gossip config --fanuot 3", "unknown flag --fanuot", "did you mean --fanout?"),
        ("--swrm x swarm list", "unknown flag --swrm", "did you mean --swarm?"),
        ("gossip config --mode psuh", "'psuh' is not known", "did you mean push?"),
        ("gossip config --fanout", "--fanout: a value is missing", "gossip config --help"),
        ("gossip config --fanout many", "not a whole number", "gossip config --help"),
        ("gossip config --region-affinity 7", "not a share from 0 to 1", "--help"),
        ("gossip config --interval 5x", "not a duration; expected milliseconds", "--help"),
        ("gossip config --eager maybe", "neither true nor false", "--help"),
        ("gossip query-state", "--key is required", "--help"),
        ("gossip query-state --key a b", "unexpected argument 'b'", "did you mean --key b?"),
        ("gossip state-update", "--key and --value are required", "--help"),
        ("agent list --filter actve", "no state 'actve'", "did you mean active?"),
        ("agent list -o yaml", "'yaml' is not known", "--help"),
        ("network partition", "who is cut off from whom?", "--group1 us-east"),
        ("network partition --pair us-east", "not two regions", "--pair us-east:us-west"),
        ("network partition --groups a||b", "an empty name", "--group1 us-east"),
        ("wait --for convergance", "did you mean convergence?", "--help"),
        ("agent stop", "expected the name of an agent", "gossipctl agent list"),
        ("gossip conflicts --backend kubernets", "'kubernets' is not known", "--help"),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(
    gossipctl: CommandLine, typed: str, message: str, hint: str
) -> None:
    done = gossipctl(*typed.split(), code=2)
    assert done.stdout == ""
    error, _, advice = done.stderr.partition("hint:")
    assert error.startswith("error: ")
    assert message in error
    assert hint in advice or hint in error


def test_malformed_json_is_shown_with_a_caret_under_the_position(gossipctl: CommandLine) -> None:
    value = '{\n  "url": "x"\n  "ttl": 1\n}'
    done = gossipctl("gossip", "state-update", "--key", "a", "--value", value, code=2)
    lines = done.stderr.splitlines()
    assert "at line 3, column 3" in lines[0]
    line = next(index for index, text in enumerate(lines) if '"ttl": 1' in text)
    assert lines[line + 1].index("^") == lines[line].index('"ttl"')


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("hello", "--value '\"hello\"'"),
        ("{'a': 1}", "double quotes"),
        ("", "an empty string is written"),
        ("NaN", "JSON has no NaN"),
        ('{"a": 1,}', "column"),
    ],
)
def test_a_value_that_is_not_json_gets_fitting_advice(
    gossipctl: CommandLine, value: str, advice: str
) -> None:
    done = gossipctl("memory", "store", "--key", "a", "--value", value, code=2)
    assert advice in done.stderr


def test_a_file_that_cannot_be_read_is_named(gossipctl: CommandLine) -> None:
    done = gossipctl("gossip", "state-update", "--key", "a", "--value", "@no.json", code=1)
    assert "cannot read no.json: No such file or directory" in done.stderr


def test_without_a_swarm_the_way_to_one_is_shown(gossipctl: CommandLine) -> None:
    done = gossipctl("gossip", "query-state", "--key", "a", code=None)
    assert done.code in (2, 4)
    assert "gossipctl swarm init" in done.stderr


def test_deleting_what_does_not_exist_can_be_fine(gossipctl: CommandLine) -> None:
    assert gossipctl("--swarm", "demo", "swarm", "delete", "--yes", "--if-exists").stdout == ""
    assert gossipctl("--swarm", "demo", "swarm", "delete", "--yes", code=2)


def test_stdout_that_nobody_reads_ends_it_quietly(gossipctl: CommandLine) -> None:
    process = subprocess.Popen(
        [GOSSIPCTL, "--help"],
        env=gossipctl.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, complaint = process.communicate(timeout=120)
    assert complaint == b""
    assert process.returncode == 141


def test_ctrl_c_ends_it_quietly_with_130(gossipctl: CommandLine, tmp_path: Path) -> None:
    pipe = tmp_path / "value"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [GOSSIPCTL, "gossip", "state-update", "--key", "a", "--value", f"@{pipe}"],
        env=gossipctl.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # Opening our end returns once it has opened its own: it waits for us to write.
    with pipe.open("w"):
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)
    assert output == (b"", b"")
    assert process.returncode == 130


def test_a_defect_is_one_line_and_says_how_to_get_the_trace(
    gossipctl: CommandLine, tmp_path: Path
) -> None:
    broken = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import gossipctl.local.client as c\n"
        "def broken(*_): raise KeyError('x')\n"
        "c.list_swarms = broken\n"
    )
    done = gossipctl("swarm", "list", code=1, environment=broken)
    assert done.stderr.splitlines()[0] == "error: unexpected KeyError: 'x'"
    assert "GOSSIPCTL_DEBUG=1" in done.stderr


def test_the_version_is_printed(gossipctl: CommandLine) -> None:
    assert gossipctl("version").stdout.startswith("gossipctl ")
    assert gossipctl("--version").stdout == gossipctl("version").stdout
    assert set(gossipctl("version", "-o", "json").json) == {"version"}

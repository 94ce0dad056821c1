"""Completion: what is offered, and that shells load the scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from command_line import CommandLine
from gossipctl.catalogue import NOUNS, SINGLE, VERBS


@pytest.fixture
def gossipctl(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def offered(gossipctl: CommandLine, *words: str) -> list[str]:
    done = gossipctl("__complete", *words)
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.lines]


def test_nouns_verbs_and_flags_are_offered(gossipctl: CommandLine) -> None:
    assert offered(gossipctl, "") == [*NOUNS, *SINGLE]
    assert offered(gossipctl, "gossip", "con") == ["config", "convergence", "conflicts"]
    assert offered(gossipctl, "--swarm", "x", "memory", "") == list(VERBS["memory"])
    assert offered(gossipctl, "gossip", "config", "--anti") == [
        "--anti-entropy",
        "--anti-entropy-interval",
    ]


def test_values_are_offered(gossipctl: CommandLine) -> None:
    assert offered(gossipctl, "gossip", "config", "--mode", "") == ["push", "pull", "push-pull"]
    assert offered(gossipctl, "gossip", "config", "--eager", "") == ["true", "false"]
    assert offered(gossipctl, "completion", "") == ["bash", "zsh", "fish"]
    assert offered(gossipctl, "wait", "--for", "he") == ["healed"]
    assert "value" in offered(gossipctl, "gossip", "query-state", "-o", "")
    assert offered(gossipctl, "swarm", "apply", "-f", "") == [":files"]
    assert offered(gossipctl, "gossip", "config", "--mode=pus") == [
        "--mode=push",
        "--mode=push-pull",
    ]
    assert offered(gossipctl, "gossip", "config", "--mode", "=", "pul") == ["pull"]


def test_a_flag_that_was_given_is_not_offered_again(gossipctl: CommandLine) -> None:
    assert "--key" in offered(gossipctl, "gossip", "query-state", "--")
    assert "--key" not in offered(gossipctl, "gossip", "query-state", "--key", "a", "--")


def test_where_nothing_can_be_known_there_is_silence(gossipctl: CommandLine) -> None:
    assert offered(gossipctl, "gossip", "query-state", "--agent", "") == []
    assert offered(gossipctl, "no", "such", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_valid_for_its_shell(gossipctl: CommandLine, shell: str) -> None:
    script = gossipctl("completion", shell).stdout
    assert "__complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_a_verb(gossipctl: CommandLine) -> None:
    script = """
        source <(gossipctl completion bash)
        COMP_WORDS=(gossipctl gossip conv); COMP_CWORD=2
        _gossipctl
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=gossipctl.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["convergence"]

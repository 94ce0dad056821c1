"""Help pages. Their text is kept in docs/cli.md, which a test of the documentation compares word by word."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from command_line import CommandLine
from gossipctl.catalogue import SINGLE, VERBS
from gossipctl.command import Command
from gossipctl.main import load, run
from gossipctl.parser import Parser

COMMANDS = [
    *((noun, verb) for noun, verbs in VERBS.items() for verb in verbs),
    *((name,) for name in SINGLE if name != "simulate"),
]
"""Every command but those that are other programs."""


def command(words: tuple[str, ...]) -> Command:
    table = VERBS[words[0]] if len(words) == 2 else SINGLE
    return load(words[-1], table[words[-1]][1])


def parser(words: tuple[str, ...]) -> Parser:
    found = command(words)
    made = Parser(" ".join(("gossipctl", *words)), about=found.about, examples=found.examples)
    found.arguments(made)
    made.add_globals()
    return made


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_all_its_flags(words: tuple[str, ...]) -> None:
    found = command(words)
    assert found.about.strip().endswith((".", "gossipctl.fish"))
    assert found.examples
    for action in parser(words)._actions:
        assert action.help, action.option_strings
        assert not action.help.endswith("."), action.help
        assert action.help[0].islower() or " " in action.help


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_example_can_be_parsed(words: tuple[str, ...]) -> None:
    for example in command(words).examples:
        arguments = _words(example.partition(" | ")[0])
        leading = []
        while arguments[0].startswith("--"):
            leading += [arguments.pop(0), arguments.pop(0)]
        assert tuple(arguments[: len(words)]) == words
        flags = parser(words).parse([*leading, *arguments[len(words) :]])
        assert isinstance(flags, argparse.Namespace)


def _words(line: str) -> list[str]:
    return [word.replace("'", "") for word in re.findall(r"(?:'[^']*'|[^\s'])+", line)]


def test_help_stands_in_any_place_and_names_the_kubectl_plugin(tmp_path: Path) -> None:
    gossipctl = CommandLine(tmp_path)
    pages = [
        gossipctl("swarm", "init", "--help").stdout,
        gossipctl("help", "swarm", "init").stdout,
        gossipctl("swarm", "--swarm", "x", "init", "-h").stdout,
    ]
    assert pages[0] == pages[1] == pages[2]
    assert gossipctl().stdout == gossipctl("--help").stdout == gossipctl("-h").stdout
    assert gossipctl("swarm").stdout == gossipctl("swarm", "--help").stdout


def test_help_wraps_to_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for words in COMMANDS:
        for line in page(capsys, *words).splitlines():
            assert len(line) <= 64 or line.startswith(
                ("  $ ", "  gossipctl", "      --", "  -o")
            ), line

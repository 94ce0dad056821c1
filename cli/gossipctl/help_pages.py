"""Help pages, in the manner of a manual: what it does, how it is called, every flag, examples."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gossipctl.catalogue import NOUNS, SINGLE, VERBS
from gossipctl.output import colours

if TYPE_CHECKING:
    from gossipctl.parser import Parser

EXIT_CODES = "0 done   1 failed   2 usage   3 not converged or timed out   4 unreachable"


def root_page(program: str) -> str:
    """``gossipctl --help``."""
    return _page(
        _prose(
            "Shared state on hundreds of agents in milliseconds, through partitions, "
            "with proof of delivery."
        ),
        _section("Usage", [f"{program} <noun> <verb> [flags]"]),
        _section("Nouns", _rows(NOUNS.items())),
        _section("Commands", _rows((name, summary) for name, (summary, _) in SINGLE.items())),
        _section(
            "Global flags",
            _rows(
                [
                    (
                        "--swarm NAME",
                        "the swarm to talk to (default: $GOSSIPSWARM_SWARM, or the last one made)",
                    ),
                    ("-o, --output FORMAT", "json, table or wide"),
                    ("-h, --help", "show help, of any noun or verb"),
                ]
            ),
        ),
        _section(
            "Start here",
            [
                f"$ {program} swarm init --regions us-east,us-west,eu-central",
                f"$ {program} agent spawn --region us-east --count 5",
                f"$ {program} gossip state-update --key app.config --value '{{\"cache_ttl\": 3600}}'",
                f"$ {program} gossip convergence --watch",
            ],
        ),
        _section("Exit codes", [EXIT_CODES]),
        _section(
            "Environment",
            _rows(
                [
                    ("GOSSIPSWARM_SWARM", "the swarm to talk to"),
                    ("NO_COLOR", "no colour, whatever it is set to"),
                    ("GOSSIPCTL_DEBUG", "1 prints the trace of an unexpected error"),
                ]
            ),
        ),
    )


def noun_page(program: str, noun: str) -> str:
    """``gossipctl NOUN --help``."""
    verbs = [(name, summary) for name, (summary, _) in VERBS[noun].items()]
    return _page(
        _prose(_sentence(NOUNS[noun])),
        _section("Usage", [f"{program} {noun} <verb> [flags]"]),
        _section("Verbs", _rows(verbs)),
        _section("More", [f"{program} {noun} <verb> --help shows flags and examples."]),
    )


def command_page(parser: Parser) -> str:
    """The page of one command, from its parser."""
    own, common, positional = [], [], []
    for group in parser._action_groups:
        for action in group._group_actions:
            if not action.option_strings:
                positional.append(action)
            elif group.title == "global":
                common.append(action)
            elif action.help != argparse.SUPPRESS:
                own.append(action)
    required = [action for action in own if action.required]
    usage = [parser.prog, *(_usage(action) for action in required)]
    usage += [_positional_usage(action) for action in positional]
    if len(own) > len(required):
        usage.append("[flags]")
    program = parser.prog.split(" ")[0] if "kubectl" not in parser.prog else "kubectl gossip"
    return _page(
        "\n\n".join(_prose(part) for part in parser.about.strip().split("\n\n")),
        _section("Usage", [" ".join(usage)]),
        _section("Arguments", _rows((_placeholder(each), each.help or "") for each in positional)),
        _section("Flags", _rows((_names(each), _explained(each)) for each in own)),
        _section("Global flags", _rows((_names(each), each.help or "") for each in common)),
        _section("Examples", [f"$ {program} {example}" for example in parser.examples]),
    )


def _usage(action: argparse.Action) -> str:
    return f"{action.option_strings[-1]} {_placeholder(action)}"


def _positional_usage(action: argparse.Action) -> str:
    name = _placeholder(action)
    if action.nargs in ("*", argparse.REMAINDER):
        return f"[{name}...]"
    return f"[{name}]" if action.nargs == "?" else name


def _placeholder(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper().replace("_", "-")


def _names(action: argparse.Action) -> str:
    short = [name for name in action.option_strings if not name.startswith("--")]
    long = [name for name in action.option_strings if name.startswith("--")]
    text = ", ".join([*short, *long])
    if not short:
        text = f"    {text}"
    return text if action.nargs == 0 else f"{text} {_placeholder(action)}"


def _explained(action: argparse.Action) -> str:
    text = action.help or ""
    if action.required:
        return f"{text} (required)"
    if action.default not in (None, False, []) and action.nargs != 0:
        return f"{text} (default {action.default})"
    return text


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _width() -> int:
    return min(shutil.get_terminal_size((88, 24)).columns, 100)


def _prose(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _width(), break_on_hyphens=False)


def _rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names in one column, explanations wrapped in another."""
    rows = list(pairs)
    column = min(max((len(name) for name, _ in rows), default=0), 34) + 3
    lines = []
    for name, explanation in rows:
        wrapped = textwrap.wrap(
            explanation, max(24, _width() - column - 2), break_on_hyphens=False
        ) or [""]
        if len(name) + 2 > column:
            lines.append(name)
            name = ""
        lines.append(f"{name:<{column}}{wrapped[0]}".rstrip())
        lines += [" " * column + rest for rest in wrapped[1:]]
    return lines


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    heading = f"\x1b[1m{title}\x1b[0m" if colours(sys.stdout) else title
    return "\n".join([heading, *(f"  {line}" for line in lines)])


def _page(*sections: str) -> str:
    return "\n\n".join(section for section in sections if section) + "\n"

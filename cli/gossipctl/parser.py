"""Command-line parsing: argparse for one command only, with errors that help.

Building every sub-parser costs more than most commands do, so ``main`` finds the command first and only
its parser is built.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gossipctl import durations
from gossipctl.failures import UsageError
from gossipctl.suggest import did_you_mean, listing

FORMATS = ("json", "table", "wide")


class Parser(argparse.ArgumentParser):
    """The parser of one command. Errors are raised as UsageError, help is a page of our own."""

    def __init__(self, command: str, *, about: str, examples: Sequence[str] = ()) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)
        self.about = about
        self.examples = examples
        self.formats: Sequence[str] = FORMATS
        # "-1e3" is a value, not a flag: nothing here has flags that look like numbers.
        self._negative_number_matcher = re.compile(r"^-\.?\d")

    def flag(self, *names: str, help: str, **options: Any) -> None:  # noqa: A002
        """Add an option. ``help`` is a phrase, lower case, without a full stop."""
        self.add_argument(*names, help=help, **options)

    def switch(self, *names: str, help: str, **options: Any) -> None:  # noqa: A002
        """Add an option that takes no value."""
        self.add_argument(*names, help=help, action="store_true", **options)

    def positional(self, name: str, *, help: str, **options: Any) -> None:  # noqa: A002
        """Add an argument without a flag."""
        self.add_argument(name, help=help, **options)

    def add_globals(self) -> None:
        """The flags that every command takes, before or after its name."""
        group = self.add_argument_group("global")
        group.add_argument(
            "--swarm", metavar="NAME", help="the swarm to talk to (default: $GOSSIPSWARM_SWARM)"
        )
        group.add_argument(
            "--backend",
            type=choice("local", "kubernetes"),
            metavar="local|kubernetes",
            help="where the swarm runs (default: local if a swarm is selected there, else the cluster)",
        )
        group.add_argument(
            "--context", metavar="NAME", help="context of the kubeconfig (default: the current one)"
        )
        group.add_argument(
            "--namespace", "-n", metavar="NAME", help="namespace (default: the context's)"
        )
        group.add_argument(
            "-o",
            "--output",
            type=choice(*self.formats),
            metavar="|".join(self.formats),
            help="how to print the result",
        )
        group.add_argument("-h", "--help", action="help", help="show this help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse, or raise UsageError naming what is wrong, what is expected and what was probably meant."""
        self._refuse_unknown_flags(arguments)
        parsed, extra = self.parse_known_args(arguments)
        if extra:
            raise UsageError(f"unexpected argument {extra[0]!r}", self._how_to_pass(extra[0]))
        return parsed

    def _refuse_unknown_flags(self, arguments: Sequence[str]) -> None:
        known = self._option_string_actions
        for argument in arguments:
            if argument == "--":
                return
            name = argument.partition("=")[0]
            if name.startswith("--") and name not in known:
                raise UsageError(
                    f"unknown flag {name}",
                    did_you_mean(name, known, otherwise=f"see {self.prog} --help"),
                )

    def _how_to_pass(self, value: str) -> str:
        for candidate in ("--key", "--name", "--agent", "--metric"):
            if candidate in self._option_string_actions and not value.startswith("-"):
                return f"did you mean {candidate} {value}?"
        return f"see {self.prog} --help"

    def error(self, message: str) -> NoReturn:
        """argparse's complaint, in our words."""
        required = re.fullmatch(r"the following arguments are required: (.*)", message)
        if required:
            names = required[1].split(", ")
            verb = "is" if len(names) == 1 else "are"
            raise UsageError(f"{listing(names)} {verb} required", f"see {self.prog} --help")
        named = re.fullmatch(r"argument ([^:]*): (.*)", message, re.DOTALL)
        if named:
            flag = named[1].split("/")[-1]
            what = named[2].replace("expected one argument", "a value is missing")
            what = what.replace("expected at least one argument", "a value is missing")
            raise UsageError(f"{flag}: {what}", f"see {self.prog} --help")
        raise UsageError(message, f"see {self.prog} --help")

    def format_help(self) -> str:
        """The command's page."""
        from gossipctl.help_pages import command_page

        return command_page(self)


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def convert(text: str) -> str:
        if text in allowed:
            return text
        near = did_you_mean(text, allowed)
        expected = (
            f"expected {allowed[0]}"
            if len(allowed) == 1
            else f"expected one of {', '.join(allowed)}"
        )
        raise argparse.ArgumentTypeError(
            f"{text!r} is not known; {near or expected}" + (f" ({expected})" if near else "")
        )

    convert.allowed = allowed  # type: ignore[attr-defined]  # read by completion
    return convert


def duration(text: str) -> int:
    """Milliseconds."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def share(text: str) -> float:
    """A share of the agents: 0.95, or 95%."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if not 0 <= value <= 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1") from None
    return value


def count(text: str) -> int:
    """A whole number of at least one."""
    try:
        value = int(text.replace("_", "").replace(",", ""))
        if value < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1") from None
    return value


def boolean(text: str) -> bool:
    """true or false."""
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def names(text: str) -> list[str]:
    """Comma-separated names, without blanks or repetitions."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name in it")
    return found


boolean.allowed = ("true", "false")  # type: ignore[attr-defined]  # read by completion

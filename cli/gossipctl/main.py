"""Entry point: find the command, build its parser, run it, and turn every failure into a line and a code."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from gossipctl import output
from gossipctl.catalogue import NOUNS, SINGLE, VERBS
from gossipctl.command import Command, Invocation
from gossipctl.failures import INTERRUPTED, STDOUT_CLOSED, CommandFailed, StdoutClosed, UsageError
from gossipctl.suggest import did_you_mean

GLOBAL_WITH_VALUE = (
    "--swarm", "--backend", "--context", "--namespace", "-n", "-o", "--output"
)  # fmt: skip


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's); the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return dispatch(program_name(), given)
    except StdoutClosed:
        # Nobody reads: what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return STDOUT_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except CommandFailed as failure:
        output.complain(failure.message, failure.hint)
        return failure.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:  # noqa: BLE001 - the last resort: never a traceback
        return _explain(error)


def program_name() -> str:
    """How the user called us: ``kubectl gossip`` as a kubectl plugin."""
    called = os.path.basename(sys.argv[0] or "")  # noqa: PTH119 - pathlib costs 3 ms
    return "kubectl gossip" if called.startswith("kubectl-gossip") else "gossipctl"


def dispatch(program: str, arguments: list[str]) -> int:
    """Run the command that ``arguments`` name."""
    leading, rest = _split_globals(arguments)
    if not rest or rest[0] in ("-h", "--help", "help"):
        return _help(program, [word for word in rest if word not in ("-h", "--help", "help")])
    if rest[0] == "--version":
        rest[0] = "version"
    word = rest.pop(0)
    if word == "__complete":
        from gossipctl.completing import complete

        return complete(rest)
    if word in SINGLE:
        return execute(program, (word,), SINGLE[word][1], leading + rest)
    if word not in VERBS:
        _unknown_command(program, word)
    more, rest = _split_globals(rest)
    if not rest or rest[0] in ("-h", "--help"):
        return _help(program, [word])
    verb = rest.pop(0)
    if verb not in VERBS[word]:
        _unknown_verb(program, word, verb)
    return execute(program, (word, verb), VERBS[word][verb][1], leading + more + rest)


def execute(program: str, words: tuple[str, ...], module: str, arguments: list[str]) -> int:
    """Parse and run one command."""
    from gossipctl.parser import Parser

    command = load(words[-1], module)
    if command.passes_on:
        return command.run(Invocation(Namespace(arguments=arguments), output.Output())) or 0
    parser = Parser(" ".join((program, *words)), about=command.about, examples=command.examples)
    command.arguments(parser)
    parser.add_globals()
    try:
        flags = parser.parse(arguments)
    except UsageError as failure:
        failure.hint = failure.hint or f"see {parser.prog} --help"
        raise
    return command.run(Invocation(flags, output.Output(flags.output))) or 0


def load(name: str, module: str) -> Command:
    """The command called ``name`` in ``commands/module``."""
    commands: dict[str, Command] = import_module(f"gossipctl.commands.{module}").COMMANDS
    return commands[name]


def _split_globals(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The global flags that stand before the next word, and the rest."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument in GLOBAL_WITH_VALUE:
            index += 2
        elif argument.startswith(tuple(f"{name}=" for name in GLOBAL_WITH_VALUE)):
            index += 1
        else:
            break
    return arguments[:index], arguments[index:]


def _help(program: str, words: list[str]) -> int:
    from gossipctl import help_pages

    if not words:
        page = help_pages.root_page(program)
    elif words[0] in VERBS and (len(words) == 1 or words[1] not in VERBS[words[0]]):
        page = help_pages.noun_page(program, words[0])
    else:
        return dispatch(program, [*words[:2], "--help"])
    output.Output().line(page.rstrip("\n"))
    return 0


def _unknown_command(program: str, word: str) -> None:
    known = {*NOUNS, *SINGLE}
    nouns = [noun for noun, verbs in VERBS.items() if word in verbs]
    if word.startswith("-"):
        raise UsageError(
            f"unknown flag {word}",
            did_you_mean(
                word, ("--help", "--swarm", "--output"), otherwise=f"see {program} --help"
            ),
        )
    if nouns:
        raise UsageError(
            f"unknown command {word!r}",
            "did you mean " + " or ".join(f"{program} {noun} {word}" for noun in nouns) + "?",
        )
    raise UsageError(
        f"unknown command {word!r}",
        did_you_mean(word, known, otherwise=f"see {program} --help"),
    )


def _unknown_verb(program: str, noun: str, verb: str) -> None:
    if verb.startswith("-"):
        raise UsageError(
            f"unknown flag {verb} before a verb", f"see {program} {noun} --help for its verbs"
        )
    verbs = ", ".join(VERBS[noun])
    raise UsageError(
        f"{noun} has no verb {verb!r}",
        did_you_mean(verb, VERBS[noun], otherwise=f"its verbs: {verbs}"),
    )


def _explain(error: Exception) -> int:
    from gossipctl.refusals import translate

    failure = translate(error)
    if failure is not None:
        output.complain(failure.message, failure.hint)
        return failure.exit_code
    if os.environ.get("GOSSIPCTL_DEBUG"):
        import traceback

        traceback.print_exception(error)
        return 1
    what = " ".join(str(error).split())
    output.complain(
        f"unexpected {type(error).__name__}{': ' if what else ''}{what}",
        "this is a defect; run again with GOSSIPCTL_DEBUG=1 for the trace and report it",
    )
    return 1


if __name__ == "__main__":
    sys.exit(run())

"""What could come next on a command line: asked by the completion scripts, answered on stdout.

One candidate a line, with an explanation behind a tab; ``:files`` alone asks the shell for file names.
Whatever goes wrong, there is nothing to complete, and no complaint.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from gossipctl.catalogue import NOUNS, SINGLE, VERBS
from gossipctl.command import Invocation
from gossipctl.failures import CommandFailed
from gossipctl.main import GLOBAL_WITH_VALUE
from gossipctl.output import Output
from gossipctl.parser import Parser, names

FILES = ":files"
KEYS = 1000
"""Keys offered at most."""
PATIENCE_SECONDS = 3.0
"""A cluster that does not answer must not hold up the shell for longer."""

Candidate = tuple[str, str]


def complete(words: Sequence[str]) -> int:
    """Print the candidates for the last of ``words``, which may be empty."""
    from gossipctl.local.errors import LocalError
    from gossipswarm_client.errors import GossipSwarmError

    # bash takes the equals sign of --flag=value for a word of its own.
    words = [word for word in words if word != "="]
    current = words[-1] if words else ""
    found: list[Candidate] = []
    with contextlib.suppress(CommandFailed, LocalError, GossipSwarmError, OSError), _impatience():
        found = [
            each for each in candidates(list(words[:-1]), current) if each[0].startswith(current)
        ]
    if not found:
        return 0
    if found == [(FILES, "")]:
        Output().line(FILES)
    else:
        Output().line("\n".join(f"{name}\t{text}" if text else name for name, text in found))
    return 0


def for_kubectl() -> int:
    """What kubectl asks for to complete ``kubectl gossip``: candidates, then how to go on, as cobra has it."""
    import sys

    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        complete(sys.argv[1:])
    found = lines.getvalue()
    files = found.strip() == FILES
    # 4: no file names besides; 0: file names.
    sys.stdout.write(":0\n" if files else f"{found}:4\n")
    return 0


@contextlib.contextmanager
def _impatience() -> Iterator[None]:
    """Raises TimeoutError inside when it takes too long."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def candidates(before: list[str], current: str) -> Iterator[Candidate]:
    """Everything that fits behind ``before``."""
    here = Invocation(_globals(before), Output())
    path = _path(before)
    if before and before[-1] in GLOBAL_WITH_VALUE and len(path) < 2:
        yield from _values(before[-1], _global(before[-1]), here)
    elif not path:
        yield from NOUNS.items()
        yield from ((name, summary) for name, (summary, _) in SINGLE.items())
        if current.startswith("-"):
            yield from (
                ("--swarm", "the swarm to talk to"),
                ("--backend", "where it runs"),
                ("--context", "context of the kubeconfig"),
                ("--namespace", "namespace"),
                ("--output", "format"),
                ("--help", "help"),
            )
    elif path[0] in VERBS and len(path) == 1:
        yield from ((name, summary) for name, (summary, _) in VERBS[path[0]].items())
    else:
        yield from _of_command(path, before, current, here)


def _globals(words: Sequence[str]) -> argparse.Namespace:
    """The global flags among the words, as far as they are complete."""
    flags = argparse.Namespace(swarm=None, backend=None, context=None, namespace=None)
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        field = "namespace" if name == "-n" else name.removeprefix("--")
        if name in GLOBAL_WITH_VALUE and hasattr(flags, field):
            if not equals and index + 1 < len(words):
                value = words[index + 1]
            setattr(flags, field, value or None)
    return flags


def _global(flag: str) -> argparse.Action | None:
    parser = Parser("gossipctl", about="")
    parser.add_globals()
    return parser._option_string_actions.get(flag)


def _path(words: Sequence[str]) -> tuple[str, ...]:
    """Noun and verb, or the command, as far as they are typed."""
    found: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith("-"):
            skip = not skip and word in GLOBAL_WITH_VALUE
            continue
        found.append(word)
        if found[0] in SINGLE or len(found) == 2:
            break
    return tuple(found)


def _of_command(
    path: tuple[str, ...], before: Sequence[str], current: str, here: Invocation
) -> Iterator[Candidate]:
    from gossipctl.main import load

    table = SINGLE if path[0] in SINGLE else VERBS.get(path[0], {})
    if path[-1] not in table:
        return
    command = load(path[-1], table[path[-1]][1])
    parser = Parser("gossipctl", about="")
    command.arguments(parser)
    parser.add_globals()
    flags = parser._option_string_actions
    last = flags.get(before[-1])
    name, equals, _ = current.partition("=")
    if equals and name in flags:
        for value, text in _values(name, flags[name], here):
            yield f"{name}={value}", text
    elif last is not None and last.nargs != 0:
        yield from _continued(current, _values(before[-1], last, here, path[0]), last)
    elif current.startswith("-"):
        for name, action in flags.items():
            if name.startswith("--") and (name not in before or isinstance(action.default, list)):
                yield name, action.help or ""
    else:
        for action in parser._get_positional_actions():
            yield from _values(action.dest, action, here, path[0])
        if not parser._get_positional_actions():
            for name, action in flags.items():
                if name.startswith("--") and name not in before and action.required:
                    yield name, action.help or ""


def _continued(
    current: str, values: Iterable[Candidate], action: argparse.Action
) -> Iterator[Candidate]:
    """In a comma-separated list, each name that is not there yet, behind what is."""
    if action.type is not names or "," not in current:
        yield from values
        return
    given = current[: current.rindex(",") + 1]
    yield from ((given + name, text) for name, text in values if name not in given.split(","))


def _values(
    flag: str, action: argparse.Action | None, here: Invocation, noun: str = ""
) -> Iterable[Candidate]:
    if action is not None and flag in ("-o", "--output"):
        return [(each, "") for each in str(action.metavar).split("|")]
    allowed = getattr(action.type, "allowed", None) if action is not None else None
    if allowed:
        return [(each, "") for each in allowed]
    if flag in ("--file", "-f", "--hooks"):
        return [(FILES, "")]
    if flag == "--context":
        from gossipctl.kubernetes import kubeconfig

        return [(each, "") for each in kubeconfig.contexts()]
    if flag in ("--namespace", "-n"):
        return _namespaces(here)
    if flag == "--metric":
        from gossipctl.commands.gossip.metrics import CONVERGENCE

        return [(CONVERGENCE, "the newest write, round by round")]
    return _of_the_swarm(flag, here, noun)


def _of_the_swarm(flag: str, here: Invocation, noun: str) -> Iterable[Candidate]:
    if flag == "--swarm" or (flag == "name" and noun == "swarm"):
        return [(each["name"], each["status"]) for each in here.backend.list_swarms()]
    if flag in ("--agent", "--peer") or (flag == "name" and noun == "agent"):
        agents = here.swarm.request("agents", timeout=2.0)["agents"]
        return [(each["name"], each["region"]) for each in agents]
    if flag in ("--region", "--group1", "--group2", "--groups"):
        return [(each, "") for each in here.swarm.request("status", timeout=2.0)["regions"]]
    if flag == "--key":
        return _keys(here, noun)
    return []


def _namespaces(here: Invocation) -> list[Candidate]:
    from gossipctl.kubernetes.backend import KubernetesBackend

    return [(name, "") for name in KubernetesBackend(here.flags.context).namespaces()]


def _keys(here: Invocation, noun: str) -> list[Candidate]:
    from gossipctl.commands.memory import PREFIX, memory_name

    agent = here.swarm.agent()
    if noun == "memory":
        return [(memory_name(key), "") for key in agent.keys("memory") if key.startswith(PREFIX)]
    return [(key, "") for key in islice(agent.keys(), KEYS)]

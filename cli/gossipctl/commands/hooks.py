"""gossipctl hooks: what happens on the swarm's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossipctl import output
from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser
from gossipctl.suggest import did_you_mean

KINDS = ("builtin", "http", "exec")


def _file_argument(parser: Parser) -> None:
    parser.flag("--file", "-f", metavar="FILE", help="hooks file (default: the swarm's own)")


def _load(invocation: Invocation) -> dict[str, list[dict[str, Any]]]:
    """Actions by event."""
    import yaml

    path = invocation.flags.file or invocation.swarm.request("status", verbose=True)["hooks"]
    if not path:
        raise CommandFailed(
            f"swarm {invocation.swarm.name} has no hooks",
            "name a file with --file; a swarm gets one by: gossipctl swarm init --hooks FILE",
        )
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    events = document.get("hooks", document) if isinstance(document, dict) else None
    if not isinstance(events, dict) or not all(isinstance(each, list) for each in events.values()):
        raise UsageError(f"{path} does not map events to lists of actions")
    return events


def _list(invocation: Invocation) -> None:
    rows = [
        {"event": event, "kind": kind, "action": what, "order": number}
        for event, actions in _load(invocation).items()
        for number, action in enumerate(actions, 1)
        for kind, what in [_described(action)]
    ]
    if not rows and invocation.output.human:
        output.note("no action on any event")
    invocation.output.records(
        rows, {"event": "event", "order": "order", "kind": "kind", "action": "action"}
    )


def _described(action: dict[str, Any]) -> tuple[str, str]:
    for kind in KINDS:
        if kind in action:
            what = action[kind]
            if isinstance(what, list):
                return kind, " ".join(map(str, what))
            if isinstance(what, dict):
                return kind, str(what.get("url") or what.get("command") or what.get("name") or what)
            return kind, str(what)
    return "?", str(action)


def _test_arguments(parser: Parser) -> None:
    parser.positional("event", metavar="EVENT", help="such as partition-detected")
    _file_argument(parser)


def _test(invocation: Invocation) -> None:
    events = _load(invocation)
    event = invocation.flags.event
    if event not in events:
        raise UsageError(
            f"no action on {event!r}",
            did_you_mean(event, events, otherwise=f"events with actions: {', '.join(events)}"),
        )


COMMANDS = {
    "list": Command(
        _list,
        _file_argument,
        "List the actions of each event, in their order.",
        ("hooks list --file examples/hooks/coordination.yaml",),
    ),
    "test": Command(
        _test,
        _test_arguments,
        "Run the actions of an event now, as if it had just happened, and report how each one ended.",
        ("hooks test partition-detected --file examples/hooks/coordination.yaml",),
    ),
}

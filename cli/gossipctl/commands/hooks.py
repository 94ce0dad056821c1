"""gossipctl hooks: what happens on the swarm's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossipctl import durations, json_value, output, progress
from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser, duration


def _list_arguments(parser: Parser) -> None:
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")
    parser.flag("--file", "-f", metavar="FILE", help="the actions of a hooks file instead")
    parser.switch("--outcomes", help="how the agent's last actions ended")


def _list(invocation: Invocation) -> None:
    flags = invocation.flags
    if flags.outcomes:
        _show_outcomes(invocation, invocation.swarm.agent(flags.agent).hooks().outcomes)
        return
    events = (
        _of_file(flags.file) if flags.file else invocation.swarm.agent(flags.agent).hooks().events
    )
    if invocation.output.wants_json:
        invocation.output.json(events)
        return
    if not events:
        output.note("no hooks; a swarm gets them by: gossipctl swarm init --hooks FILE")
    rows = [
        [event, number, action]
        for event, actions in events.items()
        for number, action in enumerate(actions, 1)
    ]
    invocation.output.table(("event", "order", "action"), rows)


def _of_file(path: str) -> dict[str, list[str]]:
    """The actions of a hooks file in a few words. Whether they are valid is for the agents to say."""
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    events = document.get("hooks") if isinstance(document, dict) else None
    if not isinstance(events, dict) or not all(isinstance(each, list) for each in events.values()):
        raise UsageError(f"{path}: expected hooks: with events, each a list of actions")
    return {event: list(map(_described, actions)) for event, actions in events.items()}


def _described(action: Any) -> str:
    if not isinstance(action, dict) or len(action) != 1:
        raise UsageError(f"an action is one of builtin, http or exec, not {action!r}")
    [(kind, given)] = action.items()
    if isinstance(given, dict):
        given = given.get("name") or given.get("url") or given.get("command") or given
    return f"{kind} {' '.join(map(str, given)) if isinstance(given, list) else given}"


def _test_arguments(parser: Parser) -> None:
    parser.positional("event", metavar="EVENT", help="such as partition-detected, or pre-task")
    parser.flag("--agent", metavar="NAME", help="where to run them (default: any agent)")
    parser.flag("--detail", metavar="JSON", help="what the event tells its actions")
    parser.flag(
        "--timeout",
        type=duration,
        default=60_000,
        metavar="DURATION",
        help="how long all may take (default 1m)",
    )


def _test(invocation: Invocation) -> int:
    flags = invocation.flags
    detail = json_value.read(flags.detail, "--detail") if flags.detail else {}
    if not isinstance(detail, dict):
        raise UsageError("--detail: expected a JSON object", 'for example: \'{"file": "a.py"}\'')
    agent = invocation.swarm.agent(flags.agent)
    with progress.Waiting(f"running the actions of {flags.event} at {agent.name}"):
        outcomes = agent.call_hooks(flags.event, detail, timeout=flags.timeout / 1_000)
    _show_outcomes(invocation, [dict(outcome.raw) for outcome in outcomes])
    return int(any(outcome.status == "failed" for outcome in outcomes))


def _show_outcomes(invocation: Invocation, outcomes: list[dict[str, Any]]) -> None:
    shown = [
        each
        if invocation.output.wants_json
        else {**each, "took": durations.show(each["duration_ms"])}
        for each in outcomes
    ]
    invocation.output.records(
        shown,
        {
            "event": "event",
            "action": "action",
            "status": "status",
            "took": "took",
            "message": "message",
        },
        {"at": "at"},
    )


COMMANDS = {
    "list": Command(
        _list,
        _list_arguments,
        "List the actions of each event, in their order, at an agent or in a file.",
        ("hooks list", "hooks list --file examples/hooks/coordination.yaml"),
    ),
    "test": Command(
        _test,
        _test_arguments,
        """Run the actions of an event at one agent now, as if it had just happened there, and show how each
        one ended. They are the real actions: a program runs, a request is sent. Exits with 1 if any failed.""",
        ("hooks test partition-detected", 'hooks test post-edit --detail \'{"file": "app.yaml"}\''),
    ),
}

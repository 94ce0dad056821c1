"""gossipctl gossip watch: changes as they arrive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gossipctl import output
from gossipctl.command import Command, Invocation
from gossipctl.parser import Parser, count
from gossipswarm_client.results import Change


def _arguments(parser: Parser) -> None:
    parser.flag("--key", required=True, metavar="KEY", help="the key to watch, with all below it")
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")
    parser.flag("--since", metavar="ID", help="resume behind this change")
    parser.flag("--count", type=count, metavar="N", help="end after so many changes")


def _watch(invocation: Invocation) -> None:
    flags = invocation.flags
    agent = invocation.swarm.agent(flags.agent)
    if invocation.output.terminal:
        output.note(f"watching {flags.key} at {agent.name}; Ctrl-C ends")
    left = flags.count
    for event in agent.watch(flags.key, since=flags.since):
        if not isinstance(event, Change):
            if flags.since:
                output.note("that id is too old to resume from: everything follows")
            continue
        _show(invocation, event.raw)
        left = None if left is None else left - 1
        if left == 0:
            return


def _show(invocation: Invocation, change: Mapping[str, Any]) -> None:
    out = invocation.output
    if not out.human:
        out.compact(change)
        return
    value = "deleted" if change["deleted"] else json.dumps(change["value"], ensure_ascii=False)
    by = f"version {change['version']} by {change['origin']}"
    out.line(
        f"{out.style(change['last_updated'], 'dim')}  {out.style(change['key'], 'bold')} = "
        f"{out.style(value, 'red' if change['deleted'] else 'cyan')}  {out.style(by, 'dim')}"
    )


COMMANDS = {
    "watch": Command(
        _watch,
        _arguments,
        """Print every change of a key and of all below it as the agent learns of it, first what is there now.
        Where the output is not a terminal each change is one line of JSON.""",
        (
            "gossip watch --key app.config",
            "gossip watch --key app.config --count 1 --agent gossip-us-east-1",
        ),
    ),
}

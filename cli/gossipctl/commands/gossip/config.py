"""gossipctl gossip config."""

from __future__ import annotations

from typing import Any

from gossipctl import durations, output
from gossipctl.command import Command, Invocation
from gossipctl.parameters import PARAMETERS, add_flags
from gossipctl.parser import Parser


def _arguments(parser: Parser) -> None:
    add_flags(parser)


def _config(invocation: Invocation) -> None:
    changes = {}
    for name in PARAMETERS:
        field = name.replace("-", "_")
        value = getattr(invocation.flags, field)
        if value is not None:
            changes[field] = value
    out = invocation.output
    result = invocation.swarm.request("config", changes=changes)
    settings = result.get("settings", result)
    if out.wants_json:
        out.json(settings)
        return
    if changes and out.human:
        output.note(
            f"{len(changes)} parameter{'s' * (len(changes) != 1)} set; agents apply them within a second"
        )
    out.table(("parameter", "value", "meaning"), _rows(out, settings))


def _rows(out: output.Output, settings: dict[str, Any]) -> list[list[str]]:
    rows = []
    for field, value in settings.items():
        parameter = PARAMETERS.get(field.replace("_", "-"))
        shown = output.cell(value) if value != {} else "-"
        if parameter and parameter.unit:
            shown = durations.show(value) if out.human else f"{value}{parameter.unit}"
        row = [field.replace("_", "-"), shown]
        if out.human:
            row.append(parameter.explained if parameter else "")
        rows.append(row)
    return rows


COMMANDS = {
    "config": Command(
        _config,
        _arguments,
        """Show the parameters in force; with flags, change those first. A change is one write to the swarm's
        own state: every agent applies it within a second, without a restart. Values out of range are refused,
        all of them or none.""",
        (
            "gossip config",
            "gossip config --fanout 3 --interval 100 --convergence-threshold 0.95",
            "gossip config --conflict-resolution-prefixes counters=max,tags=union",
        ),
    ),
}

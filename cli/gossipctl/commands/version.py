"""gossipctl version."""

from __future__ import annotations

from gossipctl import VERSION
from gossipctl.command import Command, Invocation, no_arguments


def _version(invocation: Invocation) -> None:
    if invocation.output.wants_json:
        invocation.output.json({"version": VERSION})
    else:
        invocation.output.line(f"gossipctl {VERSION}")


COMMANDS = {"version": Command(_version, no_arguments, "Print the version.", ("version -o json",))}

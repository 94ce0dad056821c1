"""gossipctl gossip state-update, query-state, delete."""

from __future__ import annotations

from typing import Any

from gossipctl import durations, json_value, progress
from gossipctl.backend import Agent
from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed
from gossipctl.parser import Parser, duration, share
from gossipswarm_client.results import Written


def _key_arguments(parser: Parser) -> None:
    parser.flag(
        "--key", required=True, metavar="KEY", help="dotted path, such as app.config.cache_ttl"
    )
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")


def _wait_arguments(parser: Parser) -> None:
    parser.switch(
        "--wait", help="return only when the convergence threshold has it; else exit with 3"
    )
    parser.flag(
        "--threshold", type=share, metavar="SHARE", help="share to wait for (default: the swarm's)"
    )
    parser.flag(
        "--timeout",
        type=duration,
        default=30_000,
        metavar="DURATION",
        help="how long to wait (default 30s)",
    )


def _update_arguments(parser: Parser) -> None:
    _key_arguments(parser)
    parser.flag(
        "--value", required=True, metavar="JSON", help="the new value; @FILE, or - for stdin"
    )
    parser.switch("--merge", help="merge objects (RFC 7396) instead of replacing the subtree")
    _wait_arguments(parser)


def _update(invocation: Invocation) -> None:
    flags = invocation.flags
    value = json_value.read(flags.value)
    agent = invocation.swarm.agent(flags.agent)
    write = agent.patch if flags.merge else agent.set
    with progress.Waiting(f"writing {flags.key}"):
        written = write(flags.key, value, **_how(invocation))
    _report(invocation, agent, written, "updated")


def _how(invocation: Invocation) -> dict[str, Any]:
    flags = invocation.flags
    how: dict[str, Any] = {"trace": True}
    if flags.wait:
        how |= {"wait": True, "threshold": flags.threshold, "timeout": flags.timeout / 1_000}
    return how


def _report(invocation: Invocation, agent: Agent, written: Written, verb: str) -> None:
    out = invocation.output
    if out.wants_json:
        out.json(written.raw)
        return
    leaves = "1 leaf" if written.changed == 1 else f"{written.changed} leaves"
    text = f"{written.key} {verb} at {agent.name} ({agent.region}): version {written.version}, {leaves}"
    if not written.changed:
        text = (
            f"{written.key} unchanged at {agent.name} ({agent.region}): version {written.version}"
        )
    spread = written.convergence
    if spread:
        took = spread.duration_ms
        after = f" after {durations.show(took)}" if took is not None else ""
        text += f"; at {spread.received} of {spread.agents} agents{after}"
    out.line(text)


def _query(invocation: Invocation) -> None:
    flags = invocation.flags
    agent = invocation.swarm.agent(flags.agent)
    found = agent.get(flags.key).raw
    out = invocation.output
    if out.format == "value":
        out.json(found["value"])
        return
    members = ("region", "agent", "key", "value", "version", "last_updated")
    answer = {name: found[name] for name in members}
    # Said only when there is something to say, so that the usual answer stays the documented one.
    answer |= {name: True for name in ("conflict", "degraded") if found.get(name)}
    if out.format in ("table", "wide"):
        out.document(
            answer
            | ({"etag": found["etag"], "origin": found["origin"]} if out.format == "wide" else {})
        )
    else:
        out.json(answer)


def _query_arguments(parser: Parser) -> None:
    _key_arguments(parser)
    parser.formats = ("json", "value", "table", "wide")


def _delete_arguments(parser: Parser) -> None:
    _key_arguments(parser)
    _wait_arguments(parser)


def _delete(invocation: Invocation) -> None:
    agent = invocation.swarm.agent(invocation.flags.agent)
    with progress.Waiting(f"deleting {invocation.flags.key}"):
        written = agent.delete(invocation.flags.key, **_how(invocation))
    if not written.changed:
        raise CommandFailed(f"no key {invocation.flags.key!r} at {agent.name}")
    _report(invocation, agent, written, "deleted")


COMMANDS = {
    "state-update": Command(
        _update,
        _update_arguments,
        """Write a JSON value at one agent. It is acknowledged when it is durable there, and spreads to all
        others at once. Every write is traced: gossip convergence shows how it spreads.

        An object replaces everything below its key; --merge changes only the members given (null deletes).""",
        (
            "gossip state-update --key app.config --value '{\"cache_ttl\": 3600}' --agent gossip-us-east-1",
            "gossip state-update --key app.config.cache_ttl --value 7200 --wait",
            "gossip state-update --key app.config --value @config.json",
        ),
    ),
    "query-state": Command(
        _query,
        _query_arguments,
        """Read a value at one agent, without asking any other. Prints JSON; -o value prints the value alone.""",
        (
            "gossip query-state --key app.config --agent gossip-us-east-10",
            "gossip query-state --key app.config.cache_ttl -o value",
        ),
    ),
    "delete": Command(
        _delete,
        _delete_arguments,
        "Delete a key and everything below it, at one agent and from there everywhere.",
        ("gossip delete --key app.config.cache_ttl",),
    ),
}

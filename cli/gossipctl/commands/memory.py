"""gossipctl memory: values kept across sessions, below ``memory.`` in the shared state.

What the swarm records about itself lies below ``$swarm.memory.`` and is read where nobody keeps anything else
under its name.
"""

from __future__ import annotations

from gossipctl import json_value
from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser
from gossipctl.suggest import did_you_mean

PREFIX = "memory."
RECORDS = "$swarm.memory."


def state_key(name: str, prefix: str = PREFIX) -> str:
    """Where a kept value lives: one leaf, whatever dots its name has."""
    if not name:
        raise UsageError("--key is empty", "for example: --key coordination/gossip/metrics")
    return prefix + name.replace("\\", "\\\\").replace(".", "\\.")


def memory_name(key: str) -> str:
    """The name that ``state_key`` was given."""
    return key.removeprefix(RECORDS).removeprefix(PREFIX).replace("\\.", ".").replace("\\\\", "\\")


def _key_arguments(parser: Parser) -> None:
    parser.flag(
        "--key", required=True, metavar="NAME", help="its name, such as coordination/gossip/metrics"
    )
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")


def _store_arguments(parser: Parser) -> None:
    _key_arguments(parser)
    parser.flag(
        "--value", required=True, metavar="JSON", help="what to keep; @FILE, or - for stdin"
    )


def _store(invocation: Invocation) -> None:
    flags = invocation.flags
    value = json_value.read(flags.value)
    agent = invocation.swarm.agent(flags.agent)
    written = agent.set(state_key(flags.key), value, whole=True, trace=True)
    if invocation.output.wants_json:
        invocation.output.json({**written.raw, "key": flags.key})
    else:
        invocation.output.line(
            f"memory/{flags.key} stored at {agent.name}: version {written.version}"
        )


def _retrieve(invocation: Invocation) -> None:
    flags = invocation.flags
    agent = invocation.swarm.agent(flags.agent)
    found = agent.find(state_key(flags.key)) or agent.find(state_key(flags.key, RECORDS))
    if found is None:
        raise _unknown(invocation, flags.key)
    if invocation.output.wants_json:
        members = ("value", "version", "last_updated", "agent", "region")
        invocation.output.json({"key": flags.key, **{name: found.raw[name] for name in members}})
    else:
        invocation.output.json(found.value)


def _unknown(invocation: Invocation, name: str) -> CommandFailed:
    known = _names(invocation)
    return CommandFailed(
        f"nothing is kept as {name!r}",
        did_you_mean(name, known, otherwise="see what is kept with: gossipctl memory list"),
    )


def _names(invocation: Invocation, prefix: str = "") -> list[str]:
    agent = invocation.swarm.agent(getattr(invocation.flags, "agent", None))
    kept = {
        memory_name(key)
        for where in (PREFIX, RECORDS)
        for key in agent.keys(where.rstrip("."))
        if key.startswith(where)
    }
    return sorted(name for name in kept if name.startswith(prefix))


def _list_arguments(parser: Parser) -> None:
    parser.flag("--prefix", default="", metavar="TEXT", help="only names that begin with this")
    parser.flag("--agent", metavar="NAME", help="the agent to ask (default: any)")


def _list(invocation: Invocation) -> None:
    kept = _names(invocation, invocation.flags.prefix)
    if invocation.output.wants_json:
        invocation.output.json(kept)
    else:
        invocation.output.table(("name",), [[name] for name in kept])


def _delete(invocation: Invocation) -> None:
    flags = invocation.flags
    agent = invocation.swarm.agent(flags.agent)
    written = agent.delete(state_key(flags.key), trace=True)
    if not written.changed and agent.find(state_key(flags.key, RECORDS)) is not None:
        raise CommandFailed(
            f"{flags.key!r} is the swarm's own record",
            "it cannot be deleted; what you store under its name is shown in its place",
        )
    if not written.changed:
        raise _unknown(invocation, flags.key)
    if invocation.output.wants_json:
        invocation.output.json({**written.raw, "key": flags.key})
    else:
        invocation.output.line(f"memory/{flags.key} deleted")


COMMANDS = {
    "store": Command(
        _store,
        _store_arguments,
        "Keep a JSON value under a name. It is replicated to every agent and survives restarts.",
        ("memory store --key coordination/gossip/metrics --value '{\"convergence_rounds\": 7}'",),
    ),
    "retrieve": Command(
        _retrieve,
        _key_arguments,
        "Print a kept value as JSON; with -o json also its version and when it was stored.",
        ("memory retrieve --key coordination/gossip/metrics",),
    ),
    "list": Command(
        _list,
        _list_arguments,
        "List the names of kept values.",
        ("memory list --prefix coordination/",),
    ),
    "delete": Command(
        _delete,
        _key_arguments,
        "Forget a kept value. What the swarm records itself stays.",
        ("memory delete --key coordination/gossip/metrics",),
    ),
}

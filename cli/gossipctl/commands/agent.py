"""gossipctl agent: the members of a swarm."""

from __future__ import annotations

from typing import Any

from gossipctl import output, progress
from gossipctl.command import Command, Invocation
from gossipctl.failures import UsageError
from gossipctl.parser import Parser, count, names
from gossipctl.suggest import did_you_mean

LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
STATES = ("active", "starting", "stopped", "failed", "all")


def _spawn_arguments(parser: Parser) -> None:
    parser.flag(
        "--name", metavar="NAME", help="its name; with --count, what their names begin with"
    )
    parser.flag(
        "--region", metavar="REGION", help="where it lives (default: the region with the fewest)"
    )
    parser.flag("--type", metavar="TYPE", help="what kind of agent it is (default: worker)")
    parser.flag("--capabilities", type=names, metavar="A,B,...", help="what it can do")
    parser.flag(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="label; may be repeated"
    )
    parser.flag("--count", type=count, metavar="N", help="start this many")
    parser.switch("--no-wait", help="do not wait until they have joined (kubernetes)")


def _spawn(invocation: Invocation) -> None:
    flags = invocation.flags
    wanted = {
        "name": flags.name,
        "region": flags.region,
        "type": flags.type,
        "capabilities": flags.capabilities,
        "labels": dict(map(_label, flags.label)),
        "count": flags.count,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    out = invocation.output
    if flags.no_wait:
        if invocation.backend.kind == "local":
            raise UsageError("--no-wait means nothing on this machine", "agents join at once")
        _report(out, invocation.swarm.request("spawn", wait=False, **wanted)["agents"], "ordered")
        return
    if not flags.count:
        with progress.Waiting("starting an agent"):
            result = invocation.swarm.request("spawn", **wanted)
        _report(out, result["agents"])
        return
    with progress.Progress(f"starting {flags.count} agents", flags.count) as bar:
        for line in invocation.swarm.stream("spawn", **wanted):
            if line.get("done"):
                _report(out, line["result"]["agents"])
            else:
                bar.advance()


def _report(out: output.Output, agents: list[dict[str, Any]], done: str = "started") -> None:
    if out.wants_json:
        out.json(agents[0] if len(agents) == 1 else agents)
        return
    for agent in agents:
        out.line(f"agent/{agent['name']} {done} in {agent['region']}")


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--label: {text!r} is not NAME=VALUE")
    return name, value


def _list_arguments(parser: Parser) -> None:
    parser.flag("--filter", metavar="STATE", help=f"only agents in this state: {', '.join(STATES)}")
    parser.flag("--region", metavar="REGION", help="only agents of this region")


def _list(invocation: Invocation) -> None:
    flags = invocation.flags
    state = flags.filter
    if state is not None and state not in STATES:
        raise UsageError(
            f"--filter: no state {state!r}",
            did_you_mean(state, STATES, otherwise=f"expected one of {', '.join(STATES)}"),
        )
    wanted = {"filter": state, "region": flags.region}
    agents = invocation.swarm.request(
        "agents", **{name: value for name, value in wanted.items() if value is not None}
    )["agents"]
    if not agents and invocation.output.human:
        output.note("no such agent; start some with: gossipctl agent spawn --count 5")
    invocation.output.records(
        agents,
        {"name": "name", "region": "region", "status": "status", "type": "type"},
        {
            "worker": "worker" if invocation.backend.kind == "local" else "node",
            "gossip": "gossip",
            "api": "api",
            "capabilities": "capabilities",
            "error": "error",
        },
    )


def _logs_arguments(parser: Parser) -> None:
    parser.positional(
        "name", nargs="?", metavar="NAME", help="an agent, a worker or supervisor (default: all)"
    )
    parser.flag("--tail", type=count, default=50, metavar="N", help="lines from the end")
    parser.switch("--follow", "-f", help="go on with new lines until Ctrl-C")


def _logs(invocation: Invocation) -> None:
    flags = invocation.flags
    wanted = {"name": flags.name, "lines": flags.tail}
    if flags.follow:
        for line in invocation.swarm.stream("logs", timeout=0, follow=True, **wanted):
            if not line.get("done"):
                _print_log(invocation, line["line"])
        return
    for line in invocation.swarm.request("logs", **wanted)["lines"]:
        _print_log(invocation, line)


def _print_log(invocation: Invocation, line: dict[str, Any]) -> None:
    out = invocation.output
    if out.wants_json:
        out.compact(line)
        return
    style = LEVELS.get(line.get("level", ""), "")
    level = f"{line.get('level', ''):<7}"
    out.line(
        f"{out.style(line.get('time', ''), 'dim')}  {out.style(level, style) if style else level}  "
        f"{line.get('agent') or line.get('source', '')}  {line.get('message', '')}"
    )
    if line.get("error"):
        out.line(line["error"])


def _env_arguments(parser: Parser) -> None:
    parser.positional("name", nargs="?", metavar="NAME", help="the agent (default: any)")


def _env(invocation: Invocation) -> None:
    address = invocation.swarm.request("resolve", name=invocation.flags.name)
    values = {"GOSSIPSWARM_API": address["api"], "GOSSIPSWARM_TOKEN": address["token"]}
    if invocation.output.wants_json:
        invocation.output.json(values)
        return
    for name, value in values.items():
        invocation.output.line(f"export {name}='{value}'")


def _stop_arguments(parser: Parser) -> None:
    parser.positional("name", nargs="?", metavar="NAME", help="the agent")
    parser.flag("--region", metavar="REGION", help="every agent of this region")
    parser.switch("--all", help="every agent")
    parser.switch("--remove", help="take it out of the swarm and delete its data")


def _stop(invocation: Invocation) -> None:
    flags = invocation.flags
    if bool(flags.name) + flags.all + bool(flags.region) != 1:
        raise UsageError(
            "expected the name of an agent, --region or --all",
            "see them with: gossipctl agent list",
        )
    which = {"name": flags.name, "region": flags.region, "all": flags.all}
    with progress.Waiting("stopping"):
        stopped = invocation.swarm.request("stop", remove=flags.remove, **which)["agents"]
    if invocation.output.wants_json:
        invocation.output.json(stopped)
        return
    for name in stopped:
        invocation.output.line(f"agent/{name} {'removed' if flags.remove else 'stopped'}")


COMMANDS = {
    "spawn": Command(
        _spawn,
        _spawn_arguments,
        """Start an agent and return when it has joined the swarm. Many may be started at once, by --count or
        by as many commands side by side.

        The name of an agent that was stopped starts it again, with its data.

        In a cluster it raises the replicas of the region by one, or by --count, however many commands do so at
        once. Pods are named by their regions and are all alike: name, type, capabilities and labels are left out.""",
        (
            "agent spawn --type worker --name cache-1 --region us-east --capabilities config-caching,peer-gossip",
            "agent spawn --region us-west --name cache --count 50",
        ),
    ),
    "list": Command(
        _list,
        _list_arguments,
        "List agents. Where the output is not a terminal there is no header: one line is one agent.",
        ("agent list --filter active", "agent list --filter active | wc -l", "agent list -o wide"),
    ),
    "env": Command(
        _env,
        _env_arguments,
        """Print where an agent's HTTP API is and the token that may write there, as variables for a shell. In a
        cluster the address is one of the cluster, and without a name that of the swarm's Service.""",
        ("agent env gossip-us-east-1", "agent env -o json"),
    ),
    "logs": Command(
        _logs,
        _logs_arguments,
        "Print the last lines of an agent's log.",
        ("agent logs cache-1 --tail 100",),
    ),
    "stop": Command(
        _stop,
        _stop_arguments,
        """Stop an agent: it says goodbye, so that nobody takes it for dead. Its data stays unless it is removed.

        In a cluster that lowers the replicas of its region, whose last agent is the one to go; --remove deletes
        its volume, too.""",
        ("agent stop cache-1", "agent stop --all"),
    ),
}

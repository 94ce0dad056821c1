"""gossipctl swarm: the life of a swarm."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from gossipctl import output, progress
from gossipctl.command import Command, Invocation, no_arguments
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.local import client as local
from gossipctl.local.client import LocalSwarm
from gossipctl.local.errors import LocalError
from gossipctl.parser import Parser, choice, count, names
from gossipctl.status_page import show_status

STEP_ONE = ("swarm_id", "topology", "protocol", "status", "agents", "regions", "created_at")
"""Members of the documented description of a swarm, in its order."""


def _init_arguments(parser: Parser) -> None:
    parser.flag(
        "--regions", type=names, metavar="A,B,...", help="regions of the swarm (default: local)"
    )
    parser.flag(
        "--max-agents", type=count, metavar="N", help="agents that it admits (default 1000)"
    )
    parser.flag(
        "--topology",
        type=choice("mesh"),
        metavar="mesh",
        default="mesh",
        help="how agents are connected",
    )
    parser.flag(
        "--protocol",
        type=choice("gossip"),
        metavar="gossip",
        default="gossip",
        help="how state spreads",
    )
    parser.flag(
        "--workers",
        type=count,
        metavar="N",
        help="processes that host the agents (default: one a core)",
    )
    parser.flag("--hooks", metavar="FILE", help="hooks file that every agent runs")
    parser.switch("--no-encryption", help="send plaintext between agents")


def _init(invocation: Invocation) -> None:
    flags = invocation.flags
    from gossipctl.local import lifecycle

    asked = {
        "regions": flags.regions,
        "max_agents": flags.max_agents,
        "workers": flags.workers,
        "hooks": str(Path(flags.hooks).resolve()) if flags.hooks else None,
        "encryption": False if flags.no_encryption else None,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    wanted = flags.swarm or os.environ.get("GOSSIPSWARM_SWARM")
    with progress.Waiting("starting the swarm"):
        status = _existing(wanted, asked) or lifecycle.init(
            **({"name": wanted} if wanted else {}),
            topology=flags.topology,
            protocol=flags.protocol,
            **{"regions": ["local"], **asked},
        )
    invocation.output.json(_described(status))


def _existing(name: str | None, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The status of the swarm that is meant and is already what was asked for: init can be repeated."""
    known = {swarm["name"]: swarm for swarm in local.list_swarms()}
    meant = (
        known.get(name)
        if name
        else next((each for each in known.values() if each["selected"]), None)
    )
    if meant is None or meant["regions"] != asked.get("regions", meant["regions"]):
        return None
    from gossipctl.local import lifecycle

    status = lifecycle.up(meant["name"])
    if any(status.get(flag, value) != value for flag, value in asked.items()):
        return None
    output.note(f"swarm {meant['name']} is there already; nothing changed")
    local.make_current(meant["name"])
    return status


def _described(status: dict[str, Any]) -> dict[str, Any]:
    return {name: status[name] for name in STEP_ONE}


def _status_arguments(parser: Parser) -> None:
    parser.switch("--verbose", "-v", help="every agent, and the processes that host them")


def _status(invocation: Invocation) -> None:
    status = invocation.swarm.request("status", verbose=invocation.flags.verbose)
    if not invocation.output.human:
        invocation.output.json(status)
        return
    show_status(invocation.output, status, verbose=invocation.flags.verbose)


def _list(invocation: Invocation) -> None:
    swarms = local.list_swarms()
    for swarm in swarms:
        swarm["current"] = "*" if swarm["selected"] else ""
    if not swarms and invocation.output.human:
        output.note("no swarm on this machine; make one with: gossipctl swarm init")
    invocation.output.records(
        swarms,
        {
            "name": "name",
            "status": "status",
            "agents": "agents",
            "regions": "regions",
            "current": "current",
        },
        {"created_at": "created"},
    )


def _apply_arguments(parser: Parser) -> None:
    parser.flag(
        "--file",
        "-f",
        required=True,
        metavar="FILE",
        help="GossipSwarm manifest in YAML; - for stdin",
    )


def _apply(invocation: Invocation) -> None:
    from gossipctl.local import lifecycle

    for manifest in _manifests(invocation.flags.file):
        if invocation.flags.swarm:
            manifest.setdefault("metadata", {})["name"] = invocation.flags.swarm
        with progress.Waiting("applying the manifest"):
            result = lifecycle.apply(manifest)
        if result["created"] or not local.has_swarm():
            local.make_current(result["swarm"])
        if invocation.output.wants_json:
            invocation.output.json(result)
            continue
        for ignored in result.get("ignored", []):
            output.note(f"{ignored} means nothing on this machine and was left out")
        invocation.output.line(f"swarm/{result['swarm']} {_outcome(result)}")


def _outcome(result: dict[str, Any]) -> str:
    if result["created"]:
        return "created"
    changes = result.get("changes") or []
    return f"changed: {'; '.join(map(str, changes))}" if changes else "unchanged"


def _manifests(path: str) -> list[dict[str, Any]]:
    import yaml

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not documents:
        raise UsageError(f"{path} holds no manifest")
    return documents


def _named_arguments(parser: Parser) -> None:
    parser.positional(
        "name", nargs="?", metavar="NAME", help="the swarm (default: the selected one)"
    )


def _named(invocation: Invocation) -> str:
    return local.select(invocation.flags.name or invocation.flags.swarm)


def _up(invocation: Invocation) -> None:
    from gossipctl.local import lifecycle

    name = _named(invocation)
    with progress.Waiting(f"starting {name}"):
        status = lifecycle.up(name)
    if invocation.output.wants_json:
        invocation.output.json(status)
    else:
        invocation.output.line(f"swarm/{name} is up")


def _down(invocation: Invocation) -> None:
    name = _named(invocation)
    with progress.Waiting(f"stopping {name}"):
        was_running = LocalSwarm(name).down()
    state = "is down; its data stays" if was_running else "was down already"
    invocation.output.line(f"swarm/{name} {state}")


def _delete_arguments(parser: Parser) -> None:
    _named_arguments(parser)
    parser.switch("--yes", "-y", help="do not ask")
    parser.switch("--if-exists", help="be content if there is no such swarm")


def _delete(invocation: Invocation) -> None:
    flags = invocation.flags
    try:
        name = _named(invocation)
    except LocalError as error:
        if flags.if_exists and error.reason in ("no-swarm", "unknown-swarm"):
            output.note("there is no such swarm; nothing to delete")
            return
        raise
    if not flags.yes:
        _confirm(name)
    with progress.Waiting(f"deleting {name}"):
        LocalSwarm(name).delete()
    invocation.output.line(f"swarm/{name} deleted")


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"deleting {name} removes its data for good", "say so with --yes")
    sys.stderr.write(f"Delete swarm {name}, its processes and all its data? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed("nothing was deleted")


COMMANDS = {
    "init": Command(
        _init,
        _init_arguments,
        """Create a swarm, start its supervisor in the background and select the swarm for later commands.
        Prints what was made as JSON.

        Running it again is safe: a swarm that already is what was asked for is left as it is.""",
        (
            "swarm init --topology mesh --protocol gossip --max-agents 150 --regions us-east,us-west,eu-central",
            "--swarm demo swarm init --regions us-east,us-west",
        ),
    ),
    "status": Command(
        _status,
        _status_arguments,
        "Show the swarm's regions, agents and health.",
        ("swarm status --verbose", "swarm status -o json"),
    ),
    "list": Command(
        _list, no_arguments, "List the swarms on this machine, running or not.", ("swarm list",)
    ),
    "apply": Command(
        _apply,
        _apply_arguments,
        """Create a swarm, or change it, so that it is what a GossipSwarm manifest says: the same YAML that
        kubectl apply takes. Applying it twice changes nothing.""",
        ("swarm apply -f examples/quickstart.yaml",),
    ),
    "up": Command(
        _up,
        _named_arguments,
        "Start a swarm that is down, with all its agents and data.",
        ("swarm up",),
    ),
    "down": Command(
        _down,
        _named_arguments,
        "Stop every process of a swarm. Its data stays for swarm up.",
        ("swarm down",),
    ),
    "delete": Command(
        _delete,
        _delete_arguments,
        "Stop a swarm and delete all its data. Asks first, unless told --yes.",
        ("swarm delete demo --yes --if-exists",),
    ),
}

"""gossipctl swarm: the life of a swarm."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from gossipctl import output, progress
from gossipctl.backend import Backend
from gossipctl.command import Command, Invocation, no_arguments
from gossipctl.failures import CommandFailed, UsageError
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
    asked = {
        "regions": flags.regions,
        "max_agents": flags.max_agents,
        "workers": flags.workers,
        "hooks": str(Path(flags.hooks).resolve()) if flags.hooks else None,
        "encryption": False if flags.no_encryption else None,
        "topology": flags.topology,
        "protocol": flags.protocol,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    wanted = flags.swarm or os.environ.get("GOSSIPSWARM_SWARM")
    invocation.creates = True
    with progress.Waiting("starting the swarm"):
        status = invocation.backend.init(wanted, asked)
    invocation.output.json(_described(status))


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
    swarms = invocation.backend.list_swarms()
    for swarm in swarms:
        swarm["current"] = "*" if swarm["selected"] else ""
    if not swarms and invocation.output.human:
        place = invocation.backend.place
        output.note(f"no swarm {place}; make one with: gossipctl swarm init")
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
    invocation.creates = True
    for manifest in _manifests(invocation.flags.file):
        if invocation.flags.swarm:
            manifest.setdefault("metadata", {})["name"] = invocation.flags.swarm
        with progress.Waiting("applying the manifest"):
            result = invocation.backend.apply(manifest)
        if invocation.output.wants_json:
            invocation.output.json(
                {name: value for name, value in result.items() if name not in ("kind", "name")}
            )
            continue
        for ignored in result.get("ignored", []):
            output.note(f"{ignored} means nothing on this machine and was left out")
        invocation.output.line(f"{result['kind']}/{result['name']} {_outcome(result)}")


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


def _named(invocation: Invocation) -> tuple[Backend, str]:
    backend = invocation.backend
    return backend, backend.select(invocation.flags.name or invocation.flags.swarm)


def _up(invocation: Invocation) -> None:
    backend, name = _named(invocation)
    with progress.Waiting(f"starting {name}"):
        status = backend.up(name)
    if invocation.output.wants_json:
        invocation.output.json(status)
    else:
        invocation.output.line(f"swarm/{name} is up")


def _down(invocation: Invocation) -> None:
    backend, name = _named(invocation)
    with progress.Waiting(f"stopping {name}"):
        was_running = backend.down(name)
    state = "is down; its data stays" if was_running else "was down already"
    invocation.output.line(f"swarm/{name} {state}")


def _delete_arguments(parser: Parser) -> None:
    _named_arguments(parser)
    parser.switch("--yes", "-y", help="do not ask")
    parser.switch("--if-exists", help="be content if there is no such swarm")


def _delete(invocation: Invocation) -> None:
    flags = invocation.flags
    backend = invocation.backend
    meant = flags.name or flags.swarm or os.environ.get("GOSSIPSWARM_SWARM")
    if flags.if_exists and not (backend.exists(meant) if meant else backend.list_swarms()):
        output.note("there is no such swarm; nothing to delete")
        return
    name = backend.select(meant)
    if not flags.yes:
        _confirm(backend, name)
    with progress.Waiting(f"deleting {name}"):
        left = backend.delete(name)
    invocation.output.line(f"swarm/{name} deleted")
    if left:
        output.note(left)


def _confirm(backend: Backend, name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"deleting {name} removes its data for good", "say so with --yes")
    what = "its processes and all its data"
    if backend.kind != "local":
        what = f"and all its agents, {backend.place}"
    sys.stderr.write(f"Delete swarm {name}, {what}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed("nothing was deleted")


COMMANDS = {
    "init": Command(
        _init,
        _init_arguments,
        """Create a swarm, start its supervisor in the background and select the swarm for later commands.
        Prints what was made as JSON.

        With --backend kubernetes, --context or --namespace, and as kubectl gossip, it creates a GossipSwarm in
        the cluster instead, by default one called gossip.

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
        _list,
        no_arguments,
        "List the swarms on this machine, running or not, or those of a namespace.",
        ("swarm list",),
    ),
    "apply": Command(
        _apply,
        _apply_arguments,
        """Create a swarm, or change it, so that it is what a GossipSwarm manifest says: the same YAML that
        kubectl apply takes. Applying it twice changes nothing. In a cluster SwarmConfig and SwarmPartition are
        taken, too.""",
        (
            "swarm apply -f examples/quickstart.yaml",
            "--namespace prod swarm apply -f examples/quickstart.yaml",
        ),
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
        """Stop every process of a swarm. Its data stays for swarm up. In a cluster every region gets no replicas,
        and the GossipSwarm remembers how many it had.""",
        ("swarm down",),
    ),
    "delete": Command(
        _delete,
        _delete_arguments,
        """Stop a swarm and delete all its data. Asks first, unless told --yes. In a cluster its volumes go or stay
        by its storage.retention.""",
        ("swarm delete demo --yes --if-exists",),
    ),
}

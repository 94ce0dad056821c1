"""How a swarm is, on one page."""

from __future__ import annotations

from typing import Any

from gossipctl import durations
from gossipctl.output import Output


def show_status(out: Output, status: dict[str, Any], *, verbose: bool) -> None:
    """A page about a swarm; ``verbose``: with its processes, agents and files."""
    counts = status["agent_counts"]
    active = sum(count["active"] for count in counts.values())
    declared = sum(count["declared"] for count in counts.values())
    page = {
        "swarm": status["swarm_id"],
        "status": status["status"],
        "agents": f"{active} active of {declared}, at most {status['max_agents']}",
        "topology": f"{status['topology']}, {status['protocol']}",
        "encryption": "on" if status["encryption"] else "off",
        "created": status["created_at"],
    }
    for name in ("namespace", "version"):
        if status.get(name):
            page[name] = status[name]
    out.document(page)
    out.line()
    out.table(
        ("region", "agents", "active"),
        [[region, count["declared"], count["active"]] for region, count in counts.items()],
    )
    if verbose:
        _show_details(out, status)


def _show_details(out: Output, status: dict[str, Any]) -> None:
    for partition in status["partitions"]:
        out.line()
        sides = " | ".join(",".join(side) for side in partition["groups"])
        ends = partition["remaining_ms"]
        left = f"ends in {durations.show(ends)}" if ends is not None else "until healed"
        out.line(f"{out.style('partitioned', 'red')}  {sides}  {left}")
    if "conditions" in status:
        _show_cluster(out, status)
    else:
        _show_processes(out, status)


def _show_cluster(out: Output, status: dict[str, Any]) -> None:
    """Conditions and pods."""
    if status["conditions"]:
        out.line()
        out.table(
            ("condition", "status", "reason", "message"),
            [
                [each[name] for name in ("type", "status", "reason", "message")]
                for each in status["conditions"]
            ],
        )
    if status["agents"]:
        out.line()
        out.table(
            ("agent", "region", "status", "node", "restarts", "error"),
            [
                [
                    agent[name]
                    for name in ("name", "region", "status", "worker", "restarts", "error")
                ]
                for agent in status["agents"]
            ],
        )


def _show_processes(out: Output, status: dict[str, Any]) -> None:
    out.line()
    out.table(
        ("process", "pid", "agents", "restarts", "cpu s"),
        [
            [
                worker["name"],
                worker["pid"],
                worker["agents"],
                worker["restarts"],
                worker.get("cpu_seconds"),
            ]
            for worker in status["workers"]
        ],
    )
    if status["agents"]:
        out.line()
        out.table(
            ("agent", "region", "status", "type", "process"),
            [
                [agent[name] for name in ("name", "region", "status", "type", "worker")]
                for agent in status["agents"]
            ],
        )
    out.line()
    out.line(f"{out.style('state', 'dim')}  {status['paths']['state']}")
    out.line(f"{out.style('logs', 'dim')}   {status['paths']['logs']}")

"""How a swarm is, on one page."""

from __future__ import annotations

from typing import Any

from gossipctl import durations
from gossipctl.output import Output


def show_status(out: Output, status: dict[str, Any], *, verbose: bool) -> None:
    """A page about a swarm; ``verbose``: with its processes, agents and files."""
    counts = status["agent_counts"]
    active = sum(count["active"] for count in counts.values())
    out.document(
        {
            "swarm": status["swarm_id"],
            "status": status["status"],
            "agents": f"{active} active of {len(status['agents'])}, at most {status['max_agents']}",
            "topology": f"{status['topology']}, {status['protocol']}",
            "encryption": "on" if status["encryption"] else "off",
            "created": status["created_at"],
        }
    )
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
